//! From YAML text to objects, with source positions.

pub mod changes;
pub mod duration;
pub(crate) mod envelope;
pub mod limits;
pub(crate) mod node;
pub(crate) mod reader;
pub(crate) mod recording;
pub mod time;
pub(crate) mod yaml;

use std::collections::HashMap;

pub use envelope::DEFAULT_NAMESPACE;
use envelope::Tool;

use crate::finding::problem::Problems;
use crate::finding::{Finding, Findings, Position, Severity, code};
use crate::kind::{self, Meta, Object};
use crate::policy_test::{self, PolicyTest};
use crate::rehearsal::{self, Rehearsal, Unfilled, Values};
use limits::{FILE_BYTES_MAX, FILES_MAX, FINDINGS_MAX};
use node::{Mark, Node, Value};
use reader::Reader;
use recording::Recording;

/// A text and where it came from.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As shown in findings: a path relative to what the operator named.
    pub name: String,
    pub text: String,
}

/// What files hold.
#[derive(Debug, Default)]
pub struct Parsed {
    pub objects: Vec<Object>,
    pub tests: Vec<PolicyTest>,
    pub rehearsals: Vec<Unfilled>,
    pub findings: Findings,
}

/// Reads every document of every file. All problems are returned together; objects that could be read are
/// returned beside them, so that a later stage can add its own findings. Documents of tools are checked and left out.
pub fn parse(files: &[SourceFile]) -> (Vec<Object>, Findings) {
    let Parsed { objects, findings, .. } = parse_all(files);
    (objects, findings)
}

/// The same, with PolicyTests and Rehearsals.
pub fn parse_all(files: &[SourceFile]) -> Parsed {
    let mut parsed = Parsed::default();
    if files.len() > FILES_MAX {
        let message = format!("{} files are given, at most {FILES_MAX} are taken", files.len());
        parsed.findings.push(plain(code::TOO_LARGE, None, message, Some("name fewer files".into())));
        return parsed;
    }
    for file in files {
        if parsed.findings.0.len() > FINDINGS_MAX {
            let message = format!("more than {FINDINGS_MAX} problems; the files from here on were not read");
            let position = position(&file.name, Mark { line: 1, column: 1 });
            parsed.findings.push(plain(code::TOO_LARGE, Some(position), message, None));
            break;
        }
        parse_file(file, &mut parsed);
    }
    parsed
}

fn parse_file(file: &SourceFile, parsed: &mut Parsed) {
    let findings = &mut parsed.findings;
    let start = Mark { line: 1, column: 1 };
    if file.text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes, at most {FILE_BYTES_MAX} are taken", file.text.len());
        let help = Some("split the file".into());
        findings.push(plain(code::TOO_LARGE, Some(position(&file.name, start)), message, help));
        return;
    }
    let (documents, error) = yaml::read(&file.text);
    for document in documents {
        // `---` with nothing after it is what generators leave behind.
        if matches!(document.root.value, Value::Null) {
            continue;
        }
        let mut reader = Reader::new(&file.name, findings);
        match Tool::of(&document.root) {
            Some(Tool::PolicyTest) => parsed.tests.extend(read_test(&mut reader, &document.root)),
            Some(Tool::Rehearsal) => parsed.rehearsals.extend(read_rehearsal(&mut reader, document.root)),
            None => parsed.objects.extend(read_object(&mut reader, &document.root, document.text)),
        }
    }
    if let Some(error) = error {
        let place = position(&file.name, error.mark);
        findings.push(plain(error.code, Some(place), error.message, error.help.map(Into::into)));
    }
}

fn read_object(reader: &mut Reader<'_>, root: &Node, text: String) -> Option<Object> {
    refuse_duplicate_keys(reader, root, "");
    let before = reader.findings.0.len();
    let empty = Node { mark: root.mark, value: Value::Mapping(Vec::new()) };
    let envelope = envelope::read(reader, root, &empty)?;
    let spec = kind::read(reader, envelope.kind, &envelope.spec)?;
    // Where the form is wrong, findings about the meaning would only repeat it.
    let malformed = reader.findings.0.iter().skip(before).any(|f| f.severity == Severity::Error);
    if !malformed {
        let mut problems = Problems::default();
        kind::check(&envelope.meta, &spec, &mut problems);
        let file = reader.file;
        let locate = |path: &str| Some(position(file, root.locate(path)));
        problems.place(reader.object.as_deref(), locate, reader.findings);
    }
    let place = Some(position(reader.file, root.mark));
    Some(Object { meta: envelope.meta, spec, position: place, text })
}

fn read_test(reader: &mut Reader<'_>, root: &Node) -> Option<PolicyTest> {
    refuse_duplicate_keys(reader, root, "");
    let empty = Node { mark: root.mark, value: Value::Mapping(Vec::new()) };
    let (meta, spec) = envelope::read_tool(reader, Tool::PolicyTest, root, &empty)?;
    let start = position(reader.file, root.mark);
    policy_test::read::read(reader, meta, &spec, start)
}

