//! The question of a decision record, and whether an answer to it is what the record says.

use std::net::IpAddr;

use palisade_identity::SpiffeId;

use super::{Explanation, GivenToken, Question, RulePlace};
use crate::record::{Direction, NamedRule, Outcome, Record, claims_of};

/// What every record leaves out, and is hence taken to be absent or as most requests have it.
pub const UNKNOWN: &str = "headers, query, claims beside issuer and subject, SNI, the service's address, body, and the service's labels \
                           of that time";

/// A record that tells everything that is needed to ask again.
#[derive(Debug)]
pub struct Recorded<'r> {
    pub caller: Option<&'r SpiffeId>,
    pub service: &'r SpiffeId,
    /// `None`: the connection was raw TCP.
    request: Option<Asked<'r>>,
    port: u16,
    source_ip: IpAddr,
    request_principal: Option<&'r str>,
}

#[derive(Debug)]
struct Asked<'r> {
    method: &'r str,
    authority: &'r str,
    path: &'r str,
}

/// Why a record is not explained by policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExplained {
    #[error(
        "it is of a request on its way out of the caller's sidecar, which asks no rule of access; its reason is {0}. Name the \
         log of the service's sidecar, and the id of the record there"
    )]
    Outbound(String),
    #[error(
        "it is of an edge, which decides by routes and trusted hops that records do not hold; its reason is {0}. Ask with \
         --policies, --plaintext and --to, or for the record of the service behind it"
    )]
    Edge(String),
    #[error("there was no request to judge: the connection was refused in the TLS handshake, reason {0}")]
    Handshake(String),
    #[error("{what}; its reason is {reason}{}", by(.rule.as_ref()))]
    NotDecided { what: &'static str, reason: String, rule: Option<NamedRule> },
    #[error("it does not tell the {0}: it was refused before it was a request")]
    Missing(&'static str),
}

fn by(rule: Option<&NamedRule>) -> String {
    rule.map(|rule| format!(", by {rule}")).unwrap_or_default()
}

impl<'r> Recorded<'r> {
    /// Refuses records that rules of access did not decide, and those that lack what the rules look at.
    pub fn of(record: &'r Record) -> Result<Self, NotExplained> {
        let reason = || record.reason.clone();
        if record.handshake_failed {
            return Err(NotExplained::Handshake(reason()));
        }
        match (record.direction, record.outcome) {
            (Direction::Outbound, _) => return Err(NotExplained::Outbound(reason())),
            (Direction::Edge, _) => return Err(NotExplained::Edge(reason())),
            (Direction::Inbound, Outcome::NotTold) => {
                let (what, rule) = (undecided(&record.reason), record.rule.clone());
                return Err(NotExplained::NotDecided { what, reason: reason(), rule });
            }
            (Direction::Inbound, Outcome::Allowed | Outcome::Refused) => {}
        }
        let missing = NotExplained::Missing;
        let request = || {
            Ok(Asked {
                method: record.method.as_deref().ok_or(missing("method"))?,
                authority: record.authority.as_deref().ok_or(missing("authority"))?,
                path: record.path.as_deref().ok_or(missing("path"))?,
            })
        };
        Ok(Self {
            caller: record.caller.as_ref(),
            service: record
                .service
                .as_ref()
                .filter(|id| id.workload().is_some())
                .ok_or(missing("service"))?,
            request: (!record.tcp).then(request).transpose()?,
            port: record.port.filter(|port| *port != 0).ok_or(missing("port"))?,
            source_ip: record.source_ip.ok_or(missing("caller's address"))?,
            request_principal: record.request_principal.as_deref(),
        })
    }

    /// Puts what the record tells into a question. A token that the question has stays, since it says more.
    pub fn ask(&self, question: &mut Question) {
        question.caller = self.caller.cloned();
        question.tcp = self.request.is_none();
        if let Some(Asked { method, authority, path }) = self.request {
            question.method = method.to_owned();
            question.path = path.to_owned();
            question.host = Some(authority.to_owned());
        }
        question.port = self.port;
        question.source_ip = self.source_ip;
        if let (GivenToken::None, Some(claims)) =
            (&question.token, self.request_principal.and_then(claims_of))
        {
            question.token = GivenToken::Claims(claims);
        }
    }
}

/// Who ended a request that no rule of access decided.
fn undecided(reason: &str) -> &'static str {
    let any = |beginnings: &[&str]| beginnings.iter().any(|beginning| reason.starts_with(beginning));
    if any(&["rate_limited", "limit_store"]) {
        "a RateLimitPolicy ended the request, and how much was used up is not recorded"
    } else if any(&["guard_"]) {
        "a RequestGuard did not take the form of the request, which records do not hold"
    } else if any(&["duplicate_in_flight"]) {
        "a RetryPolicy ended the request, since the same one was under way already"
    } else if any(&["token_"]) {
        "the request ended at the end user's token, which records do not hold"
    } else if any(&["no_snapshot", "no_identity"]) {
        "the sidecar was not ready, and no policy was asked"
    } else if any(&["closed_by_policy_change"]) {
        "a push of policy shut the request out while it was under way; see `palisade history`"
    } else {
        "rules of access did not end the request"
    }
}

