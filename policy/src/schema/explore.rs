//! Finds out what a reader takes, by reading documents made for that.
//!
//! What a reader asks of a place may depend on what stands there and beside it. So each place that is known is tried with a
//! value of every type, with each of its words, and as a mapping with each of its fields alone and with all but that; and
//! each of these once with everything around it that is known, and once with no more than is required. What is asked
//! for only beside a certain word is tried beside that word from then on. It is over when nothing new is asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::Subject;
use crate::document::node::{Entry, Mark, Node, Value};
use crate::document::reader::join;
use crate::document::record;
use crate::document::recording::{Form, Place, Recording};

/// A key of mappings whose keys are data. It is a port too.
pub(super) const KEY: &str = "80";

const SPEC: &str = "spec";

/// All that a reader takes of one kind.
#[derive(Debug)]
pub(super) struct Explored {
    pub(super) places: BTreeMap<String, Place>,
    pub(super) spec_may_be_absent: bool,
    pub(super) spec_may_be_null: bool,
}

pub(super) fn explore(subject: Subject) -> Explored {
    let mut explorer = Explorer { subject, recording: Recording::default(), beside: BTreeMap::new() };
    explorer.start();
    let mut planned: BTreeMap<String, Option<Place>> = BTreeMap::new();
    loop {
        let places = explorer.recording.places().clone();
        let paths = paths(&places);
        let changed = |path: &&String| planned.get(*path) != Some(&places.get(*path).cloned());
        let changed: Vec<String> = paths.iter().filter(changed).cloned().collect();
        let everything = changed.is_empty();
        for path in if everything { paths } else { changed } {
            explorer.try_out(&path, places.get(&path));
            if everything {
                explorer.try_words(&path, places.get(&path));
            }
            planned.insert(path.clone(), places.get(&path).cloned());
        }
        if everything && places == *explorer.recording.places() {
            break;
        }
    }
    Explored {
        spec_may_be_absent: explorer.read("", &Put::Without(SPEC)),
        spec_may_be_null: explorer.read(SPEC, &Put::Value(Value::Null)),
        places: explorer.recording.places().clone(),
    }
}