fn read_rehearsal(reader: &mut Reader<'_>, root: Node) -> Option<Unfilled> {
    refuse_duplicate_keys(reader, &root, "");
    let (meta, _) = play(reader, &root, None)?;
    let position = position(reader.file, root.mark);
    Some(Unfilled { meta, position, root })
}

/// Reads a Rehearsal with these values, or without any for its form alone.
fn play(reader: &mut Reader<'_>, root: &Node, values: Option<&Values>) -> Option<(Meta, Option<Rehearsal>)> {
    let empty = Node { mark: root.mark, value: Value::Mapping(Vec::new()) };
    let (meta, spec) = envelope::read_tool(reader, Tool::Rehearsal, root, &empty)?;
    let mut problems = Problems::default();
    let read = rehearsal::read::read(reader, meta.clone(), &spec, values, &mut problems);
    let file = reader.file;
    problems.place(reader.object.as_deref(), |path| Some(position(file, root.locate(path))), reader.findings);
    Some((meta, read))
}

/// A Rehearsal with values; all that is wrong where it cannot be played.
pub(crate) fn fill(unfilled: &Unfilled, values: &Values) -> Result<Rehearsal, Findings> {
    let mut findings = Findings::default();
    let mut reader = Reader::new(&unfilled.position.file, &mut findings);
    let read = play(&mut reader, &unfilled.root, Some(values)).and_then(|(_, read)| read);
    match read {
        Some(rehearsal) if !findings.has_errors() => Ok(rehearsal),
        _ => Err(findings),
    }
}

/// Reads the form of a document and tells `recording` what was asked of it. True: nothing is wrong with the form.
pub(crate) fn record(root: &Node, recording: &mut Recording) -> bool {
    let mut findings = Findings::default();
    let mut reader = Reader { recording: Some(recording), ..Reader::new("", &mut findings) };
    let empty = Node { mark: root.mark, value: Value::Mapping(Vec::new()) };
    match Tool::of(root) {
        Some(Tool::PolicyTest) => drop(read_test(&mut reader, root)),
        Some(Tool::Rehearsal) => drop(play(&mut reader, root, None)),
        None => {
            if let Some(envelope) = envelope::read(&mut reader, root, &empty) {
                kind::read(&mut reader, envelope.kind, &envelope.spec);
            }
        }
    }
    recording.end_reading();
    !findings.has_errors()
}

/// Where the fields of an object stand in its file.
#[derive(Debug)]
pub(crate) struct Places<'o> {
    object: &'o Object,
    /// Of the document's own text, which starts somewhere in the file.
    root: Option<Node>,
}

impl<'o> Places<'o> {
    pub(crate) fn new(object: &'o Object) -> Self {
        let root = yaml::read(&object.text).0.into_iter().map(|document| document.root);
        Self { object, root: root.into_iter().next() }
    }

    /// The place of a path such as `spec.rules[0]`, or of the longest part of it that exists.
    pub(crate) fn find(&self, path: &str) -> Option<Position> {
        let start = self.object.position.as_ref()?;
        let Some(root) = &self.root else { return Some(start.clone()) };
        let found = root.locate(path);
        // What stands on the first line of the document may have had `--- ` before it.
        let shift = match found.line == root.mark.line {
            true => start.column.saturating_sub(root.mark.column),
            false => 0,
        };
        let line = (start.line + found.line).saturating_sub(root.mark.line);
        Some(Position { file: start.file.clone(), line, column: found.column + shift })
    }
}

/// YAML leaves open which of two equal keys counts; readers differ, so neither does here.
fn refuse_duplicate_keys(reader: &mut Reader<'_>, node: &Node, path: &str) {
    match &node.value {
        Value::Mapping(entries) => {
            let mut seen: HashMap<&str, Mark> = HashMap::with_capacity(entries.len());
            for entry in entries {
                let at = reader::join(path, &entry.key);
                if let Some(first) = seen.insert(&entry.key, entry.mark) {
                    let message =
                        format!("the key {:?} is already written at line {}", entry.key, first.line);
                    let help = Some("keep one of the two".to_owned());
                    reader.error(code::DUPLICATE_KEY, entry.mark, &at, message, help);
                }
                refuse_duplicate_keys(reader, &entry.value, &at);
            }
        }
        Value::Sequence(items) => {
            for (i, item) in items.iter().enumerate() {
                refuse_duplicate_keys(reader, item, &format!("{path}[{i}]"));
            }
        }
        _ => {}
    }
}

fn position(file: &str, mark: Mark) -> Position {
    Position { file: file.to_owned(), line: mark.line, column: mark.column }
}

fn plain(code: &'static str, position: Option<Position>, message: String, help: Option<String>) -> Finding {
    Finding { code, severity: Severity::Error, position, object: None, path: String::new(), message, help }
}