/// Whether an explanation says what the record says: the same decision, by the same rule, and refused for the same reason.
pub fn agrees(record: &Record, told: &Explanation) -> bool {
    let allowed = record.outcome == Outcome::Allowed;
    let named = told.rule.as_ref().map(NamedRule::from);
    // An application that failed is the reason of a request that was let in.
    allowed == told.allowed && record.rule == named && (allowed || record.reason == told.reason)
}

impl From<&RulePlace> for NamedRule {
    fn from(place: &RulePlace) -> Self {
        Self { policy: format!("{}/{}", place.namespace, place.policy), rule: place.rule }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(direction: &str, decision: &str, reason: &str, more: &[(&str, serde_json::Value)]) -> Record {
        let mut line = serde_json::json!({
            "decision_id": "d1", "direction": direction, "decision": decision, "reason": reason,
            "source_principal": "spiffe://corp.example/ns/bank/sa/payments",
            "destination_principal": "spiffe://corp.example/ns/bank/sa/ledger",
            "request_principal": "https://auth.example/a%2Fb", "source_address": "10.0.0.7:4711", "method": "POST",
            "authority": "ledger.bank:8080", "path": "/entries", "policy": "bank/ledger", "rule": 1,
            "policy_version": 7, "upstream_cluster": "inbound|8081||",
        });
        for (key, value) in more {
            line[*key] = value.clone();
        }
        Record::parse(&line.to_string()).unwrap()
    }

    #[test]
    fn a_question_has_all_that_the_record_tells() {
        let record = record("inbound", "allowed", "rule", &[]);
        let recorded = Recorded::of(&record).unwrap();
        let mut question = Question::new(None, 1);
        recorded.ask(&mut question);
        assert_eq!(recorded.service.principal(), "corp.example/ns/bank/sa/ledger");
        assert_eq!(question.caller.as_ref().unwrap().principal(), "corp.example/ns/bank/sa/payments");
        assert_eq!((question.method.as_str(), question.path.as_str()), ("POST", "/entries"));
        assert_eq!((question.host.as_deref(), question.port), (Some("ledger.bank:8080"), 8081));
        assert_eq!(question.source_ip, "10.0.0.7".parse::<IpAddr>().unwrap());
        let GivenToken::Claims(claims) = question.token else { panic!("no token") };
        assert_eq!(
            serde_json::Value::Object(claims),
            serde_json::json!({"iss": "https://auth.example", "sub": "a/b"})
        );
    }

    #[test]
    fn the_record_of_a_tcp_connection_asks_about_a_connection() {
        let nothing = ["method", "authority", "path"].map(|key| (key, serde_json::Value::Null));
        let tcp = [&nothing[..], &[("protocol", "TCP".into())]].concat();
        let record = record("inbound", "denied", "no_allow_matched", &tcp);
        let mut question = Question::new(None, 1);
        Recorded::of(&record).unwrap().ask(&mut question);
        assert!(question.tcp);
        assert_eq!((question.port, question.host), (8081, None));
    }

    #[test]
    fn what_rules_of_access_did_not_decide_is_refused_and_not_made_up() {
        type Keys<'k> = &'k [(&'k str, serde_json::Value)];
        let null = serde_json::Value::Null;
        let rows: &[(&str, &str, &str, Keys<'_>, &str)] = &[
            ("outbound", "failed", "unknown_destination", &[], "log of the service's sidecar"),
            ("edge", "denied", "no_allow_matched", &[], "of an edge"),
            (
                "inbound",
                "unauthenticated",
                "expired",
                &[("response_code_details", "handshake_failed".into())],
                "handshake",
            ),
            ("inbound", "denied", "rate_limited", &[], "RateLimitPolicy"),
            ("inbound", "denied", "limit_store_unavailable", &[], "RateLimitPolicy"),
            ("inbound", "denied", "guard_method", &[], "guard_method, by bank/ledger, rule 1"),
            ("inbound", "unauthenticated", "token_required", &[], "end user's token"),
            ("inbound", "failed", "no_snapshot", &[("policy", null.clone())], "not ready"),
            ("inbound", "denied", "closed_by_policy_change", &[], "a push"),
            ("inbound", "failed", "no_endpoint", &[("policy", null.clone())], "did not end"),
            ("inbound", "allowed", "rule", &[("upstream_cluster", null.clone())], "the port"),
            ("inbound", "allowed", "rule", &[("upstream_cluster", "inbound|0||".into())], "the port"),
            ("inbound", "allowed", "rule", &[("destination_principal", null.clone())], "the service"),
            ("inbound", "allowed", "rule", &[("method", null.clone())], "the method"),
            ("inbound", "allowed", "rule", &[("path", null.clone())], "the path"),
            ("inbound", "allowed", "rule", &[("authority", null.clone())], "the authority"),
            ("inbound", "allowed", "rule", &[("source_address", null)], "the caller's address"),
        ];
        for (direction, decision, reason, more, part) in rows {
            let record = record(direction, decision, reason, more);
            let said = Recorded::of(&record).unwrap_err().to_string();
            assert!(said.contains(part), "{direction} {reason} {more:?} should say {part:?}: {said}");
        }
    }
}
