//! What a reader takes, written as JSON Schema.

use serde_json::{Map, Value as Json, json};

use super::Subject;
use super::explore::{Explored, KEY, item};
use crate::document::reader::join;
use crate::document::recording::{Form, Place};
use crate::document::{duration, time};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Digits only, without a zero in front: 1 to 65535, but for the upper end.
const PORT_KEY: &str = "^[1-9][0-9]{0,4}$";

/// The schema of one kind's documents.
pub(super) fn document(subject: Subject, explored: &Explored) -> Json {
    let mut schema = schema(explored, "");
    set(&mut schema, "/$schema", json!(DIALECT));
    set(&mut schema, "/title", json!(subject.name()));
    set(&mut schema, "/description", json!(subject.purpose()));
    set(&mut schema, "/properties/kind", json!({ "const": subject.name() }));
    set(&mut schema, "/properties/apiVersion", json!({ "enum": subject.api_versions() }));
    if explored.spec_may_be_null {
        set(&mut schema, "/properties/spec/type", json!(["object", "null"]));
    }
    if let Some(Json::Array(required)) = schema.get_mut("required") {
        // A tool's document is told from others by its kind, so its reader does not ask for that.
        required.retain(|name| name != "kind");
        required.push(json!("kind"));
        required.extend((!explored.spec_may_be_absent).then(|| json!("spec")));
    }
    schema
}

fn set(schema: &mut Json, pointer: &str, value: Json) {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(fields) = schema.pointer_mut(parent).and_then(Json::as_object_mut) {
        fields.insert(key.to_owned(), value);
    }
}

/// One schema of several: chains of `if` and `then`, so that an editor shows the problems of the kind that is written and not
/// those of all others.
pub(super) fn any(schemas: impl Iterator<Item = (Subject, Json)>) -> Json {
    let (mut names, mut definitions, mut choices) = (Vec::new(), Map::new(), Vec::new());
    for (subject, mut schema) in schemas {
        let name = subject.name();
        if let Some(fields) = schema.as_object_mut() {
            fields.remove("$schema");
        }
        names.push(name);
        definitions.insert(name.to_owned(), schema);
        choices.push(json!({
            "if": { "properties": { "kind": { "const": name } }, "required": ["kind"] },
            "then": { "$ref": format!("#/$defs/{name}") },
        }));
    }
    json!({
        "$schema": DIALECT,
        "title": "Palisade",
        "description": "Any document that palisade reads.",
        "type": "object",
        "properties": { "apiVersion": { "type": "string" }, "kind": { "enum": names } },
        "required": ["apiVersion", "kind", "metadata"],
        "allOf": choices,
        "$defs": definitions,
    })
}

fn schema(explored: &Explored, path: &str) -> Json {
    let Some(place) = explored.places.get(path) else { return json!({}) };
    let mut forms: Vec<Json> = place.forms.iter().map(|form| of_form(explored, path, place, form)).collect();
    match forms.len() {
        0 => json!({}),
        1 => forms.remove(0),
        _ => json!({ "anyOf": forms }),
    }
}

fn of_form(explored: &Explored, path: &str, place: &Place, form: &Form) -> Json {
    let below = |path: &str| schema(explored, path);
    match form {
        Form::Anything => json!(true),
        Form::Text => json!({ "type": "string", "minLength": 1 }),
        Form::AnyText => json!({ "type": "string" }),
        Form::Words(words) => json!({ "type": "string", "enum": words }),
        Form::Duration => json!({ "type": "string", "minLength": 1, "pattern": duration::pattern() }),
        Form::Time => json!({ "type": "string", "minLength": 1, "pattern": time::PATTERN }),
        Form::Boolean => json!({ "type": "boolean" }),
        Form::Number => json!({ "type": "integer", "minimum": 0 }),
        Form::Port => json!({ "type": "integer", "minimum": 1, "maximum": u16::MAX }),
        Form::Percent => json!({ "type": "number", "minimum": 0, "maximum": 100 }),
        Form::List => json!({ "type": "array", "items": below(&item(path)) }),
        Form::Map => json!({ "type": "object", "additionalProperties": below(&join(path, KEY)) }),
        Form::MapByPort => json!({
            "type": "object",
            "propertyNames": { "pattern": PORT_KEY },
            "additionalProperties": below(&join(path, KEY)),
        }),
        Form::Fields => fields(explored, path, place),
    }
}

fn fields(explored: &Explored, path: &str, place: &Place) -> Json {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, field) in &place.fields {
        let mut property = schema(explored, &join(path, name));
        if let (Some(help), Some(property)) = (&field.help, property.as_object_mut()) {
            property.insert("description".to_owned(), json!(help));
        }
        if field.is_required() {
            required.push(json!(name));
        }
        properties.insert(name.clone(), property);
    }
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        set(&mut schema, "/required", json!(required));
    }
    schema
}
