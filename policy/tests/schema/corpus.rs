//! Every document in the repository that the reader takes: files, blocks in pages, texts in tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use palisade_policy::document::{SourceFile, parse_all};
use palisade_policy::schema::instances;
use serde_json::Value as Json;

/// Where documents stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File,
    Page,
    Test,
}

pub(crate) struct Document {
    pub(crate) source: Source,
    pub(crate) place: String,
    pub(crate) json: Json,
}

pub(crate) static ALL: LazyLock<Vec<Document>> = LazyLock::new(all);

fn all() -> Vec<Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut documents = Vec::new();
    for path in files(root) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let (source, texts) = match path.extension().and_then(|ending| ending.to_str()) {
            Some("yaml" | "yml") => (Source::File, vec![text]),
            Some("md") => (Source::Page, blocks(&text)),
            _ => (Source::Test, literals(&text)),
        };
        let place = path.strip_prefix(root).unwrap().display().to_string();
        let jsons = texts.iter().flat_map(|text| taken(text));
        documents.extend(jsons.map(|json| Document { source, place: place.clone(), json }));
    }
    documents
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with("target") && !name.starts_with('.') {
                found.extend(files(&path));
            }
        } else if [".yaml", ".yml", ".md", ".rs"].iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found
}

/// The documents of a text if all are taken, else those that are taken alone.
fn taken(text: &str) -> Vec<Json> {
    let read = |text: &str| parse_all(&[SourceFile { name: "test.yaml".into(), text: text.into() }]);
    let whole = read(text);
    if whole.objects.is_empty() && whole.tests.is_empty() && whole.rehearsals.is_empty() {
        return Vec::new();
    }
    let texts = match whole.findings.has_errors() {
        false => vec![text.to_owned()],
        true => whole.objects.into_iter().map(|object| object.text).collect(),
    };
    let good = texts.iter().filter(|text| !read(text).findings.has_errors());
    good.flat_map(|text| instances(text)).filter(|json| !json.is_null()).collect()
}

/// What stands between fences of YAML.
fn blocks(page: &str) -> Vec<String> {
    let parts = page.split("```yaml\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// String literals of Rust, with their escapes read. Not exact: what is no document is dropped later.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let before = &rest[..at];
        let raw = before.len() - before.trim_end_matches('#').len();
        let is_raw = before.trim_end_matches('#').ends_with('r');
        rest = &rest[at..];
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(tail) = rest.strip_prefix("'\"'").or_else(|| rest.strip_prefix("'\\\"'")) {
            rest = tail;
        } else if !rest.starts_with('"') {
            rest = &rest[1..];
        } else if is_raw {
            let end = format!("\"{}", "#".repeat(raw));
            let (text, tail) = rest[1..].split_once(&end).unwrap_or(("", ""));
            found.push(text.to_owned());
            rest = tail;
        } else {
            let (text, tail) = unescape(&rest[1..]);
            found.push(text);
            rest = tail;
        }
    }
    found
}

/// Up to the quote that ends the literal.
fn unescape(code: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = code.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, &code[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((at, '\n')) => {
                    let indent = code[at + 1..].len() - code[at + 1..].trim_start().len();
                    for _ in 0..code[at + 1..][..indent].chars().count() {
                        chars.next();
                    }
                }
                Some((_, c)) => text.push(c),
                None => break,
            },
            c => text.push(c),
        }
    }
    (text, "")
}
