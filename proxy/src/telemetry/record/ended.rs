//! What the record says of a request that we broke off.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Version};
use palisade_policy::kind::request_guard::rule::Violation;

use super::{GRPC_STATUS, Outcome, Record};
use crate::error::{BODY_TIMEOUT, Consequence, ProxyError};
use crate::http::body::Cut;
use crate::stage::guard::Breach;
use crate::stage::open::Why;

impl Record {
    /// No byte went either way for too long, after the answer had begun. Gives the trailers that a caller of gRPC is told it
    /// in; others cannot be told.
    pub(crate) fn idle(&mut self) -> Option<HeaderMap> {
        self.broken_off(&ProxyError::StreamIdle, "stream_idle_after_response_started")
    }

    /// The request's time is over, and the answer had begun. Gives trailers as `idle` does.
    pub(crate) fn late(&mut self) -> Option<HeaderMap> {
        self.broken_off(&ProxyError::RequestTimeout, "request_timeout_after_response_started")
    }

    /// The answer had begun, and ends because of this.
    pub(super) fn broken_off(&mut self, error: &ProxyError, details: &'static str) -> Option<HeaderMap> {
        let consequence = error.consequence();
        self.outcome = Outcome::Failed;
        (self.reason, self.flag) = (consequence.reason, consequence.flag);
        self.details = Cow::Borrowed(details);
        self.ended = true;
        self.trailers(&consequence)
    }

    /// What let the request in does so no longer, and the answer had begun. Gives trailers as `idle` does.
    pub(crate) fn closed(&mut self, why: Why) -> Option<HeaderMap> {
        self.details = Cow::Borrowed(why.details());
        self.ended = true;
        self.trailers(&ProxyError::Closed(why).consequence())
    }

    fn trailers(&mut self, consequence: &Consequence) -> Option<HeaderMap> {
        if !self.answers_grpc || self.version != Version::HTTP_2 {
            return None;
        }
        self.grpc_status = Some(consequence.grpc_status);
        let status = HeaderName::from_static(GRPC_STATUS);
        let message = HeaderName::from_static("grpc-message");
        let told = [
            (status, HeaderValue::from(consequence.grpc_status)),
            (message, HeaderValue::from_static(consequence.title)),
        ];
        Some(told.into_iter().collect())
    }

    /// Notes why the request's body was broken off, and gives what the caller is told.
    pub(crate) fn cut(&mut self, why: &Cut) -> ProxyError {
        match why {
            Cut::Overrun(rule) => {
                let breach = Breach::of_body();
                self.guarded(rule, breach.violation.code());
                ProxyError::Guarded(breach)
            }
            Cut::Stalled => ProxyError::BodyTimeout,
            Cut::Closed(why) => ProxyError::Closed(*why),
        }
    }

    /// A request body that was broken off after the upstream had begun to answer: the caller has that answer, or a part
    /// of it.
    pub(super) fn note_late_cut(&mut self) {
        let Some(why) = self.tally.cut.get().cloned() else { return };
        let (reason, details) = match why {
            Cut::Overrun(_) => (Violation::BodyBytes.code(), "guard_body_bytes_after_response_started"),
            Cut::Stalled => (BODY_TIMEOUT, "body_timeout_after_response_started"),
            Cut::Closed(why) => {
                self.details = Cow::Borrowed(why.details());
                return;
            }
        };
        if self.reason == reason {
            return;
        }
        let _too_late_to_be_told = self.cut(&why);
        if matches!(why, Cut::Stalled) {
            self.outcome = Outcome::Failed;
        }
        self.reason = reason;
        self.flag = "";
        self.details = Cow::Borrowed(details);
    }
}
