//! Schemas for editors, held against the reader that they are made from.
#![expect(clippy::unwrap_used, reason = "test code")]

mod corpus;
mod documents;
mod fields;
mod mutated;

use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use palisade_policy::Findings;
use palisade_policy::document::{SourceFile, parse_all};
use palisade_policy::schema::of_all;
use serde_json::Value as Json;

/// A schema, ready to judge.
struct Judge {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Judge {
    /// Fails where the schema is none, by its own dialect.
    fn new(schema: Json) -> Self {
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource("schema.json", schema).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// What is wrong with a document.
    fn complaint(&self, document: &Json) -> Option<String> {
        self.schemas.validate(document, self.index).err().map(|error| format!("{error:#}"))
    }
}

/// The schema of all kinds, which most tests ask.
static JUDGE: LazyLock<Judge> = LazyLock::new(|| Judge::new(of_all()));

/// What the reader says of a document.
fn read(document: &Json) -> Findings {
    let text = document.to_string();
    parse_all(&[SourceFile { name: "test.yaml".into(), text }]).findings
}
