//! `${name}` in texts of a Rehearsal: addresses, process ids and lengths differ from one run to the next.

use std::collections::BTreeMap;

use crate::document::node::{Node, Value};
use crate::document::reader::{At, Reader};
use crate::finding::code;

/// What stands for which name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, String>);

impl FromIterator<(String, String)> for Values {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Values {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// How texts are read.
pub(super) struct Filling<'v> {
    /// `None`: only the form is looked at, and a text with a name that the document itself has no value for is passed
    /// over.
    pub(super) given: Option<&'v Values>,
    pub(super) own: Values,
}

impl Filling<'_> {
    /// A text with every `${name}` filled in. What is filled in is not looked at again.
    pub(super) fn text(&self, reader: &mut Reader<'_>, at: &At<'_>) -> Option<String> {
        let text = reader.text(at)?;
        self.filled(reader, at, &text)
    }

    pub(super) fn filled(&self, reader: &mut Reader<'_>, at: &At<'_>, text: &str) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((name, after)) = after.split_once('}').filter(|(name, _)| is_name(name)) else {
                let help = "write ${name}, of letters, digits, '.', '-' and '_'";
                refuse(reader, at, "${ begins no name of a value", help);
                return None;
            };
            let given = self.given.and_then(|given| given.get(name));
            match given.or_else(|| self.own.get(name)) {
                Some(value) => out.push_str(value),
                None if self.given.is_none() => return None,
                None => {
                    let help = format!("give it with --set {name}=VALUE, with --values, or in spec.values");
                    refuse(reader, at, format!("nothing is known to stand for ${{{name}}}"), help);
                    return None;
                }
            }
            rest = after;
        }
        out.push_str(rest);
        Some(out)
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=128).contains(&name.len()) && name.chars().all(good)
}

/// Whether any text below asks for a value of this name.
pub(super) fn asks_for(node: &Node, name: &str) -> bool {
    match &node.value {
        Value::Text(text) => text.contains(&format!("${{{name}}}")),
        Value::Sequence(items) => items.iter().any(|item| asks_for(item, name)),
        Value::Mapping(entries) => entries.iter().any(|entry| asks_for(&entry.value, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(super) fn refuse(
    reader: &mut Reader<'_>,
    at: &At<'_>,
    message: impl Into<String>,
    help: impl Into<String>,
) {
    reader.error(code::REHEARSAL, at.mark(), &at.path, message, Some(help.into()));
}
