//! Path normalization: what holds in every mode, and what is refused before it. Istio's table: `istio/normalization.rs`.

use std::borrow::Cow;

use palisade_policy::kind::mesh_config::AmbiguousPaths::{Keep, Reject};
use palisade_policy::kind::mesh_config::PathNormalization::{
    self, Base, DecodeAndMergeSlashes, MergeSlashes, None as Off,
};
use palisade_policy::request::path::{PathError, normalize};
use proptest::prelude::*;

#[test]
fn leaves_plain_paths_alone_without_allocating() {
    for path in ["/", "/a", "/a/b.c/d~e", "/a/...", "/a/.hidden", "/v1/entries/", "/a:b@c!$&'()*+,="] {
        for mode in [Off, Base, MergeSlashes, DecodeAndMergeSlashes] {
            assert!(
                matches!(normalize(path, mode, Reject), Ok(Cow::Borrowed(same)) if same == path),
                "{path}"
            );
        }
    }
}

#[test]
fn resolves_dot_segments_at_the_edges() {
    let rows =
        [("/..", "/"), ("/.", "/"), ("/a/..", "/"), ("/a/.", "/a/"), ("/a/b/..", "/a/"), ("/../../x", "/x")];
    for (path, expected) in rows {
        assert_eq!(normalize(path, Base, Reject).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn decodes_at_most_once() {
    assert_eq!(normalize("/%252e%252e/admin", Base, Keep).as_deref(), Ok("/%252e%252e/admin"));
    assert_eq!(normalize("/%252fadmin", DecodeAndMergeSlashes, Keep).as_deref(), Ok("/%252fadmin"));
}

#[test]
fn refuses_what_two_servers_may_read_differently() {
    let paths = [
        "/x%2F..%2Fadmin",
        "/%2fadmin",
        "/%5Cadmin",
        "/admin;x",
        "/admin;a=b/",
        "/;x/admin",
        "/admin%3bx",
        "/public%3F/../admin",
        "/a%23b",
        "/a%25b",
        "/%252e%252e/admin",
        "/a%0d%0ab",
        "/a%7f",
        "/%c0%afadmin",
        "/%c0%ae%c0%ae/admin",
        "/%ff",
        "/%e2%28%a1",
    ];
    for path in paths {
        for mode in [Off, Base, MergeSlashes, DecodeAndMergeSlashes] {
            assert_eq!(normalize(path, mode, Reject), Err(PathError::Ambiguous), "{path}");
            assert!(normalize(path, mode, Keep).is_ok(), "{path}");
        }
    }
    assert!(normalize("/caf%C3%A9", Base, Reject).is_ok());
}

#[test]
fn refuses_malformed_paths_in_every_mode() {
    let rows = [
        ("", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("admin", PathError::NotAbsolute),
        ("http://x/admin", PathError::NotAbsolute),
        ("/admin%00", PathError::Malformed),
        ("/admin#x", PathError::Malformed),
        ("/a%", PathError::Malformed),
        ("/a%2", PathError::Malformed),
        ("/a%zz", PathError::Malformed),
        ("/a%+1", PathError::Malformed),
        ("/a b", PathError::Malformed),
        ("/a\tb", PathError::Malformed),
        ("/a\0", PathError::Malformed),
        ("/é", PathError::Malformed),
    ];
    for (path, error) in rows {
        for ambiguous in [Reject, Keep] {
            assert_eq!(normalize(path, Base, ambiguous), Err(error), "{path:?}");
        }
    }
}

fn modes() -> impl Strategy<Value = PathNormalization> {
    prop_oneof![Just(Off), Just(Base), Just(MergeSlashes), Just(DecodeAndMergeSlashes)]
}

proptest! {
    #[test]
    fn never_panics(path in ".*", mode in modes()) {
        let _outcome = normalize(&path, mode, Keep);
    }

    /// A second proxy on the way sees what the first one judged.
    #[test]
    fn accepted_paths_are_normal_already_the_second_time(path in "/[a-c./%2eE0\\\\;]{0,24}", mode in modes()) {
        if let Ok(once) = normalize(&path, mode, Reject) {
            let twice = normalize(&once, mode, Reject);
            prop_assert_eq!(twice.as_deref(), Ok(&*once));
        }
    }

    #[test]
    fn no_dot_segment_survives(path in "/[a-c./%2eE\\\\]{0,24}", ambiguous in prop_oneof![Just(Reject), Just(Keep)]) {
        if let Ok(normal) = normalize(&path, Base, ambiguous) {
            prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."), "{}", normal);
        }
    }
}
