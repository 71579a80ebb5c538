//! Whether STRICT mutual TLS would shut anybody out: from what sidecars recorded, or [reported](reported) while they run.

pub mod reported;

use std::collections::BTreeMap;
use std::net::IpAddr;

use palisade_identity::SpiffeId;
use serde::Serialize;

use crate::record::{Direction, Record};

/// Addresses that are kept for one port; of more only the requests are counted.
const CALLERS_MAX: usize = 100;

/// All that was recorded, by service and port.
#[derive(Debug, Default)]
pub struct Readiness(BTreeMap<(String, u16), Seen>);

#[derive(Debug, Default)]
struct Seen {
    mutual: u64,
    plaintext: u64,
    refused: u64,
    callers: BTreeMap<IpAddr, u64>,
    /// Milliseconds since 1970.
    first_ms: u64,
    last_ms: u64,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortReadiness {
    pub service: String,
    pub port: u16,
    pub verdict: Verdict,
    /// Requests and connections with a caller's certificate.
    pub mutual_tls: u64,
    /// Requests and connections in plaintext that were served.
    pub plaintext: u64,
    /// Connections in plaintext that STRICT turned away.
    pub plaintext_refused: u64,
    /// Addresses that still call in plaintext, served or not, and how often.
    pub plaintext_callers: BTreeMap<String, u64>,
    /// From the first to the last record.
    pub observed_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Calls with certificates were seen for long enough, and none in plaintext.
    Ready,
    /// Somebody calls in plaintext.
    NotReady,
    /// Too little was seen to say so.
    Unknown,
}

impl Readiness {
    /// Takes a record of a sidecar's inbound side; others tell nothing of who calls a service. A handshake that failed tells
    /// of no plaintext either.
    pub fn add(&mut self, record: &Record) {
        let (Direction::Inbound, Some(service), Some(port)) =
            (record.direction, &record.service, record.port)
        else {
            return;
        };
        if record.handshake_failed {
            return;
        }
        let seen = self.0.entry((SpiffeId::as_str(service).to_owned(), port)).or_default();
        if let Some(at) = recorded_at(&record.decision_id) {
            seen.first_ms = if seen.first_ms == 0 { at } else { seen.first_ms.min(at) };
            seen.last_ms = seen.last_ms.max(at);
        }
        if record.caller.is_some() {
            seen.mutual += 1;
            return;
        }
        match record.reason.as_str() {
            "plaintext_refused" => seen.refused += 1,
            _ => seen.plaintext += 1,
        }
        if let Some(address) = record.source_ip
            && (seen.callers.len() < CALLERS_MAX || seen.callers.contains_key(&address))
        {
            *seen.callers.entry(address).or_default() += 1;
        }
    }

    /// By service and port. `observed_min_seconds`: a shorter time tells nothing, since who calls seldom has not come by.
    pub fn ports(&self, observed_min_seconds: u64) -> Vec<PortReadiness> {
        let port = |((service, port), seen): (&(String, u16), &Seen)| {
            let observed_seconds = seen.last_ms.saturating_sub(seen.first_ms) / 1000;
            PortReadiness {
                service: service.clone(),
                port: *port,
                verdict: verdict(seen, observed_seconds >= observed_min_seconds),
                mutual_tls: seen.mutual,
                plaintext: seen.plaintext,
                plaintext_refused: seen.refused,
                plaintext_callers: seen.callers.iter().map(|(ip, n)| (ip.to_string(), *n)).collect(),
                observed_seconds,
            }
        };
        self.0.iter().map(port).collect()
    }
}

fn verdict(seen: &Seen, long_enough: bool) -> Verdict {
    match (seen.plaintext + seen.refused, seen.mutual) {
        (1.., _) => Verdict::NotReady,
        (0, 1..) if long_enough => Verdict::Ready,
        (0, _) => Verdict::Unknown,
    }
}

/// The first 48 bits of a UUID of version 7 are milliseconds since 1970 (RFC 9562 section 5.7).
fn recorded_at(decision_id: &str) -> Option<u64> {
    let (high, rest) = decision_id.split_once('-')?;
    let (low, _) = rest.split_once('-')?;
    match (high.len(), low.len()) {
        (8, 4) => u64::from_str_radix(&format!("{high}{low}"), 16).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(second: u64, caller: &str, reason: &str, details: &str) -> Record {
        let at = format!("{:012x}", (1_800_000_000 + second) * 1000);
        let (high, low) = at.split_at(8);
        let caller = if caller.is_empty() { "null".to_owned() } else { format!("\"{caller}\"") };
        Record::parse(&format!(
            r#"{{"decision_id":"{high}-{low}-7000-8000-000000000000","direction":"inbound","decision":"allowed",
            "reason":"{reason}","source_principal":{caller},"destination_principal":"spiffe://a.example/ns/b/sa/ledger",
            "source_address":"10.0.0.7:4711","policy_version":1,"upstream_cluster":"inbound|8080||",
            "response_code_details":"{details}"}}"#
        ))
        .unwrap()
    }

    #[test]
    fn only_calls_with_certificates_for_long_enough_and_none_in_plaintext_are_ready() {
        const WEB: &str = "spiffe://a.example/ns/b/sa/web";
        let mutual = |second| record(second, WEB, "rule", "via_upstream");
        let plaintext = |second| record(second, "", "no_policy", "via_upstream");
        let refused = |second| record(second, "", "plaintext_refused", "plaintext_refused");
        let handshake = |second| record(second, "", "unknownRoot", "handshake_failed");
        let cases: [(Vec<Record>, Option<Verdict>); 8] = [
            (vec![], None),
            (vec![handshake(0), handshake(200)], None),
            (vec![mutual(0)], Some(Verdict::Unknown)),
            (vec![mutual(0), mutual(99)], Some(Verdict::Unknown)),
            (vec![mutual(0), mutual(100)], Some(Verdict::Ready)),
            (vec![mutual(0), handshake(5), mutual(100)], Some(Verdict::Ready)),
            (vec![mutual(0), plaintext(50), mutual(100)], Some(Verdict::NotReady)),
            (vec![mutual(0), refused(50), mutual(100)], Some(Verdict::NotReady)),
        ];
        for (records, expected) in cases {
            let mut readiness = Readiness::default();
            records.iter().for_each(|record| readiness.add(record));
            let ports = readiness.ports(100);
            assert_eq!(ports.first().map(|port| port.verdict), expected, "{records:?}");
        }
        let mut readiness = Readiness::default();
        readiness.add(&plaintext(0));
        assert_eq!(readiness.ports(0)[0].plaintext_callers, BTreeMap::from([("10.0.0.7".to_owned(), 1)]));
    }
}