/// Every place that is known, and those below that were not looked at yet.
fn paths(places: &BTreeMap<String, Place>) -> Vec<String> {
    let mut paths: Vec<String> = places.keys().cloned().collect();
    for (path, place) in places {
        paths.extend(place.fields.keys().map(|name| join(path, name)));
        for form in &place.forms {
            match form {
                Form::List => paths.push(item(path)),
                Form::Map | Form::MapByPort => paths.push(join(path, KEY)),
                _ => {}
            }
        }
    }
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The place of a list's items.
pub(super) fn item(path: &str) -> String {
    format!("{path}[0]")
}

/// What stands at the place that is tried.
enum Put<'p> {
    Value(Value),
    /// A mapping with this field, or without it.
    Only(&'p str),
    Without(&'p str),
}

struct Explorer {
    subject: Subject,
    recording: Recording,
    /// Places that were found beside a word, and where that stands.
    beside: BTreeMap<String, (String, String)>,
}

/// A document in the making.
struct Plan<'p> {
    focus: &'p str,
    put: &'p Put<'p>,
    /// What stands where nobody knows yet what is taken.
    unknown: &'p Value,
    /// Around the place that is tried stands all that is known, not only what is required.
    whole: bool,
}

/// Whether a place is another one or lies below it.
fn is_in(place: &str, other: &str) -> bool {
    let below = |rest: &str| rest.is_empty() || other.is_empty() || rest.starts_with(['.', '[']);
    place.strip_prefix(other).is_some_and(below)
}

impl Explorer {
    /// A document that says no more than what it is: the names of the outermost fields.
    fn start(&mut self) {
        let kind = Entry { key: "kind".to_owned(), mark: MARK, value: node(text(self.subject.name())) };
        self.read("", &Put::Value(Value::Mapping(vec![kind])));
    }

    fn try_out(&mut self, path: &str, place: Option<&Place>) {
        // What the document is stays as it is, or another kind would be read.
        if path == "kind" || path == "apiVersion" {
            return;
        }
        if !path.is_empty() {
            for value in anything() {
                self.read(path, &Put::Value(value));
            }
        }
        let Some(place) = place else { return };
        for name in place.fields.keys() {
            self.read(path, &Put::Only(name));
            self.read(path, &Put::Without(name));
        }
    }

    /// Last of all, when nothing is left to be found in another way.
    fn try_words(&mut self, path: &str, place: Option<&Place>) {
        for form in place.iter().flat_map(|place| &place.forms) {
            if let Form::Words(words) = form {
                words.iter().for_each(|word| self.try_word(path, word));
            }
        }
    }

    fn try_word(&mut self, path: &str, word: &str) {
        let known: BTreeSet<String> = self.recording.places().keys().cloned().collect();
        for unknown in anything() {
            let put = Put::Value(text(word));
            let root = self.node("", &Plan { focus: path, put: &put, unknown: &unknown, whole: true });
            record(&root, &mut self.recording);
        }
        for found in self.recording.places().keys().filter(|found| !known.contains(*found)) {
            self.beside.insert(found.clone(), (path.to_owned(), word.to_owned()));
        }
    }

    /// Whether the smaller of the two documents is taken.
    fn read(&mut self, focus: &str, put: &Put<'_>) -> bool {
        let [_, small] = [true, false].map(|whole| {
            let root = self.node("", &Plan { focus, put, unknown: &Value::Null, whole });
            record(&root, &mut self.recording)
        });
        small
    }

    /// The words that have to stand somewhere for the place that is tried to be read at all.
    fn needed<'e>(&'e self, plan: &'e Plan<'_>) -> impl Iterator<Item = &'e (String, String)> {
        self.beside.iter().filter(|(place, _)| is_in(plan.focus, place)).map(|(_, needed)| needed)
    }

    fn node(&self, path: &str, plan: &Plan<'_>) -> Node {
        let wanted = match plan.put {
            _ if path != plan.focus => None,
            Put::Value(value) => return node(value.clone()),
            Put::Only(name) => Some((*name, true)),
            Put::Without(name) => Some((*name, false)),
        };
        match path {
            "kind" => return node(text(self.subject.name())),
            "apiVersion" => return node(text(self.subject.api_versions().first().map_or("", |v| v))),
            _ => {}
        }
        if let Some((_, word)) = self.needed(plan).find(|(at, _)| at == path) {
            return node(text(word));
        }
        let Some(place) = self.recording.places().get(path) else { return node(plan.unknown.clone()) };
        let on_the_way = path != plan.focus && is_in(plan.focus, path);
        let is_written = |(name, required): (&str, bool)| match wanted {
            // Without it, this would be a document of another kind.
            _ if path.is_empty() && name == "kind" => true,
            Some((only, true)) => name == only,
            Some((without, false)) => name != without,
            None => {
                let below = join(path, name);
                let leads = plan.whole || is_in(plan.focus, &below);
                required || (on_the_way && leads) || self.needed(plan).any(|(at, _)| is_in(at, &below))
            }
        };
        let is_list = plan.focus.starts_with(&format!("{path}["));
        let fits = |form: &&Form| !on_the_way || (**form == Form::List) == is_list;
        node(match place.forms.iter().find(fits) {
            None => Value::Null,
            Some(Form::Anything | Form::Text | Form::AnyText) => text("x"),
            Some(Form::Words(words)) => text(words.first().map_or("", |word| word)),
            Some(Form::Duration) => text("1s"),
            Some(Form::Time) => text("2026-11-30T12:00:00Z"),
            Some(Form::Boolean) => Value::Bool(true),
            Some(Form::Number | Form::Port | Form::Percent) => number(),
            Some(Form::List) => Value::Sequence(vec![self.node(&item(path), plan)]),
            Some(Form::Map | Form::MapByPort) => Value::Mapping(vec![self.entry(path, KEY, plan)]),
            Some(Form::Fields) => {
                let fields = place.fields.iter().map(|(name, field)| (name.as_str(), field.is_required()));
                let written = fields.filter(|field| is_written(*field));
                Value::Mapping(written.map(|(name, _)| self.entry(path, name, plan)).collect())
            }
        })
    }

    fn entry(&self, path: &str, key: &str, plan: &Plan<'_>) -> Entry {
        Entry { key: key.to_owned(), mark: MARK, value: self.node(&join(path, key), plan) }
    }
}

/// A value of every type, lists and mappings with and without content.
fn anything() -> [Value; 8] {
    let entry = Entry { key: KEY.to_owned(), mark: MARK, value: node(Value::Null) };
    [
        Value::Null,
        Value::Bool(true),
        number(),
        text("x"),
        Value::Sequence(Vec::new()),
        Value::Sequence(vec![node(Value::Null)]),
        Value::Mapping(Vec::new()),
        Value::Mapping(vec![entry]),
    ]
}

/// Nobody reads the findings.
const MARK: Mark = Mark { line: 1, column: 1 };

fn node(value: Value) -> Node {
    Node { mark: MARK, value }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn number() -> Value {
    Value::Number("1".to_owned())
}
