//! Spans as OTLP has them, and the attributes that OpenTelemetry's HTTP conventions name.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
pub(crate) use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
pub(crate) use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::context::{Context, SpanId};

/// A text in a span. 1 KiB: a path or a user agent of 64 KiB would have strangers fill the queue, and one export grow over
/// the 4 MiB that collectors take by gRPC.
const TEXT_BYTES_MAX: usize = 1024;
/// Bits of OTLP's `flags`: it is known whether the parent is another process's, and it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Attributes of a span or of a resource, in the order they were added.
#[derive(Debug, Default)]
pub(crate) struct Attributes(Vec<KeyValue>);

impl Attributes {
    pub(crate) fn text(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let mut value = value.into();
        value.truncate(value.floor_char_boundary(TEXT_BYTES_MAX));
        self.add(key.into(), Value::StringValue(value));
    }

    pub(crate) fn optional(&mut self, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// What was said first holds.
    pub(crate) fn text_unless_there(&mut self, key: &str, value: &str) {
        if !self.0.iter().any(|attribute| attribute.key == key) {
            self.text(key, value);
        }
    }

    pub(crate) fn number(&mut self, key: &str, value: impl TryInto<i64>) {
        self.add(key.into(), Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
    }

    fn add(&mut self, key: String, value: Value) {
        self.0.push(KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() });
    }

    pub(crate) fn into_inner(self) -> Vec<KeyValue> {
        self.0
    }
}

/// What spans of every kind have.
pub(crate) struct Outline {
    pub(crate) kind: SpanKind,
    /// Of this span.
    pub(crate) context: Context,
    pub(crate) parent: Option<SpanId>,
    /// The parent is another process's.
    pub(crate) parent_is_remote: bool,
    pub(crate) state: String,
    pub(crate) start: SystemTime,
    pub(crate) length: Duration,
    pub(crate) name: String,
    pub(crate) is_error: bool,
}

impl Outline {
    pub(crate) fn span(self, attributes: Attributes) -> Span {
        let start = nanos(self.start);
        let length = u64::try_from(self.length.as_nanos()).unwrap_or(u64::MAX);
        Span {
            trace_id: self.context.trace.bytes().to_vec(),
            span_id: self.context.span.bytes().to_vec(),
            parent_span_id: self.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
            // A part of it would mean something else.
            trace_state: if self.state.len() > TEXT_BYTES_MAX { String::new() } else { self.state },
            flags: flags(self.context, self.parent_is_remote),
            name: self.name,
            kind: self.kind.into(),
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add(length),
            attributes: attributes.into_inner(),
            status: self.is_error.then(|| Status { code: StatusCode::Error.into(), message: String::new() }),
            ..Span::default()
        }
    }
}

/// What a client said of its own trace, for a span of ours.
pub(crate) fn link(client: Context) -> Link {
    Link {
        trace_id: client.trace.bytes().to_vec(),
        span_id: client.span.bytes().to_vec(),
        flags: flags(client, true),
        ..Link::default()
    }
}

fn flags(context: Context, is_remote: bool) -> u32 {
    let mut flags = u32::from(context.flags()) | HAS_IS_REMOTE;
    if is_remote {
        flags |= IS_REMOTE;
    }
    flags
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_stay_texts() {
        for (given, kept) in
            [("x".repeat(5000), 1024), ("é".repeat(600), 1024), ("€".repeat(600), 1023), ("a".into(), 1)]
        {
            let mut attributes = Attributes::default();
            attributes.text("url.path", given.as_str());
            let value = attributes.into_inner().remove(0).value.unwrap().value.unwrap();
            let Value::StringValue(text) = value else { panic!("{value:?}") };
            assert!(text.len() == kept && given.starts_with(&text), "{}", text.len());
        }
    }
}
