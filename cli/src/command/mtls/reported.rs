//! Readiness from what sidecars report to the control plane.

use std::time::Duration;

use palisade_policy::kind::peer_authentication::MtlsMode;
use palisade_policy::readiness::Verdict;
use palisade_policy::readiness::reported::{Because, Reported, Span};
use palisade_proto::v1;
use serde_json::{Value, json};

use super::{Tell, shown};
use crate::admin;
use crate::exit::Outcome;
use crate::output::{or_dash, table};

/// Below the table: what the counts do not say.
const NOTE: &str =
    "Counts go back to the start of each sidecar; what one counted before its restart is forgotten.";

/// Asks the control plane, and prints what is ready for `STRICT`.
pub(super) fn run(admin: &admin::Options, tell: &Tell) -> Outcome {
    admin.with_client(Duration::ZERO, async |mut client| {
        let response = client.mtls_readiness(v1::MtlsReadinessRequest {}).await.map_err(admin::refused)?;
        let ports: Vec<Judged> =
            response.into_inner().ports.into_iter().map(|port| Judged::new(port, tell.observed)).collect();
        let verdicts = ports.iter().map(|port| port.verdict);
        tell.print(
            || rows(&ports),
            || json!({ "ports": ports.iter().map(data).collect::<Vec<_>>() }),
            verdicts,
        )
    })
}

struct Judged {
    port: v1::ServiceCalls,
    verdict: Verdict,
    because: Because,
}

impl Judged {
    fn new(port: v1::ServiceCalls, observed: Duration) -> Self {
        let reported = Reported {
            instances: port.instances,
            reporting: port.reporting,
            watched_seconds: port.watched_seconds,
            mutual_tls: port.mutual_tls,
            plaintext_seconds_ago: port.plaintext_seconds_ago,
        };
        let (verdict, because) = reported.judge(observed.as_secs());
        Self { port, verdict, because }
    }

    /// The modes in force, as documents write them.
    fn modes(&self) -> Vec<&'static str> {
        self.port.modes().filter_map(|mode| MtlsMode::try_from(mode).ok()).map(MtlsMode::name).collect()
    }
}

fn rows(ports: &[Judged]) -> String {
    let head = [
        "STRICT",
        "BECAUSE",
        "SERVICE",
        "PORT",
        "MODE",
        "MUTUAL TLS",
        "PLAINTEXT",
        "REFUSED",
        "WATCHED SINCE",
        "CALLS IN PLAINTEXT",
    ];
    let rows = table(head, ports.iter().map(row));
    format!("{rows}\n{NOTE}")
}

fn row(judged: &Judged) -> [String; 10] {
    let port = &judged.port;
    let caller = |caller: &v1::PlaintextCaller| {
        format!("{} ({}, {} ago)", caller.address, caller.calls, Span(caller.seconds_ago))
    };
    let mut callers: Vec<String> = port.callers.iter().map(caller).collect();
    callers.extend(port.more_callers.then(|| "and more".to_owned()));
    [
        shown(judged.verdict).to_owned(),
        judged.because.to_string(),
        port.spiffe_id.clone(),
        port.port.to_string(),
        or_dash(judged.modes().join("/")),
        port.mutual_tls.to_string(),
        port.plaintext.to_string(),
        port.plaintext_refused.to_string(),
        or_dash(port.watched_since.clone()),
        or_dash(callers.join(" ")),
    ]
}

fn data(judged: &Judged) -> Value {
    let port = &judged.port;
    let source = |caller: &v1::PlaintextCaller| {
        json!({
            "address": caller.address,
            "calls": caller.calls,
            "last_seen": caller.last_seen,
            "seconds_ago": caller.seconds_ago,
        })
    };
    json!({
        "service": port.spiffe_id,
        "port": port.port,
        "verdict": judged.verdict,
        "because": judged.because.to_string(),
        "modes": judged.modes(),
        "instances": port.instances,
        "reporting": port.reporting,
        "watched_since": (!port.watched_since.is_empty()).then_some(&port.watched_since),
        "watched_seconds": port.watched_seconds,
        "mutual_tls": port.mutual_tls,
        "plaintext": port.plaintext,
        "plaintext_refused": port.plaintext_refused,
        "plaintext_seconds_ago": port.plaintext_seconds_ago,
        "plaintext_sources": port.callers.iter().map(source).collect::<Vec<_>>(),
        "more_sources": port.more_callers,
    })
}

#[cfg(test)]
mod tests {
    use palisade_proto::v1::peer_authentication::Mode;

    use super::*;

    fn port() -> v1::ServiceCalls {
        v1::ServiceCalls {
            spiffe_id: "spiffe://a.example/ns/b/sa/ledger".into(),
            port: 8080,
            modes: vec![Mode::Permissive.into(), Mode::Strict.into()],
            instances: 1,
            reporting: 1,
            watched_seconds: Some(7200),
            watched_since: "2026-11-30T10:00:00Z".into(),
            mutual_tls: 5,
            ..v1::ServiceCalls::default()
        }
    }

    fn judged(port: v1::ServiceCalls) -> Judged {
        Judged::new(port, Duration::from_hours(1))
    }

    #[test]
    fn shows_verdict_mode_counts_and_where_plaintext_comes_from() {
        let caller = v1::PlaintextCaller {
            address: "10.0.0.7".into(),
            calls: 4,
            last_seen: "2026-11-30T11:58:00Z".into(),
            seconds_ago: 120,
        };
        let loud = v1::ServiceCalls {
            plaintext: 4,
            plaintext_seconds_ago: Some(120),
            callers: vec![caller],
            more_callers: true,
            ..port()
        };
        let silent = v1::ServiceCalls { instances: 1, ..v1::ServiceCalls::default() };
        let ports = [judged(port()), judged(loud), judged(silent)];
        let text = rows(&ports);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(
            lines[1][..5],
            ["ready", "no plaintext", "spiffe://a.example/ns/b/sa/ledger", "8080", "PERMISSIVE/STRICT"]
        );
        assert_eq!(lines[2][..2], ["NOT READY", "plaintext 2m ago"]);
        assert_eq!(lines[2].last(), Some(&"10.0.0.7 (4, 2m ago) and more"));
        assert_eq!(lines[3][..2], ["unknown", "no report"]);
        let value = data(&ports[1]);
        assert_eq!(
            (&value["verdict"], &value["plaintext_sources"][0]["address"]),
            (&json!("not_ready"), &json!("10.0.0.7"))
        );
        assert_eq!(data(&ports[2])["watched_since"], json!(null));
    }
}
