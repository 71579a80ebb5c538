//! Typed reading of nodes. Whatever does not fit becomes a finding with its place; reading goes on, so that all
//! problems of a document are found in one go.
//!
//! Kinds see nodes only through these methods, and each says to a [`Recording`] what it asked for: that is what the
//! schemas for editors are made of.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::node::{Entry, Mark, Node, Value};
use super::recording::{Form, Recording};
use super::{duration, time};
use crate::finding::problem::did_you_mean;
use crate::finding::{Finding, Findings, Position, Severity, code};

/// Where findings of one document go.
pub(crate) struct Reader<'f> {
    pub(crate) file: &'f str,
    pub(crate) object: Option<String>,
    pub(crate) findings: &'f mut Findings,
    /// Where a schema is made: what is asked of each place.
    pub(super) recording: Option<&'f mut Recording>,
}

/// A mapping whose fields are taken one by one; what is left over is unknown.
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    pub(crate) path: String,
    pub(crate) mark: Mark,
    taken: Vec<&'static str>,
    /// Known, and never taken.
    refused: Vec<&'static str>,
}

/// A value and the path that leads to it.
#[derive(Clone)]
pub(crate) struct At<'n> {
    /// Not for kinds: what is read past the methods below no schema knows of.
    pub(super) node: &'n Node,
    pub(crate) path: String,
}

impl<'n> Fields<'n> {
    pub(crate) fn take(&mut self, name: &'static str) -> Option<At<'n>> {
        self.taken.push(name);
        self.find(name)
    }

    /// A field that the caller refuses with a finding of its own: no field of the mapping for anybody else.
    pub(crate) fn refused(&mut self, name: &'static str) -> Option<At<'n>> {
        self.refused.push(name);
        self.find(name)
    }

    fn find(&self, name: &str) -> Option<At<'n>> {
        let entry = self.entries.iter().find(|e| e.key == name)?;
        Some(At { node: &entry.value, path: join(&self.path, name) })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|e| e.key == name)
    }
}

impl At<'_> {
    pub(crate) fn mark(&self) -> Mark {
        self.node.mark
    }

    /// What stands here, without places. For what is read by the methods of the [`Reader`] too: no schema knows of this.
    pub(crate) fn json(&self) -> serde_json::Value {
        self.node.json()
    }

    pub(crate) fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::Sequence(items) if items.is_empty())
    }

    pub(crate) fn is_empty_mapping(&self) -> bool {
        matches!(&self.node.value, Value::Mapping(entries) if entries.is_empty())
    }
}

impl<'f> Reader<'f> {
    pub(crate) fn new(file: &'f str, findings: &'f mut Findings) -> Self {
        Self { file, object: None, findings, recording: None }
    }

    /// Says that a value of this form is taken here, whatever else is asked of it.
    fn takes(&mut self, at: &At<'_>, form: impl FnOnce() -> Form) {
        if let Some(recording) = &mut self.recording {
            recording.takes(&at.path, form());
        }
    }

    pub(crate) fn error(
        &mut self,
        code: &'static str,
        mark: Mark,
        path: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        let position = Some(Position { file: self.file.to_owned(), line: mark.line, column: mark.column });
        self.findings.push(Finding {
            code,
            severity: Severity::Error,
            position,
            object: self.object.clone(),
            path: path.to_owned(),
            message: message.into(),
            help,
        });
    }

