//! What servers may take an ambiguous path for.
//!
//! Servers decode escapes once, twice or in part, cut off path parameters (`;`) before or after that, take `\` for `/`, merge
//! slashes, and some look for a query or a fragment in what they decoded. Which of it the one behind us does, and in which
//! order, nobody knows here. So every path that some order leads to is found, and all of them are judged.

use std::collections::VecDeque;

use percent_encoding::percent_decode_str;

/// Escapes within escapes within escapes. Nobody's paths need more.
const DECODINGS_MAX: usize = 4;
/// More readings than this are nobody's file name: the path is refused.
const READINGS_MAX: usize = 32;

/// Every other path that a server may read `path` as, each once. `None` where one of them leads elsewhere than the path
/// seems to, or nowhere: where a segment becomes `.` or `..`, where there is a control byte, where escapes are no UTF-8,
/// where these are nested deeper than four, or where there are more than 32.
pub fn other_readings(path: &str) -> Option<Vec<String>> {
    if !is_decoded_soon(path) {
        return None;
    }
    let mut found = vec![path.to_owned()];
    let mut queue = VecDeque::from([path.to_owned()]);
    while let Some(path) = queue.pop_front() {
        let decoded = percent_decode_str(&path).decode_utf8().ok()?.into_owned();
        let ways = [
            decoded,
            decoded_where(&path, is_slash),
            decoded_where(&path, |byte| !is_slash(byte)),
            path.replace('\\', "/"),
            without_parameters(&path),
            path.split(['?', '#']).next().unwrap_or_default().to_owned(),
            merged(&path),
        ];
        for way in ways {
            if found.contains(&way) {
                continue;
            }
            if found.len() > READINGS_MAX || !is_plain(&way) {
                return None;
            }
            found.push(way.clone());
            queue.push_back(way);
        }
    }
    found.remove(0);
    Some(found)
}

fn is_decoded_soon(path: &str) -> bool {
    let mut decoded = path.to_owned();
    for _ in 0..DECODINGS_MAX {
        match percent_decode_str(&decoded).decode_utf8() {
            Ok(next) if next == decoded => return true,
            Ok(next) => decoded = next.into_owned(),
            Err(_no_text) => return false,
        }
    }
    false
}

/// From the root, in printable characters, and in the folder that it names. `\` as well as `/` ends a segment.
fn is_plain(path: &str) -> bool {
    let dots = |segment: &str| matches!(segment, "." | "..");
    path.starts_with('/')
        && !path.chars().any(char::is_control)
        && !path.split(['/', '\\', ';', '?', '#']).any(dots)
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// Decodes the escapes of ASCII characters that `which` says.
fn decoded_where(path: &str, which: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (plain, escape) = rest.split_at(at);
        out.push_str(plain);
        let byte = escape.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|byte| byte.is_ascii() && which(*byte)) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = escape.get(3..).unwrap_or_default();
            }
            None => {
                out.push('%');
                rest = escape.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

fn without_parameters(path: &str) -> String {
    let bare = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
    path.split('/').map(bare).collect::<Vec<_>>().join("/")
}

fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if !(character == '/' && out.ends_with('/')) {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_order_of_decoding_and_cutting_is_found() {
        for (path, expected) in [
            ("/files/a", vec![]),
            ("/files/a%2Fb", vec!["/files/a/b"]),
            ("/files/a%5cb", vec!["/files/a\\b", "/files/a/b"]),
            ("/files/a%252Fb", vec!["/files/a%2Fb", "/files/a/b"]),
            ("/files/a;v=1/b", vec!["/files/a/b"]),
            // Parameters before escapes, and escapes before parameters.
            ("/admin;%2Fx", vec!["/admin;/x", "/admin", "/admin/x"]),
            // A query that is none, and one that is.
            (
                "/docs/a%3F%2Fsecret",
                vec!["/docs/a?/secret", "/docs/a%3F/secret", "/docs/a?%2Fsecret", "/docs/a"],
            ),
            ("/a%23b", vec!["/a#b", "/a"]),
            ("/a%2F%2Fb", vec!["/a//b", "/a/b"]),
        ] {
            let mut found = other_readings(path).unwrap();
            let mut expected: Vec<String> = expected.into_iter().map(String::from).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn a_path_that_some_server_leads_elsewhere_has_no_readings() {
        for path in [
            "/files%2F..%2Fadmin",
            "/files/..%2Fadmin",
            "/files/..%252Fadmin",
            "/files/..;/admin",
            "/files/..%3B/admin",
            "/files/..%5cadmin",
            "/files/.%2Fa",
            "/files/a%3f%2f..%2f..%2fadmin",
            "/files/%2500",
            "/files/%c0%af",
            "/files/%25252525252525252525252525252525252525252525252525252525252525252525252541",
        ] {
            assert_eq!(other_readings(path), None, "{path}");
        }
    }

    proptest! {
        /// Whatever is done to a reading is a reading: there is none that nobody judged.
        #[test]
        fn readings_of_readings_are_readings(path in "/([a-z./\\\\;?#]|%2[fFeE5]|%5[cC]|%3[bBfF]|%23|%41){0,12}") {
            if let Some(found) = other_readings(&path) {
                prop_assert!(found.len() <= READINGS_MAX);
                for reading in &found {
                    prop_assert!(is_plain(reading));
                    for further in other_readings(reading).unwrap() {
                        prop_assert!(further == path || found.contains(&further), "{} of {}", further, reading);
                    }
                }
            }
        }

        #[test]
        fn no_path_panics(path in ".*") {
            let _readings = other_readings(&path);
        }
    }
}
