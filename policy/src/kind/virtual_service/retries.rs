//! `retries`: how often, how fast and after what a request is tried again.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::document::reader::{At, Reader};
use crate::finding::code;
use crate::finding::problem::{Problems, did_you_mean};
use crate::traffic::{Retries, RetryOn};

/// As it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRetry {
    pub attempts: u32,
    pub per_try_timeout: Option<Duration>,
    /// Envoy's words and statuses, with commas between them.
    pub retry_on: Option<String>,
    pub backoff: Option<Duration>,
    pub ignore_previous_hosts: Option<bool>,
}

/// Istio knows no limit. More of them multiply a load that something already fails under.
const ATTEMPTS_MAX: u32 = 20;
const PER_TRY_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// What answers with these says that it failed.
const STATUSES: RangeInclusive<u16> = 400..=599;

const UNSUPPORTED: &[(&str, &str)] =
    &[("retryRemoteLocalities", "leave it out: endpoints have no localities here, all are tried")];

type Word = (&'static str, fn(&mut RetryOn));
/// Envoy's words for what a request is tried again after.
const WORDS: &[Word] = &[
    ("connect-failure", |on| on.connect_failure = true),
    ("refused-stream", |on| on.refused_stream = true),
    ("reset", |on| on.reset = true),
    // What was not sent had no connection, or lost it before the first byte.
    ("reset-before-request", |on| on.connect_failure = true),
    ("5xx", |on| on.five_xx = true),
    ("gateway-error", |on| on.gateway_error = true),
    ("retriable-4xx", |on| on.retriable_4xx = true),
    // Envoy's word that the numbers beside it count; they do so without.
    ("retriable-status-codes", |_| ()),
    ("cancelled", |on| on.grpc.push(1)),
    ("deadline-exceeded", |on| on.grpc.push(4)),
    ("resource-exhausted", |on| on.grpc.push(8)),
    ("internal", |on| on.grpc.push(13)),
    ("unavailable", |on| on.grpc.push(14)),
];

/// Envoy's words that mean nothing here.
const FOREIGN: &[(&str, &str)] = &[
    ("envoy-ratelimited", "write 429: only Envoy's own limits say so in the header that this word reads"),
    ("retriable-headers", "leave it out: a VirtualService cannot say which headers are meant"),
    ("http3-post-connect-failure", "leave it out: HTTP/3 is not spoken here"),
];

pub(super) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<HttpRetry> {
    let mut fields = reader.mapping(at)?;
    let attempts = match fields.take("attempts") {
        Some(at) => {
            let number = reader.number(&at);
            // What is too large is said with the meaning.
            number.map(|number| u32::try_from(number).unwrap_or(u32::MAX))
        }
        None => {
            reader.missing(&fields, "attempts", "how often after the first time, for example attempts: 2");
            None
        }
    };
    let per_try_timeout = fields.take("perTryTimeout").and_then(|at| reader.duration(&at));
    let retry_on = fields.take("retryOn").and_then(|at| reader.text(&at));
    let backoff = fields.take("backoff").and_then(|at| reader.duration(&at));
    let ignore_previous_hosts = fields.take("retryIgnorePreviousHosts").and_then(|at| reader.boolean(&at));
    reader.finish(fields, UNSUPPORTED);
    Some(HttpRetry { attempts: attempts?, per_try_timeout, retry_on, backoff, ignore_previous_hosts })
}

/// `timeout`: the whole request's.
pub(super) fn build(
    written: &HttpRetry,
    timeout: Option<Duration>,
    path: &str,
    problems: &mut Problems,
) -> Retries {
    let mut range = |field: &str, value: String, range: &str, help: &str| {
        let message = format!("{value} is not within {range}");
        problems.error(code::ROUTE_RANGE, format!("{path}.{field}"), message);
        problems.help(help);
    };
    if written.attempts > ATTEMPTS_MAX {
        let help = "a few tries find an endpoint that answers; many multiply the load on those that do not";
        range("attempts", written.attempts.to_string(), &format!("0 and {ATTEMPTS_MAX}"), help);
    }
    if let Some(limit) = written.per_try_timeout.filter(|limit| !PER_TRY_TIMEOUT.contains(limit)) {
        range("perTryTimeout", format!("{limit:?}"), "1ms and 1h", "leave it out for the whole request's");
    }
    if let Some(backoff) = written.backoff.filter(|backoff| !BACKOFF.contains(backoff)) {
        range("backoff", format!("{backoff:?}"), "1ms and 60s", "leave it out for 25ms");
    }
    let said = [
        ("perTryTimeout", written.per_try_timeout.is_some()),
        ("retryOn", written.retry_on.is_some()),
        ("backoff", written.backoff.is_some()),
        ("retryIgnorePreviousHosts", written.ignore_previous_hosts.is_some()),
    ];
    for (field, _) in said.iter().filter(|(_, there)| *there && written.attempts == 0) {
        let message = format!("{field} is about retries, and attempts: 0 means none");
        problems.error(code::ROUTE_RETRIES, format!("{path}.{field}"), message);
        problems.help("write attempts, or leave the other fields out");
    }
    if let (Some(try_limit), Some(whole)) = (written.per_try_timeout, timeout)
        && try_limit > whole
    {
        let message = format!("the whole request ends after {whole:?}, before a try of {try_limit:?} does");
        problems.warning(code::ROUTE_RETRIES, format!("{path}.perTryTimeout"), message);
        problems.help("make it a part of timeout, so that a second try has time left");
    }
    let defaults = Retries::default();
    let on = written.retry_on.as_ref().map(|text| parse_on(text, &format!("{path}.retryOn"), problems));
    Retries {
        attempts: written.attempts,
        per_try_timeout: written.per_try_timeout,
        on: on.unwrap_or(defaults.on),
        backoff: written.backoff.unwrap_or(defaults.backoff),
        ignore_previous_hosts: written.ignore_previous_hosts.unwrap_or(defaults.ignore_previous_hosts),
    }
}

/// Whether requests are to be tried again that somebody may have done already.
pub(crate) fn tries_what_may_be_done(written: &HttpRetry) -> bool {
    let on = build(written, None, "", &mut Problems::default()).on;
    let never_done = RetryOn {
        connect_failure: on.connect_failure,
        refused_stream: on.refused_stream,
        ..RetryOn::default()
    };
    written.attempts > 0 && on != never_done
}

fn parse_on(text: &str, path: &str, problems: &mut Problems) -> RetryOn {
    let mut on = RetryOn::default();
    let mut names_statuses = false;
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if let Some((word, take)) = WORDS.iter().find(|(known, _)| *known == word) {
            names_statuses |= *word == "retriable-status-codes";
            take(&mut on);
        } else if let Ok(status) = word.parse::<u16>() {
            if !STATUSES.contains(&status) {
                problems.error(code::ROUTE_RETRIES, path, format!("{status} is no status of a failure"));
                problems.help("write statuses from 400 to 599");
            }
            on.statuses.push(status);
        } else if let Some((_, help)) = FOREIGN.iter().find(|(known, _)| *known == word) {
            problems.error(code::ROUTE_RETRIES, path, format!("{word:?} is not taken by this version"));
            problems.help(*help);
        } else {
            problems.error(code::ROUTE_RETRIES, path, format!("{word:?} is nothing to retry on"));
            let known = || WORDS.iter().map(|(word, _)| *word);
            problems.help(match did_you_mean(word, known()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("statuses, and of {}", known().collect::<Vec<_>>().join(", ")),
            });
        }
    }
    if names_statuses && on.statuses.is_empty() {
        problems.error(code::ROUTE_RETRIES, path, "retriable-status-codes stands without a status");
        problems.help("write the statuses: retryOn: \"503,504\"");
    }
    let all = [&mut on.statuses, &mut on.grpc];
    for list in all {
        list.sort_unstable();
        list.dedup();
    }
    on
}
