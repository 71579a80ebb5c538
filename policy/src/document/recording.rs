//! What a reader asked for, by place: the raw material of schemas.
//!
//! A recording holds many readings of one kind. What single readings asked for is kept apart until each ends, since
//! within one reading the narrower question holds (a text, and one of these words), and among several any of them.

use std::collections::{BTreeMap, BTreeSet};

/// What a reader takes at a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Anything,
    /// At least one character.
    Text,
    AnyText,
    Words(Vec<String>),
    /// In units, such as `60s`.
    Duration,
    /// As RFC 3339 writes it.
    Time,
    Boolean,
    /// A whole number from 0 on.
    Number,
    Port,
    /// A number from 0 to 100, with decimals.
    Percent,
    List,
    /// A mapping whose keys are data.
    Map,
    MapByPort,
    /// A mapping whose fields have names.
    Fields,
}

/// One place of a document, such as `spec.rules[0].from`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Each is enough.
    pub(crate) forms: BTreeSet<Form>,
    /// Of a mapping, by name.
    pub(crate) fields: BTreeMap<String, Field>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field {
    /// What the reader says when it misses the field.
    pub(crate) help: Option<String>,
    /// Some reading had the mapping without the field and did not miss it.
    pub(crate) may_be_absent: bool,
}

impl Field {
    pub(crate) fn is_required(&self) -> bool {
        self.help.is_some() && !self.may_be_absent
    }
}

#[derive(Debug, Default)]
pub(crate) struct Recording {
    places: BTreeMap<String, Place>,
    /// Of the reading under way.
    forms: BTreeMap<String, BTreeSet<Form>>,
    missed: BTreeSet<String>,
    absent: BTreeSet<(String, String)>,
}

impl Recording {
    pub(crate) fn places(&self) -> &BTreeMap<String, Place> {
        &self.places
    }

    pub(super) fn takes(&mut self, path: &str, form: Form) {
        self.forms.entry(path.to_owned()).or_default().insert(form);
    }

    /// The fields that a mapping has, and whether each is written this time.
    pub(super) fn fields(&mut self, path: &str, fields: impl Iterator<Item = (&'static str, bool)>) {
        let place = self.places.entry(path.to_owned()).or_default();
        for (name, written) in fields {
            place.fields.entry(name.to_owned()).or_default();
            if !written {
                self.absent.insert((path.to_owned(), name.to_owned()));
            }
        }
    }

    pub(super) fn missing(&mut self, path: &str, name: &str, help: &str) {
        let field =
            self.places.entry(path.to_owned()).or_default().fields.entry(name.to_owned()).or_default();
        field.help.get_or_insert_with(|| help.to_owned());
        self.missed.insert(super::reader::join(path, name));
    }

    /// A reading is over.
    pub(crate) fn end_reading(&mut self) {
        for (path, forms) in std::mem::take(&mut self.forms) {
            self.places.entry(path).or_default().forms.extend(narrowest(forms));
        }
        let missed = std::mem::take(&mut self.missed);
        for (path, name) in std::mem::take(&mut self.absent) {
            let is_missed = missed.contains(&super::reader::join(&path, &name));
            if let Some(field) = self.places.get_mut(&path).and_then(|place| place.fields.get_mut(&name)) {
                field.may_be_absent |= !is_missed;
            }
        }
    }
}

/// Without the forms of which a narrower one was asked for in the same reading.
fn narrowest(mut forms: BTreeSet<Form>) -> BTreeSet<Form> {
    let asked = forms.clone();
    let is_narrowed = |form: &Form| match form {
        // That a text may be empty is asked for past the plain question.
        Form::Text => {
            asked.iter().any(|f| matches!(f, Form::AnyText | Form::Words(_) | Form::Duration | Form::Time))
        }
        Form::Fields => asked.iter().any(|f| matches!(f, Form::Map | Form::MapByPort)),
        Form::Map => asked.contains(&Form::MapByPort),
        _ => false,
    };
    forms.retain(|form| !is_narrowed(form));
    forms
}
