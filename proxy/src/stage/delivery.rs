//! Whether a request that may go on was delivered before.

use http::HeaderMap;
use palisade_policy::Snapshot;
use palisade_policy::kind::request_match::MatchView;
use palisade_policy::kind::retry_policy::Repeats;

use super::again::is_idempotent;
use super::identify::given_id;
use super::tries::ATTEMPT_COUNT;
use crate::error::ProxyError;
use crate::telemetry::record::Record;
use crate::watch::{KnownBy, Request};
use crate::worker::Worker;

/// Notes in the record what is known of the request, and refuses it where policy says so.
pub(crate) fn watch(
    worker: &Worker,
    snapshot: &Snapshot,
    method: &http::Method,
    path: &str,
    headers: &HeaderMap,
    record: &mut Record,
) -> Result<(), ProxyError> {
    let Some(repeats) = snapshot.watch() else { return Ok(()) };
    let Some(policy) = &repeats.duplicates else { return Ok(()) };
    let view = MatchView { host: "", method: method.as_str(), path, route: None };
    let Some((known_by, name)) = known(repeats, &view, is_idempotent(method), headers, record) else {
        return Ok(());
    };
    let source = record.source.clone();
    let request = Request { caller: source.as_ref(), method, path, known_by, name, id: record.id() };
    let answer = worker.shared.watch.ask(&request, policy);
    if let Some(first) = answer.first {
        record.duplicates(first, known_by, answer.delivery.is_none());
    }
    record.watched.delivery = Some(answer.delivery.ok_or(ProxyError::DuplicateInFlight)?);
    Ok(())
}

/// What the request is known again by. Of one that may be processed twice without a key, nobody asks.
fn known<'h>(
    repeats: &Repeats,
    view: &MatchView<'_>,
    idempotent: bool,
    headers: &'h HeaderMap,
    record: &Record,
) -> Option<(KnownBy, &'h [u8])> {
    if let Some(key) = repeats.key(view, headers) {
        return Some((KnownBy::Key, key.as_bytes()));
    }
    if idempotent || repeats.allow(view, headers) {
        return None;
    }
    let id = given_id(headers)?.as_bytes();
    // Anybody could write it; a sidecar takes it out of what its application says.
    let again = record.source.is_some() && headers.get(ATTEMPT_COUNT).is_some_and(|count| count != "1");
    Some((if again { KnownBy::Attempt } else { KnownBy::RequestId }, id))
}
