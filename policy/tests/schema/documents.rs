//! What the reader takes, the schemas take.

use std::collections::BTreeMap;

use palisade_policy::schema::{Subject, of};

use crate::corpus::{self, Source};
use crate::{JUDGE, Judge};

#[test]
fn every_document_of_the_repository_that_the_reader_takes_fits_its_schema() {
    let alone: BTreeMap<&str, Judge> =
        Subject::all().map(|subject| (subject.name(), Judge::new(of(subject)))).collect();
    let documents = &*corpus::ALL;
    for document in documents {
        let kind = document.json["kind"].as_str().unwrap();
        for judge in [&*JUDGE, &alone[kind]] {
            if let Some(complaint) = judge.complaint(&document.json) {
                panic!("{}: {}\n{complaint}", document.place, document.json);
            }
        }
    }
    let count = |source| documents.iter().filter(|document| document.source == source).count();
    let counts = [Source::File, Source::Page, Source::Test].map(count);
    println!("documents in files, pages and tests: {counts:?}");
    assert!(counts.iter().zip([50, 20, 100]).all(|(count, least)| *count >= least), "{counts:?}");
    for subject in Subject::all() {
        let is_one = |document: &&corpus::Document| document.json["kind"] == subject.name();
        assert!(documents.iter().any(|document| is_one(&document)), "no document is a {}", subject.name());
    }
}
