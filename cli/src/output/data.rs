//! Answers as a table, or as data for programs.

use serde_json::Value;

use super::printable;

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

impl Format {
    /// `table` and `data` have the same facts.
    pub(crate) fn render(
        self,
        table: impl FnOnce() -> String,
        data: impl FnOnce() -> Value,
    ) -> serde_json::Result<String> {
        match self {
            Self::Table => Ok(table()),
            Self::Json => serde_json::to_string_pretty(&data()),
            Self::Yaml => Ok(yaml(&data())),
        }
    }
}

/// YAML in blocks. Texts are written as JSON writes them where YAML could take them for something else.
pub(crate) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out.trim_end().to_owned()
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&format!("{indent}{}:", scalar(&Value::String(key.clone()))));
                child(value, depth + 1, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut text = String::new();
                block(item, depth + 1, &mut text);
                out.push_str(&format!("{indent}- {}", text.trim_start()));
            }
        }
        other => out.push_str(&format!("{indent}{}\n", scalar(other))),
    }
}

fn child(value: &Value, depth: usize, out: &mut String) {
    let nested = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        block(value, depth, out);
    } else {
        out.push_str(&format!(" {}\n", scalar(value)));
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        // What `printable` spells out has four digits here, as JSON and YAML know it.
        Value::String(_) => value.to_string().chars().map(escaped).collect(),
        other => other.to_string(),
    }
}

fn escaped(c: char) -> String {
    match printable(c.encode_utf8(&mut [0; 4])) {
        same if same.starts_with(c) => same,
        _ => format!("\\u{:04x}", u32::from(c)),
    }
}

/// Words, names, ids and paths that no reader of YAML takes for anything but a text.
fn is_plain(text: &str) -> bool {
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.:".contains(c))
        && !text.ends_with(':')
        && !reserved.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_blocks_and_quotes_what_could_mean_something_else() {
        let value = json!({
            "version": 4,
            "items": [{"name": "a", "tags": ["x", "no"], "at": "2026-11-30T00:00:00Z", "more": {"k": null}}, "1"],
            "none": [],
            "text": "a: \"b\"\nc",
        });
        let expected = "items:\n  - at: \"2026-11-30T00:00:00Z\"\n    more:\n      k: null\n    name: a\n    tags:\n      - \
                        x\n      - \"no\"\n  - \"1\"\nnone: []\ntext: \"a: \\\"b\\\"\\nc\"\nversion: 4";
        // Keys are in the order of their names.
        assert_eq!(yaml(&value), expected);
    }

    #[test]
    fn a_control_character_stays_escaped() {
        assert_eq!(yaml(&json!("\u{1b}[2J\u{202e}")), "\"\\u001b[2J\\u202e\"");
    }
}
