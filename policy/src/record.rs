//! Decision records as proxies write them, as far as they tell what policy was asked: docs/reference/telemetry.md.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use palisade_identity::SpiffeId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One request that a sidecar or an edge decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub decision_id: String,
    pub direction: Direction,
    pub outcome: Outcome,
    pub reason: String,
    /// `None`: a caller without a certificate.
    pub caller: Option<SpiffeId>,
    pub service: Option<SpiffeId>,
    /// `iss/sub` of the verified token.
    pub request_principal: Option<String>,
    pub source_ip: Option<IpAddr>,
    pub method: Option<String>,
    pub authority: Option<String>,
    /// Normalized, without query.
    pub path: Option<String>,
    /// The service's port.
    pub port: Option<u16>,
    /// The rule that decided, if one did.
    pub rule: Option<NamedRule>,
    pub policy_version: u64,
    /// There was no request: TLS failed.
    pub handshake_failed: bool,
    /// There was no request: the port carries raw TCP.
    pub tcp: bool,
}

/// A rule as records name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedRule {
    /// `namespace/name`.
    pub policy: String,
    /// From 0. `None`: the record says none.
    pub rule: Option<usize>,
}

impl fmt::Display for NamedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.policy)?;
        self.rule.map_or(Ok(()), |rule| write!(f, ", rule {rule}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Inbound,
    Outbound,
    Edge,
}

/// What policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    Allowed,
    Refused,
    /// It was not asked, or what it said was overtaken by what happened later.
    NotTold,
}

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the line is not the JSON of a decision record: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0:?} is no SPIFFE id")]
    Identity(String),
}

#[derive(Deserialize)]
struct Line {
    decision_id: String,
    direction: Direction,
    decision: String,
    reason: String,
    source_principal: Option<String>,
    destination_principal: Option<String>,
    request_principal: Option<String>,
    source_address: Option<String>,
    method: Option<String>,
    authority: Option<String>,
    path: Option<String>,
    policy: Option<String>,
    rule: Option<usize>,
    policy_version: u64,
    upstream_cluster: Option<String>,
    response_code_details: Option<String>,
    protocol: Option<String>,
}

/// Reasons of requests that policy refused, rules of access and PeerAuthentication.
const REFUSALS: [&str; 3] = ["denied_by_rule", "no_allow_matched", "plaintext_refused"];
/// Reasons of requests that policy let in.
const GRANTS: [&str; 2] = ["rule", "no_policy"];

impl Record {
    /// Reads one line.
    pub fn parse(line: &str) -> Result<Self, RecordError> {
        let line: Line = serde_json::from_str(line)?;
        let id = |text: Option<String>| {
            let parsed = text.map(|text| SpiffeId::parse(&text).map_err(|_no| RecordError::Identity(text)));
            parsed.transpose()
        };
        let outcome = match line.decision.as_str() {
            "allowed" if GRANTS.contains(&line.reason.as_str()) => Outcome::Allowed,
            // The application or the network failed after a rule had let the request in.
            "failed" if line.policy.is_some() => Outcome::Allowed,
            "denied" | "unauthenticated" if REFUSALS.contains(&line.reason.as_str()) => Outcome::Refused,
            _ => Outcome::NotTold,
        };
        Ok(Self {
            decision_id: line.decision_id,
            direction: line.direction,
            outcome,
            reason: line.reason,
            caller: id(line.source_principal)?,
            service: id(line.destination_principal)?,
            request_principal: line.request_principal,
            source_ip: line.source_address.and_then(|text| address(&text)),
            method: line.method,
            authority: line.authority,
            path: line.path,
            port: line.upstream_cluster.and_then(|cluster| port(&cluster)),
            rule: line.policy.map(|policy| NamedRule { policy, rule: line.rule }),
            policy_version: line.policy_version,
            handshake_failed: line.response_code_details.as_deref() == Some("handshake_failed"),
            tcp: line.protocol.as_deref() == Some("TCP"),
        })
    }
}

/// The claims that a request principal is made of; `None`: it is none.
pub(crate) fn claims_of(request_principal: &str) -> Option<Map<String, Value>> {
    let (issuer, subject) = request_principal.rsplit_once('/')?;
    let subject = subject.replace("%2F", "/").replace("%25", "%");
    Some(Map::from_iter([("iss".to_owned(), issuer.into()), ("sub".to_owned(), subject.into())]))
}

/// `ip:port`.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<SocketAddr>().map(|address| address.ip()).ok().or_else(|| text.parse().ok())
}

/// `inbound|port||`.
fn port(cluster: &str) -> Option<u16> {
    cluster.split('|').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(decision: &str, reason: &str, policy: &str) -> String {
        format!(
            r#"{{"time":"2026-11-30T05:00:00.000Z","decision_id":"d1","request_id":null,"direction":"inbound",
            "decision":"{decision}","reason":"{reason}","source_principal":"spiffe://corp.example/ns/bank/sa/payments",
            "destination_principal":"spiffe://corp.example/ns/bank/sa/ledger","request_principal":null,
            "source_address":"[::1]:4711","method":"POST","authority":"ledger.bank:8080","path":"/entries",
            "policy":{policy},"rule":0,"policy_version":7,"upstream_cluster":"inbound|8080||"}}"#
        )
    }

    #[test]
    fn a_record_tells_what_policy_said() {
        let rows = [
            ("allowed", "rule", "\"bank/ledger\"", Outcome::Allowed),
            ("allowed", "no_policy", "null", Outcome::Allowed),
            ("failed", "upstream_reset", "\"bank/ledger\"", Outcome::Allowed),
            ("failed", "no_snapshot", "null", Outcome::NotTold),
            ("denied", "no_allow_matched", "null", Outcome::Refused),
            ("denied", "denied_by_rule", "\"bank/no\"", Outcome::Refused),
            ("unauthenticated", "plaintext_refused", "null", Outcome::Refused),
            ("denied", "rate_limited", "null", Outcome::NotTold),
            ("denied", "guard_method", "\"bank/guard\"", Outcome::NotTold),
            ("unauthenticated", "token_required", "\"bank/users\"", Outcome::NotTold),
        ];
        for (decision, reason, policy, outcome) in rows {
            let record = Record::parse(&line(decision, reason, policy)).unwrap();
            assert_eq!(record.outcome, outcome, "{decision} {reason}");
            assert_eq!((record.port, record.policy_version), (Some(8080), 7));
            assert_eq!(record.source_ip, Some("::1".parse().unwrap()));
            let named: Option<String> = serde_json::from_str(policy).unwrap();
            assert_eq!(record.rule, named.map(|policy| NamedRule { policy, rule: Some(0) }));
            assert_eq!(record.caller.unwrap().principal(), "corp.example/ns/bank/sa/payments");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for text in ["", "{}", "[]", "{\"decision_id\":1}", "not json"] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
        let forged = line("allowed", "rule", "null").replace("spiffe://corp", "http://corp");
        assert!(matches!(Record::parse(&forged), Err(RecordError::Identity(_))));
    }
}
