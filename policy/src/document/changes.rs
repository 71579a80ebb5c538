//! What differs between two texts of one object, field by field.

use super::node::{Node, Value};
use super::{reader, yaml};

/// A field that one of two documents has otherwise than the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// `spec.rules[0].to[0].operation.methods`; of the newer document where both have it.
    pub path: String,
    /// What only the older has here: one value, or those of a list.
    pub removed: Vec<String>,
    /// What only the newer has here.
    pub added: Vec<String>,
}

/// The fields in which two documents differ, in the order of the newer one. Empty: they say the same, whatever their
/// layout and comments. What cannot be read as YAML counts as nothing.
pub fn changed_fields(old: &str, new: &str) -> Vec<FieldChange> {
    let root = |text: &str| yaml::read(text).0.into_iter().map(|document| document.root).next();
    let mut changes = Vec::new();
    match (root(old), root(new)) {
        (Some(old), Some(new)) => compare(&old, &new, "", &mut changes),
        (None, Some(new)) => changes.push(change("", Vec::new(), vec![written(&new)])),
        (Some(old), None) => changes.push(change("", vec![written(&old)], Vec::new())),
        (None, None) => {}
    }
    changes
}

fn compare(old: &Node, new: &Node, path: &str, changes: &mut Vec<FieldChange>) {
    match (&old.value, &new.value) {
        (Value::Mapping(before), Value::Mapping(after)) => {
            for entry in after {
                let at = reader::join(path, &entry.key);
                match before.iter().find(|e| e.key == entry.key) {
                    Some(old) => compare(&old.value, &entry.value, &at, changes),
                    None => changes.push(change(&at, Vec::new(), vec![written(&entry.value)])),
                }
            }
            for entry in before.iter().filter(|e| after.iter().all(|a| a.key != e.key)) {
                let at = reader::join(path, &entry.key);
                changes.push(change(&at, vec![written(&entry.value)], Vec::new()));
            }
        }
        (Value::Sequence(before), Value::Sequence(after)) => compare_lists(before, after, path, changes),
        _ => {
            let (old, new) = (written(old), written(new));
            if old != new {
                changes.push(change(path, vec![old], vec![new]));
            }
        }
    }
}

/// Items that both lists have are the same wherever they stand; of the others the first is compared with the first, and so
/// on. Lists of plain values are compared as sets.
fn compare_lists(before: &[Node], after: &[Node], path: &str, changes: &mut Vec<FieldChange>) {
    let mut gone: Vec<&Node> = before.iter().collect();
    let mut come = Vec::new();
    for (index, item) in after.iter().enumerate() {
        match gone.iter().position(|old| written(old) == written(item)) {
            Some(same) => drop(gone.remove(same)),
            None => come.push((index, item)),
        }
    }
    let nested = |node: &Node| matches!(node.value, Value::Mapping(_) | Value::Sequence(_));
    if !gone.iter().any(|node| nested(node)) && !come.iter().any(|(_, node)| nested(node)) {
        if !gone.is_empty() || !come.is_empty() {
            let removed = gone.iter().map(|node| written(node)).collect();
            changes.push(change(path, removed, come.iter().map(|(_, node)| written(node)).collect()));
        }
        return;
    }
    let mut gone = gone.into_iter();
    for (index, item) in come {
        let at = format!("{path}[{index}]");
        match gone.next() {
            Some(old) => compare(old, item, &at, changes),
            None => changes.push(change(&at, Vec::new(), vec![written(item)])),
        }
    }
    changes.extend(gone.map(|old| change(path, vec![written(old)], Vec::new())));
}

fn change(path: &str, removed: Vec<String>, added: Vec<String>) -> FieldChange {
    FieldChange { path: path.to_owned(), removed, added }
}

/// A value on one line. Texts that look like another type are quoted.
fn written(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.clone(),
        Value::Text(text) => match Value::plain(text.clone()) {
            Value::Text(_) if !text.contains([',', '[', ']', '{', '}', '\n', '"']) && text.trim() == text => {
                text.clone()
            }
            _ => format!("{text:?}"),
        },
        Value::Sequence(items) => {
            format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", "))
        }
        Value::Mapping(entries) => {
            let entry = |e: &super::node::Entry| format!("{}: {}", e.key, written(&e.value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(old: &str, new: &str) -> Vec<String> {
        let line = |c: FieldChange| format!("{}: -{:?} +{:?}", c.path, c.removed, c.added);
        changed_fields(old, new).into_iter().map(line).collect()
    }

    #[test]
    fn names_the_fields_that_differ_and_what_they_were() {
        let cases: [(&str, &str, &[&str]); 9] = [
            ("a: 1 # one\nb: x\n", "{b: 'x', a: 1}", &[]),
            ("a: {m: STRICT}", "a: {m: PERMISSIVE}", &[r#"a.m: -["STRICT"] +["PERMISSIVE"]"#]),
            ("a: [x, y]", "a: [y, z, w]", &[r#"a: -["x"] +["z", "w"]"#]),
            ("a: [x, y]", "a: [y, x]", &[]),
            ("a: [{b: 1}, {b: 2}]", "a: [{b: 2}, {b: 3}]", &[r#"a[1].b: -["1"] +["3"]"#]),
            ("a: [{b: 1}]", "a: [{b: 1}, {b: [c, d]}]", &[r#"a[1]: -[] +["{b: [c, d]}"]"#]),
            ("a: [{b: 1}, {b: 2}]", "a: [{b: 2}]", &[r#"a: -["{b: 1}"] +[]"#]),
            ("a: 1", "b: {c: 2}", &[r#"b: -[] +["{c: 2}"]"#, r#"a: -["1"] +[]"#]),
            ("a: 8080", "a: '8080'", &[r#"a: -["8080"] +["\"8080\""]"#]),
        ];
        for (old, new, expected) in cases {
            assert_eq!(shown(old, new), expected, "{old} -> {new}");
        }
    }
}
