//! Whether a request may be sent once more. The rule of the house: what may have been done is not done again, unless doing it
//! twice is the same as doing it once.

use http::{HeaderMap, Method, StatusCode};
use palisade_policy::compile::Destination;
use palisade_policy::kind::request_match::MatchView;
use palisade_policy::traffic::RetryOn;

use crate::http::headers::REFUSED;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// There was no connection to send it on.
    Connect,
    /// Whoever got it says that it was not begun.
    Refused,
    /// The same because the application there is not well: nobody has work with it, so that others may be asked without measure.
    Unwell,
    /// No answer came: the connection broke or was reset.
    Reset,
    /// No answer came within the time of one try.
    Late,
    /// An answer came that says so.
    Status(StatusCode),
    /// The same in gRPC.
    Grpc(u16),
}

impl Failed {
    /// Whether it cannot have been processed.
    pub(super) fn is_unprocessed(self) -> bool {
        matches!(self, Self::Connect | Self::Refused | Self::Unwell)
    }
}

/// Whether RFC 9110 section 9.2.2 has the method do the same however often it is asked.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// Whether a request, in the form that it is sent in, does no harm when it is processed twice: by its method, or because a
/// RetryPolicy says so.
pub(crate) fn is_repeatable(
    destination: &Destination,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> bool {
    let view = MatchView { host: &destination.host, method: method.as_str(), path, route: None };
    is_idempotent(method) || destination.repeats.as_ref().is_some_and(|repeats| repeats.allow(&view, headers))
}

/// Whether an attempt that failed so may be followed by another. `safe`: the request may be processed twice, by its method or
/// because a policy says so.
pub(crate) fn may_repeat(failed: Failed, safe: bool, on: &RetryOn) -> bool {
    if !failed.is_unprocessed() && !safe {
        return false;
    }
    match failed {
        Failed::Connect => on.connect_failure || on.five_xx || on.gateway_error,
        Failed::Refused | Failed::Unwell => on.refused_stream || on.five_xx || on.gateway_error,
        Failed::Reset | Failed::Late => on.reset || on.five_xx || on.gateway_error,
        Failed::Status(status) => {
            let code = status.as_u16();
            on.statuses.contains(&code)
                || (on.five_xx && code >= 500)
                || (on.gateway_error && matches!(code, 502..=504))
                || (on.retriable_4xx && code == 409)
        }
        Failed::Grpc(status) => on.grpc.contains(&status),
    }
}

/// What the sidecar in front of an application says of a refusal of its own, in `x-palisade-refused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The application was not asked, by no fault of its own.
    Before,
    /// The application was not asked, because it is not well.
    Unwell,
    /// The application was not asked, because it has as many requests as it keeps up with.
    Busy,
    /// The application could not be asked.
    Unreachable,
    /// It was asked, and failed.
    Failed,
    /// It was asked, and the answer was broken off by no fault of its own.
    Cut,
}

impl Refused {
    const ALL: [Self; 6] =
        [Self::Before, Self::Unwell, Self::Busy, Self::Unreachable, Self::Failed, Self::Cut];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Unwell => "before;unwell",
            Self::Busy => "before;busy",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
            Self::Cut => "cut",
        }
    }

    /// Taken out of the answer of a sidecar: its application cannot have written it. What follows a `;` may be of a newer one.
    pub(crate) fn take(headers: &mut HeaderMap) -> Option<Self> {
        if headers.is_empty() {
            return None;
        }
        let value = headers.remove(REFUSED)?;
        let named = |name: &[u8]| Self::ALL.into_iter().find(|refused| refused.name().as_bytes() == name);
        named(value.as_bytes()).or_else(|| named(value.as_bytes().split(|b| *b == b';').next()?))
    }

    /// Whether the application was not asked, and another instance may be.
    pub(crate) fn is_unprocessed(self) -> bool {
        matches!(self, Self::Before | Self::Unwell | Self::Busy | Self::Unreachable)
    }

    /// Whether it says something about the instance.
    pub(crate) fn counts(self) -> bool {
        matches!(self, Self::Unreachable | Self::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_processed_is_repeated_only_where_that_does_no_harm() {
        let all = RetryOn {
            connect_failure: true,
            refused_stream: true,
            reset: true,
            five_xx: true,
            gateway_error: true,
            retriable_4xx: true,
            statuses: vec![404, 503],
            grpc: vec![14],
        };
        let none = RetryOn::default();
        let status = |code| Failed::Status(StatusCode::from_u16(code).unwrap());
        // Failed, with every condition for an unsafe request, and for a safe one.
        let rows = [
            (Failed::Connect, true, true),
            (Failed::Refused, true, true),
            (Failed::Unwell, true, true),
            (Failed::Reset, false, true),
            (Failed::Late, false, true),
            (status(500), false, true),
            (status(503), false, true),
            (status(409), false, true),
            (status(404), false, true),
            (status(200), false, false),
            (Failed::Grpc(14), false, true),
            (Failed::Grpc(0), false, false),
        ];
        for (failed, unsafe_too, safe) in rows {
            assert_eq!(may_repeat(failed, false, &all), unsafe_too, "{failed:?}");
            assert_eq!(may_repeat(failed, true, &all), safe, "{failed:?}");
            assert!(!may_repeat(failed, true, &none), "{failed:?} without a condition");
        }
    }

    #[test]
    fn each_condition_is_for_what_envoy_has_it_for() {
        let on = |name: &str| RetryOn {
            connect_failure: name == "connect-failure",
            refused_stream: name == "refused-stream",
            reset: name == "reset",
            five_xx: name == "5xx",
            gateway_error: name == "gateway-error",
            retriable_4xx: name == "retriable-4xx",
            ..RetryOn::default()
        };
        let failures = [
            Failed::Connect,
            Failed::Refused,
            Failed::Reset,
            Failed::Late,
            Failed::Status(StatusCode::INTERNAL_SERVER_ERROR),
            Failed::Status(StatusCode::BAD_GATEWAY),
            Failed::Status(StatusCode::CONFLICT),
        ];
        let rows = [
            ("connect-failure", [true, false, false, false, false, false, false]),
            ("refused-stream", [false, true, false, false, false, false, false]),
            ("reset", [false, false, true, true, false, false, false]),
            ("5xx", [true, true, true, true, true, true, false]),
            ("gateway-error", [true, true, true, true, false, true, false]),
            ("retriable-4xx", [false, false, false, false, false, false, true]),
        ];
        for (name, expected) in rows {
            assert_eq!(failures.map(|failed| may_repeat(failed, true, &on(name))), expected, "{name}");
        }
    }

    #[test]
    fn only_the_methods_of_rfc_9110_are_idempotent() {
        for (method, expected) in [
            ("GET", true),
            ("HEAD", true),
            ("OPTIONS", true),
            ("PUT", true),
            ("DELETE", true),
            ("POST", false),
            ("PATCH", false),
            ("CONNECT", false),
            ("get", false),
            ("PURGE", false),
        ] {
            assert_eq!(is_idempotent(&Method::from_bytes(method.as_bytes()).unwrap()), expected, "{method}");
        }
    }
}
