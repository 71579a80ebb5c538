//! Events of the YAML parser into trees, one per document, within limits.

use std::borrow::Cow;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

use super::limits::{DEPTH_MAX, NODES_MAX};
use super::node::{Entry, Mark, Node, Value};
use crate::finding::code;

/// One document of a file.
pub(crate) struct Document {
    pub(crate) root: Node,
    /// As written, without the separators.
    pub(crate) text: String,
}

/// Why a file cannot be read to its end.
pub(crate) struct YamlError {
    pub(crate) code: &'static str,
    pub(crate) mark: Mark,
    pub(crate) message: String,
    pub(crate) help: Option<&'static str>,
}

/// Reads the documents of a text. A document that breaks off ends the file; those before it are returned.
pub(crate) fn read(text: &str) -> (Vec<Document>, Option<YamlError>) {
    let mut reader = Reader {
        text,
        documents: Vec::new(),
        stack: Vec::new(),
        root: None,
        start: 0,
        nodes: 0,
        offsets: Offsets::new(text),
    };
    let mut parser = Parser::new_from_str(text);
    let error = reader.run(&mut parser).err();
    (reader.documents, error)
}

struct Reader<'t> {
    text: &'t str,
    documents: Vec<Document>,
    /// Collections that are open, outermost first.
    stack: Vec<Open>,
    root: Option<Node>,
    /// Where the document's text starts, in bytes.
    start: usize,
    nodes: usize,
    offsets: Offsets,
}

struct Open {
    mark: Mark,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<(String, Mark)> },
}

impl Reader<'_> {
    fn run<'t>(&mut self, parser: &mut Parser<'t, StrInput<'t>>) -> Result<(), YamlError> {
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|e| YamlError {
                code: code::SYNTAX,
                mark: mark(e.marker()),
                message: format!("this is not YAML: {}", e.info()),
                help: None,
            })?;
            self.event(event, span)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let at = mark(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => Ok(()),
            Event::DocumentStart(explicit) => {
                if explicit {
                    self.start = self.offsets.byte(span.end.index());
                }
                Ok(())
            }
            Event::DocumentEnd => {
                self.end_document(&span);
                Ok(())
            }
            Event::Alias(_) => Err(refused("aliases", at)),
            Event::Scalar(text, style, anchor, tag) => {
                plain_only(anchor, tag.is_some(), at)?;
                let text = Cow::into_owned(text);
                let value = match style {
                    ScalarStyle::Plain => Value::plain(text),
                    _ => Value::Text(text),
                };
                self.add(Node { mark: at, value })
            }
            Event::SequenceStart(anchor, tag) => {
                plain_only(anchor, tag.is_some(), at)?;
                self.open(at, Content::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                plain_only(anchor, tag.is_some(), at)?;
                self.open(at, Content::Mapping { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn open(&mut self, at: Mark, content: Content) -> Result<(), YamlError> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(too_large(at, format!("values are nested more than {DEPTH_MAX} deep")));
        }
        self.stack.push(Open { mark: at, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let value = match open.content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping { entries, .. } => Value::Mapping(entries),
        };
        self.add(Node { mark: open.mark, value })
    }

    /// Puts a finished node where it belongs: into the innermost open collection, or as the root.
    fn add(&mut self, node: Node) -> Result<(), YamlError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(too_large(node.mark, format!("the file has more than {NODES_MAX} values")));
        }
        match self.stack.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::Sequence(items)) => items.push(node),
            Some(Content::Mapping { entries, key }) => match key.take() {
                Some((key, mark)) => entries.push(Entry { key, mark, value: node }),
                None => *key = Some((key_text(node.value, node.mark)?, node.mark)),
            },
        }
        Ok(())
    }

    fn end_document(&mut self, span: &Span) {
        let end = self.offsets.byte(span.start.index()).max(self.start);
        if let Some(root) = self.root.take() {
            let text = self.text.get(self.start..end).unwrap_or_default();
            // Lines before the first are dropped, its indentation is not: it belongs to the value.
            let text = text.trim_start_matches(['\r', '\n']).trim_end();
            self.documents.push(Document { root, text: format!("{text}\n") });
        }
        self.start = self.offsets.byte(span.end.index());
    }
}

fn key_text(value: Value, mark: Mark) -> Result<String, YamlError> {
    match value {
        Value::Text(text) | Value::Number(text) => Ok(text),
        other => Err(YamlError {
            code: code::WRONG_TYPE,
            mark,
            message: format!("a key is a text, here it is {}", other.describe()),
            help: Some("put the key in quotes"),
        }),
    }
}

fn plain_only(anchor: usize, tagged: bool, at: Mark) -> Result<(), YamlError> {
    if anchor != 0 {
        return Err(refused("anchors", at));
    }
    if tagged {
        return Err(refused("tags", at));
    }
    Ok(())
}

fn refused(what: &str, mark: Mark) -> YamlError {
    YamlError {
        code: code::YAML_FEATURE,
        mark,
        message: format!("YAML {what} are not taken in policy documents"),
        help: Some("write the value out; quote it if it starts with '&', '*' or '!'"),
    }
}

fn too_large(mark: Mark, message: String) -> YamlError {
    YamlError { code: code::TOO_LARGE, mark, message, help: Some("split the file") }
}

fn mark(marker: &Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

/// From the parser's character offsets to byte offsets.
struct Offsets {
    /// Byte offset of each character; empty where the text is ASCII and both are the same.
    bytes: Vec<usize>,
    length: usize,
}

impl Offsets {
    fn new(text: &str) -> Self {
        let bytes =
            if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
        Self { bytes, length: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        if self.bytes.is_empty() {
            return character.min(self.length);
        }
        self.bytes.get(character).copied().unwrap_or(self.length)
    }
}