    /// The fields of a mapping.
    pub(crate) fn mapping<'n>(&mut self, at: &At<'n>) -> Option<Fields<'n>> {
        match &at.node.value {
            Value::Mapping(entries) => {
                self.takes(at, || Form::Fields);
                let (path, mark) = (at.path.clone(), at.node.mark);
                Some(Fields { entries, path, mark, taken: Vec::new(), refused: Vec::new() })
            }
            _ => self.wrong_type(at, "a mapping", None),
        }
    }

    /// Reports every field that was not taken. `unsupported`: fields that Istio has, with what to do instead.
    pub(crate) fn finish(&mut self, fields: Fields<'_>, unsupported: &[(&str, &str)]) {
        if let Some(recording) = &mut self.recording {
            let fields_of = fields.taken.iter().map(|name| (*name, fields.has(name)));
            recording.fields(&fields.path, fields_of);
        }
        let known = |name: &str| fields.taken.contains(&name) || fields.refused.contains(&name);
        for entry in fields.entries.iter().filter(|e| !known(&e.key)) {
            let path = join(&fields.path, &entry.key);
            if let Some((_, help)) = unsupported.iter().find(|(name, _)| *name == entry.key) {
                let message = format!("the field {:?} is not taken by this version", entry.key);
                self.error(code::UNSUPPORTED_FIELD, entry.mark, &path, message, Some((*help).to_owned()));
                continue;
            }
            let message = format!("there is no field {:?} here", entry.key);
            let help = did_you_mean(&entry.key, fields.taken.iter().copied())
                .map(|near| format!("did you mean {near:?}?"))
                .or_else(|| {
                    (!fields.taken.is_empty()).then(|| format!("fields here: {}", fields.taken.join(", ")))
                });
            self.error(code::UNKNOWN_FIELD, entry.mark, &path, message, help);
        }
    }

    pub(crate) fn items<'n>(&mut self, at: &At<'n>) -> Vec<At<'n>> {
        match &at.node.value {
            Value::Sequence(items) => {
                self.takes(at, || Form::List);
                let item = |(i, node)| At { node, path: format!("{}[{i}]", at.path) };
                items.iter().enumerate().map(item).collect()
            }
            _ => {
                self.wrong_type::<()>(
                    at,
                    "a list",
                    Some("write each item on a line of its own after \"- \""),
                );
                Vec::new()
            }
        }
    }

    pub(crate) fn text(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.value {
            Value::Text(text) if text.is_empty() => {
                self.takes(at, || Form::Text);
                let help = Some("write a value, or leave the field out".to_owned());
                self.error(code::EMPTY_VALUE, at.mark(), &at.path, "the text is empty", help);
                None
            }
            Value::Text(text) => {
                self.takes(at, || Form::Text);
                Some(text.clone())
            }
            Value::Number(_) | Value::Bool(_) => {
                self.wrong_type(at, "a text", Some("put the value in quotes"))
            }
            _ => self.wrong_type(at, "a text", None),
        }
    }

    /// A text that may be empty.
    pub(crate) fn any_text(&mut self, at: &At<'_>) -> Option<String> {
        let text = match &at.node.value {
            Value::Text(text) if text.is_empty() => Some(String::new()),
            _ => self.text(at),
        };
        if text.is_some() {
            self.takes(at, || Form::AnyText);
        }
        text
    }

    pub(crate) fn texts(&mut self, at: Option<At<'_>>) -> Vec<String> {
        let Some(at) = at else { return Vec::new() };
        if at.is_empty_list() {
            self.error(code::EMPTY_LIST, at.mark(), &at.path, "an empty list constrains nothing", None);
            if let Some(last) = self.findings.0.last_mut() {
                last.severity = Severity::Warning;
                last.help = Some("leave the field out".into());
            }
        }
        self.items(&at).iter().filter_map(|item| self.text(item)).collect()
    }

    /// A mapping of texts, such as labels. Empty texts are values here.
    pub(crate) fn text_map(&mut self, at: Option<At<'_>>) -> BTreeMap<String, String> {
        let entries = at.map(|at| self.entries(&at)).unwrap_or_default();
        entries.into_iter().filter_map(|(key, at)| Some((key.to_owned(), self.any_text(&at)?))).collect()
    }

    /// The entries of a mapping whose keys are data, such as ports by number.
    pub(crate) fn entries<'n>(&mut self, at: &At<'n>) -> Vec<(&'n str, At<'n>)> {
        let Some(fields) = self.mapping(at) else { return Vec::new() };
        self.takes(at, || Form::Map);
        let entry = |e: &'n Entry| (e.key.as_str(), At { node: &e.value, path: join(&at.path, &e.key) });
        fields.entries.iter().map(entry).collect()
    }

    /// The same, where the keys are numbers of ports.
    pub(crate) fn entries_by_port<'n>(&mut self, at: &At<'n>) -> Vec<(u16, At<'n>)> {
        let entries = self.entries(at);
        self.takes(at, || Form::MapByPort);
        entries.into_iter().filter_map(|(key, at)| Some((self.port_text(key, &at)?, at))).collect()
    }

    /// Whatever stands here.
    pub(crate) fn anything<'n>(&mut self, at: &At<'n>) -> &'n Node {
        self.takes(at, || Form::Anything);
        at.node
    }

    /// `true` or `false`, without quotes.
    pub(crate) fn boolean(&mut self, at: &At<'_>) -> Option<bool> {
        match &at.node.value {
            Value::Bool(value) => {
                self.takes(at, || Form::Boolean);
                Some(*value)
            }
            _ => self.wrong_type(at, "true or false", Some("write it without quotes")),
        }
    }

    /// A port number, written as a number.
    pub(crate) fn port(&mut self, at: &At<'_>) -> Option<u16> {
        let Value::Number(text) = &at.node.value else {
            let help = matches!(at.node.value, Value::Text(_)).then_some("write the number without quotes");
            return self.wrong_type(at, "a number", help);
        };
        self.takes(at, || Form::Port);
        self.port_text(text, at)
    }

    fn port_text(&mut self, text: &str, at: &At<'_>) -> Option<u16> {
        let port = parse_port(text);
        if port.is_none() {
            let message = format!("{text:?} is no port; ports are 1 to 65535");
            self.error(code::BAD_PORT, at.mark(), &at.path, message, None);
        }
        port
    }

    /// A duration with units, such as `60s`.
    pub(crate) fn duration(&mut self, at: &At<'_>) -> Option<Duration> {
        let text = self.text(at)?;
        self.takes(at, || Form::Duration);
        let duration = duration::parse(&text);
        if duration.is_none() {
            let message = format!("{text:?} is no duration");
            let help = Some("a number and a unit: 500ms, 60s, 5m, 1h".to_owned());
            self.error(code::BAD_DURATION, at.mark(), &at.path, message, help);
        }
        duration
    }

    /// A moment, such as `2026-11-30T12:00:00Z`.
    pub(crate) fn time(&mut self, at: &At<'_>) -> Option<SystemTime> {
        let text = self.text(at)?;
        self.takes(at, || Form::Time);
        let time = time::parse(&text);
        if time.is_none() {
            let help = Some(
                "for example 2026-11-30T12:00:00Z, or with an offset: 2026-11-30T13:00:00+01:00".to_owned(),
            );
            self.error(code::BAD_TIME, at.mark(), &at.path, format!("{text:?} is no time"), help);
        }
        time
    }

    /// A whole number, not negative, written as a number.
    pub(crate) fn number(&mut self, at: &At<'_>) -> Option<u64> {
        let Value::Number(text) = &at.node.value else {
            let help = matches!(at.node.value, Value::Text(_)).then_some("write the number without quotes");
            return self.wrong_type(at, "a number", help);
        };
        self.takes(at, || Form::Number);
        let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        if number.is_none() {
            let message = format!("{text:?} is no whole number from 0 on");
            self.error(code::BAD_NUMBER, at.mark(), &at.path, message, None);
        }
        number
    }

    /// A share in percent, written as a number. As the document writes it: how exact it may be is the caller's.
    pub(crate) fn percent<'n>(&mut self, at: &At<'n>) -> Option<&'n str> {
        let Value::Number(text) = &at.node.value else { return None };
        self.takes(at, || Form::Percent);
        Some(text)
    }

    /// One of a few words. All that are taken have to be among them: a schema knows no others.
    pub(crate) fn choice<T: Copy>(&mut self, at: &At<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(at)?;
        self.takes(at, || Form::Words(words.iter().map(|(word, _)| (*word).to_owned()).collect()));
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known = || words.iter().map(|(word, _)| *word);
        let help = match did_you_mean(&text, known()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("one of {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.error(
            code::UNKNOWN_VALUE,
            at.mark(),
            &at.path,
            format!("{text:?} is not allowed here"),
            Some(help),
        );
        None
    }

    /// A field that cannot be left out.
    pub(crate) fn needed<'n>(
        &mut self,
        fields: &mut Fields<'n>,
        name: &'static str,
        help: &str,
    ) -> Option<At<'n>> {
        let at = fields.take(name);
        if at.is_none() {
            self.missing(fields, name, help);
        }
        at
    }

    pub(crate) fn missing(&mut self, fields: &Fields<'_>, name: &str, help: &str) {
        if let Some(recording) = &mut self.recording
            && !fields.has(name)
        {
            recording.missing(&fields.path, name, help);
        }
        let path = join(&fields.path, name);
        let message = format!("the field {name:?} is missing");
        self.error(code::MISSING_FIELD, fields.mark, &path, message, Some(help.to_owned()));
    }

    fn wrong_type<T>(&mut self, at: &At<'_>, expected: &str, help: Option<&str>) -> Option<T> {
        let message = format!("{expected} is expected, here stands {}", at.node.value.describe());
        let help = match at.node.value {
            Value::Null => Some("write a value, or leave the field out"),
            _ => help,
        };
        self.error(code::WRONG_TYPE, at.mark(), &at.path, message, help.map(Into::into));
        None
    }
}

/// Digits only, 1 to 65535: `+80`, `080` and ` 80` are not ports.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if digits { text.parse().ok() } else { None }
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
