//! What holds for every rewrite and every request.

use palisade_policy::kind::MeshConfigSpec;
use palisade_policy::kind::mesh_config::{AmbiguousPaths, PathNormalization};
use palisade_policy::request::path::normalize;
use proptest::prelude::*;

use super::{edge_with, get};

/// Paths made of what is dangerous at a seam.
fn path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/"),
        Just("."),
        Just(".."),
        Just("a"),
        Just("files"),
        Just("%2e"),
        Just("%2f"),
        Just("%41"),
        Just(";"),
        Just("%5c"),
        Just("%"),
        Just("25"),
        Just("~"),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn mesh() -> impl Strategy<Value = MeshConfigSpec> {
    let modes = prop_oneof![
        Just(PathNormalization::None),
        Just(PathNormalization::Base),
        Just(PathNormalization::MergeSlashes),
        Just(PathNormalization::DecodeAndMergeSlashes),
    ];
    let ambiguous = prop_oneof![Just(AmbiguousPaths::Reject), Just(AmbiguousPaths::Keep)];
    (modes, ambiguous).prop_map(|(path_normalization, ambiguous_paths)| MeshConfigSpec {
        path_normalization,
        ambiguous_paths,
        ..MeshConfigSpec::default()
    })
}

const REWRITES: &[&str] = &[
    "match: [{uri: {prefix: /}}], rewrite: {uri: /data/}",
    "match: [{uri: {prefix: /files}}, {uri: {prefix: /}}], rewrite: {uri: /}",
    "match: [{uri: {prefix: /a}}, {uri: {regex: '/.*'}}], rewrite: {uri: /data}",
    "rewrite: {uri: /data}",
    "rewrite: {uriRegexRewrite: {match: files, rewrite: ''}}",
    r"rewrite: {uriRegexRewrite: {match: '^/([^/]*)(.*)$', rewrite: '\2/\1'}}",
    "rewrite: {uriRegexRewrite: {match: a, rewrite: ../}}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_rewritten_path_is_what_normalization_leaves_alone(
        asked in path(), mesh in mesh(), rewrite in prop::sample::select(REWRITES)
    ) {
        let Ok(judged) = normalize(&asked, mesh.path_normalization, mesh.ambiguous_paths) else { return Ok(()) };
        let snapshot = edge_with(&format!("{{{rewrite}, route: [{{destination: {{host: accounts}}}}]}}"));
        let asked = get(&judged);
        let route = asked.route(&snapshot).unwrap();
        let Ok(sent) = asked.view(|view| route.rewritten_path(view, &mesh).map(|p| p.into_owned())) else {
            return Ok(());
        };
        for mode in [PathNormalization::Base, mesh.path_normalization] {
            prop_assert_eq!(&*normalize(&sent, mode, mesh.ambiguous_paths).unwrap(), &*sent);
        }
        prop_assert!(!sent.starts_with("//") && !sent.contains(['?', '#', ' ']));
        prop_assert!(!sent.split('/').any(|segment| segment == "." || segment == ".."));
    }
}
