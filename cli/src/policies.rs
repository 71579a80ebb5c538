//! What offline commands share: an accepted set, and requests as they are written on a command line.

use std::time::SystemTime;

use anyhow::{Result, bail};
use palisade_policy::document::Parsed;
use palisade_policy::kind::{Object, Spec};
use palisade_policy::policy_test::PolicyTest;
use palisade_policy::{Findings, PolicySet, document};
use palisade_proto::v1::GetResponse;
use serde_json::{Map, Value};

use crate::exit::Failure;
use crate::output::{Shown, print_findings};

/// What a malformed document means is anybody's guess: the set, or every error on stderr.
pub(crate) fn accepted(files: &[document::SourceFile]) -> Result<PolicySet, Failure> {
    accepted_with_tests(files).map(|(set, _tests)| set)
}

/// The same, and the PolicyTests.
pub(crate) fn accepted_with_tests(
    files: &[document::SourceFile],
) -> Result<(PolicySet, Vec<PolicyTest>), Failure> {
    let Parsed { objects, tests, findings, .. } = document::parse_all(files);
    Ok((settled(objects, findings, files)?, tests))
}

/// What the control plane holds, or held in a version. One by one: what a call may name at once is no limit for what is
/// stored.
pub(crate) fn stored(response: &GetResponse) -> Result<(PolicySet, Vec<document::SourceFile>), Failure> {
    let version = response.version;
    let files = response.objects.iter().map(|o| document::SourceFile {
        name: format!("<version {version} of {}/{}>", o.namespace, o.name),
        text: o.text.clone(),
    });
    let files: Vec<_> = files.collect();
    let (mut objects, mut findings) = (Vec::new(), Findings::default());
    for file in &files {
        let (found, more) = document::parse(std::slice::from_ref(file));
        objects.extend(found);
        findings.extend(more);
    }
    let set = settled(objects, findings, &files)?;
    Ok((set, files))
}

fn settled(
    objects: Vec<Object>,
    mut findings: Findings,
    files: &[document::SourceFile],
) -> Result<PolicySet, Failure> {
    let malformed = findings.has_errors();
    match PolicySet::new(objects, &[]) {
        Ok((set, _warnings)) if !malformed => return Ok(set),
        Ok((_, warnings)) => findings.extend(warnings),
        Err(errors) => findings.extend(errors),
    }
    let shown: Vec<Shown> = findings.0.iter().map(Shown::from).filter(Shown::is_error).collect();
    print_findings(&shown, files)?;
    Err(Failure::input_reported())
}

/// Whether a ServiceEntry has this host.
pub(crate) fn is_entry(set: &PolicySet, host: &str) -> bool {
    set.objects().iter().any(|object| match &object.spec {
        Spec::ServiceEntry(entry) => entry.hosts.iter().any(|known| known.eq_ignore_ascii_case(host)),
        _ => false,
    })
}

/// Claims of a token from `name=value` each.
pub(crate) fn claims(words: &[String]) -> Result<Map<String, Value>> {
    let mut claims = Map::new();
    for word in words {
        let Some((name, value)) = word.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!("the claim {word:?} is not of the form name=value; for example iss=https://auth.example");
        };
        let value = match serde_json::from_str(value) {
            Ok(Value::Null | Value::String(_)) | Err(_) => Value::String(value.to_owned()),
            Ok(value) => value,
        };
        if claims.insert(name.to_owned(), value).is_some() {
            bail!("the claim {name:?} is given twice; write several values as a list: {name}=[\"a\",\"b\"]");
        }
    }
    if !claims.contains_key("iss") {
        bail!("a token has an issuer; say which one: --claim iss=https://auth.example");
    }
    Ok(claims)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_texts_unless_they_are_json_of_another_type() {
        let words = |words: &[&str]| claims(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let read = words(&["iss=https://a/?x=1", "n=7", "t=true", "l=[\"a\"]", "null=null", "q=\"x\"", "e="])
            .unwrap();
        let expected = serde_json::json!({"iss": "https://a/?x=1", "n": 7, "t": true, "l": ["a"], "null": "null",
            "q": "\"x\"", "e": ""});
        assert_eq!(Value::Object(read), expected);
        for wrong in [&["sub=a"][..], &["iss"], &["=x"], &["iss=a", "iss=b"]] {
            assert!(words(wrong).is_err(), "{wrong:?}");
        }
    }
}
