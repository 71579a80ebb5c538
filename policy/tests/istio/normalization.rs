//! Paths in Istio's four modes. Ambiguous paths are kept here, as Istio keeps them; that we refuse them by default is in
//! `tests/path.rs`.

use palisade_policy::kind::mesh_config::AmbiguousPaths::Keep;
use palisade_policy::kind::mesh_config::PathNormalization::{
    self, Base, DecodeAndMergeSlashes, MergeSlashes, None as Off,
};
use palisade_policy::request::path::{PathError, normalize};
use serde::Deserialize;

use super::{data, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "istio")]
    _source: String,
    /// What the columns of `all` are.
    modes: [String; 5],
    all: Vec<[String; 5]>,
    decode: Vec<(String, String)>,
    decode_same: Vec<String>,
    refused: Vec<String>,
}

#[track_caller]
fn check(path: &str, mode: PathNormalization, expected: &str) {
    assert_eq!(normalize(path, mode, Keep).as_deref(), Ok(expected), "{path} {mode:?}");
}

#[test]
fn paths_come_out_as_in_istios_own_test_in_each_of_its_four_modes() {
    let table: Table = read(&data().join("normalization.json"));
    assert_eq!(table.modes, ["path", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]);
    let mut cases = 0;
    for [path, none, base, merged, decoded] in &table.all {
        let modes = [(Off, none), (Base, base), (MergeSlashes, merged), (DecodeAndMergeSlashes, decoded)];
        for (mode, expected) in modes {
            check(path, mode, expected);
            cases += 1;
        }
    }
    for (path, expected) in &table.decode {
        check(path, DecodeAndMergeSlashes, expected);
        cases += 1;
    }
    for path in &table.decode_same {
        check(path, DecodeAndMergeSlashes, path);
        cases += 1;
    }
    for path in &table.refused {
        assert_eq!(normalize(path, DecodeAndMergeSlashes, Keep), Err(PathError::Malformed), "{path}");
        cases += 1;
    }
    for byte in 1..=u8::MAX {
        let path = format!("/admin%{byte:02x}");
        let expected = match byte {
            b'/' | b'\\' => "/admin/".to_owned(),
            b'-' | b'.' | b'_' | b'~' => format!("/admin{}", char::from(byte)),
            letter if letter.is_ascii_alphanumeric() => format!("/admin{}", char::from(letter)),
            _ => path.clone(),
        };
        check(&path, DecodeAndMergeSlashes, &expected);
        cases += 1;
    }
    println!("{cases} cases of normalization");
    assert_eq!(cases, 341);
}
