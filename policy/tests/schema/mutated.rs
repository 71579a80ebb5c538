//! Documents of the repository, changed at random: the schema refuses nothing that the reader takes, and refuses what is
//! wrong with their form.

use std::sync::LazyLock;

use palisade_policy::finding::code;
use palisade_policy::{Finding, Severity};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value as Json, json};

use crate::{JUDGE, corpus, read};

static CORPUS: LazyLock<Vec<Json>> = LazyLock::new(|| {
    let mut documents: Vec<Json> = corpus::ALL.iter().map(|document| document.json.clone()).collect();
    documents.sort_by_key(Json::to_string);
    documents.dedup();
    documents
});

/// One change of a document.
#[derive(Clone, Debug)]
enum Change {
    Remove,
    Put(Json),
    /// Something else from the repository stands here.
    Graft(Index, Index),
    /// A field of the mapping goes by the name of a field of another.
    Rename(Index, Index),
    Add(Index, Index, Json),
}

fn values() -> impl Strategy<Value = Json> {
    let words =
        ["STRICT", "ALLOW", "CUSTOM", "NONE", "TLS_AUTO", "PASSTHROUGH", "mesh", "DNS", "token", "GET"];
    let texts = ["", "x", "60s", "1h30m", "60", "80", "0", "a.b", "/a", "{}"];
    let numbers =
        [json!(0), json!(1), json!(80), json!(-1), json!(70000), json!(1.5), json!(100.5), json!(1e30)];
    let others =
        [json!(null), json!(true), json!([]), json!({}), json!(["x"]), json!([80]), json!({"x": "y"})];
    let texts = words.into_iter().chain(texts).map(|text| json!(text));
    select(texts.chain(numbers).chain(others).collect::<Vec<Json>>())
}

fn change() -> impl Strategy<Value = (Index, Change)> {
    let index = any::<Index>;
    let change = prop_oneof![
        Just(Change::Remove),
        values().prop_map(Change::Put),
        (index(), index()).prop_map(|(document, place)| Change::Graft(document, place)),
        (index(), index()).prop_map(|(document, place)| Change::Rename(document, place)),
        (index(), index(), values()).prop_map(|(document, place, value)| Change::Add(document, place, value)),
    ];
    (index(), change)
}

/// Every place but the document itself: its mapping or list, by pointer, and the key in it.
fn places(json: &Json, pointer: &str) -> Vec<(String, String)> {
    let below = |key: String, value: &Json| {
        let escaped = key.replace('~', "~0").replace('/', "~1");
        let mut found = vec![(pointer.to_owned(), key)];
        found.extend(places(value, &format!("{pointer}/{escaped}")));
        found
    };
    match json {
        Json::Object(fields) => fields.iter().flat_map(|(key, value)| below(key.clone(), value)).collect(),
        Json::Array(items) => {
            items.iter().enumerate().flat_map(|(i, value)| below(i.to_string(), value)).collect()
        }
        _ => Vec::new(),
    }
}

fn value_at<'j>(parent: &'j mut Json, key: &str) -> Option<&'j mut Json> {
    match parent {
        Json::Object(fields) => fields.get_mut(key),
        Json::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    }
}

fn apply(document: &mut Json, place: &Index, change: &Change) {
    let found = places(document, "");
    if found.is_empty() {
        return;
    }
    let (pointer, key) = place.get(&found).clone();
    let parent = document.pointer_mut(&pointer).unwrap();
    let elsewhere = |document: &Index, place: &Index| {
        let mut other = document.get(&CORPUS).clone();
        let (pointer, key) = place.get(&places(&other, "")).clone();
        let value = value_at(other.pointer_mut(&pointer).unwrap(), &key).unwrap().take();
        (key, value)
    };
    match (change, parent) {
        (Change::Remove, Json::Object(fields)) => drop(fields.remove(&key)),
        (Change::Remove, Json::Array(items)) => drop(items.remove(key.parse().unwrap())),
        (Change::Put(value), parent) => *value_at(parent, &key).unwrap() = value.clone(),
        (Change::Graft(other, place), parent) => *value_at(parent, &key).unwrap() = elsewhere(other, place).1,
        (Change::Rename(other, place), Json::Object(fields)) => {
            let value = fields.remove(&key).unwrap();
            fields.insert(elsewhere(other, place).0, value);
        }
        (Change::Add(other, place, value), Json::Object(fields)) => {
            fields.insert(elsewhere(other, place).0, value.clone());
        }
        _ => {}
    }
}

/// Wrong in itself, whatever the rest of the document says.
fn is_of_form(finding: &Finding) -> bool {
    let by_reader = match finding.code {
        code::UNKNOWN_FIELD | code::WRONG_TYPE | code::UNKNOWN_KIND | code::UNKNOWN_API_VERSION => true,
        code::UNKNOWN_VALUE => finding.message.ends_with("is not allowed here"),
        code::EMPTY_VALUE => finding.message == "the text is empty",
        // Depends on what stands beside it: the scope, or `idempotent`.
        code::MISSING_FIELD => {
            let beside = [".onStoreFailure", ".idempotencyKey"];
            finding.message.starts_with("the field ") && !beside.iter().any(|end| finding.path.ends_with(end))
        }
        _ => false,
    };
    by_reader && finding.severity == Severity::Error
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn a_schema_refuses_what_the_reader_refuses_and_nothing_else(
        document in any::<Index>(),
        changes in proptest::collection::vec(change(), 1..4),
    ) {
        let mut document = document.get(&CORPUS).clone();
        for (place, change) in &changes {
            apply(&mut document, place, change);
        }
        let findings = read(&document);
        let complaint = JUDGE.complaint(&document);
        if let Some(complaint) = &complaint {
            prop_assert!(findings.has_errors(), "the reader takes {document}\n{complaint}");
        }
        if findings.0.iter().any(is_of_form) {
            prop_assert!(complaint.is_some(), "the schema takes {document}\n{findings}");
        }
    }
}
