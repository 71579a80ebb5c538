//! YAML as a tree that knows where everything stands.

use serde_json::{Number, Value as Json};

/// A place within one file. Counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) mark: Mark,
    pub(crate) value: Node,
}

impl Value {
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }

    /// A scalar written without quotes, by the core schema of YAML 1.2 (section 10.3.2).
    pub(crate) fn plain(text: String) -> Self {
        match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "true" | "True" | "TRUE" => Self::Bool(true),
            "false" | "False" | "FALSE" => Self::Bool(false),
            _ if is_number(&text) => Self::Number(text),
            _ => Self::Text(text),
        }
    }
}

impl Node {
    /// The same without places. A number that JSON cannot write is a text.
    pub(crate) fn json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(text) => {
                let float = || text.parse().ok().and_then(Number::from_f64);
                let number = text.parse::<i64>().ok().map(Number::from).or_else(float);
                number.map_or_else(|| Json::String(text.clone()), Json::Number)
            }
            Value::Text(text) => Json::String(text.clone()),
            Value::Sequence(items) => Json::Array(items.iter().map(Self::json).collect()),
            Value::Mapping(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.json())).collect())
            }
        }
    }

    /// The place of a path such as `spec.rules[0].to`, or of the longest part of it that exists.
    pub(crate) fn locate(&self, path: &str) -> Mark {
        let mut node = self;
        let mut rest = path;
        loop {
            let next = match &node.value {
                Value::Mapping(entries) => entries
                    .iter()
                    .filter_map(|e| Some((e, rest.strip_prefix(e.key.as_str())?)))
                    .find(|(_, tail)| tail.is_empty() || tail.starts_with(['.', '[']))
                    .map(|(e, tail)| (&e.value, tail)),
                Value::Sequence(items) => index(rest).and_then(|(i, tail)| Some((items.get(i)?, tail))),
                _ => None,
            };
            match next {
                Some((found, tail)) => {
                    node = found;
                    rest = tail.strip_prefix('.').unwrap_or(tail);
                }
                None => return node.mark,
            }
        }
    }
}

fn index(path: &str) -> Option<(usize, &str)> {
    let (number, tail) = path.strip_prefix('[')?.split_once(']')?;
    Some((number.parse().ok()?, tail))
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let starts = digits.strip_prefix('.').unwrap_or(digits).starts_with(|c: char| c.is_ascii_digit());
    let special = matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN");
    let hex =
        digits.strip_prefix("0x").is_some_and(|h| !h.is_empty() && h.chars().all(|c| c.is_ascii_hexdigit()));
    let octal = digits
        .strip_prefix("0o")
        .is_some_and(|o| !o.is_empty() && o.chars().all(|c| ('0'..='7').contains(&c)));
    special || hex || octal || (starts && digits.parse::<f64>().is_ok())
}
