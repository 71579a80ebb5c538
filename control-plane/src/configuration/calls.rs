//! A proxy's report of who called it, read and bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use palisade_proto::v1;
use tokio::time::Instant;
use tonic::Status;

use crate::limits::Limits;
use crate::registry::{Calls, PortCalls, Source};

/// How often a proxy may report. What comes on top is not looked at: the next report says it, too.
#[derive(Debug)]
pub(super) struct Allowance {
    since: Instant,
    taken: u32,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), taken: 0 }
    }

    pub(super) fn take(&mut self, limits: &Limits) -> bool {
        if self.since.elapsed() >= Duration::from_mins(1) {
            *self = Self::new();
        }
        self.taken = self.taken.saturating_add(1);
        self.taken <= limits.call_reports_per_minute_max
    }
}

/// Reads a report of an instance that serves `ports`. What is no report is refused whole; what is too much is cut, and what
/// cannot be is brought into bounds: a time in plaintext lies within the time that was watched.
pub(super) fn read(calls: v1::Calls, ports: &[u16], limits: &Limits) -> Result<Calls, Status> {
    if calls.ports.len() > limits.served_ports_max {
        return Err(Status::invalid_argument(format!("calls.ports: at most {}", limits.served_ports_max)));
    }
    let watched = Duration::from_millis(calls.watched_ms).min(limits.calls_watched_max);
    let mut sources_left = limits.call_sources_max;
    let mut read = BTreeMap::new();
    for (index, port) in calls.ports.into_iter().enumerate() {
        let wrong = |problem: String| Status::invalid_argument(format!("calls.ports[{index}]: {problem}"));
        let number = u16::try_from(port.port).ok().filter(|number| *number != 0);
        let number = number.ok_or_else(|| wrong(format!("{} is no port number", port.port)))?;
        let of_port = port_calls(port, watched, &mut sources_left).map_err(wrong)?;
        // Hello said what is served. Other ports have no service whose readiness they could tell.
        if ports.contains(&number) && read.insert(number, of_port).is_some() {
            return Err(wrong(format!("port {number} is there twice")));
        }
    }
    Ok(Calls { at: Instant::now(), watched, ports: read })
}

fn port_calls(port: v1::PortCalls, watched: Duration, sources_left: &mut usize) -> Result<PortCalls, String> {
    let mode = port.mode();
    let within = |ms: u64| Duration::from_millis(ms).min(watched);
    let kept = port.sources.len().min(*sources_left);
    *sources_left = sources_left.saturating_sub(kept);
    let more = port.more_sources || kept < port.sources.len();
    let source = |source: v1::PlaintextSource| {
        let address: IpAddr =
            source.address.parse().map_err(|_| "a source is no address of IP".to_owned())?;
        Ok(Source { address: address.to_canonical(), calls: source.calls, ago: within(source.ms_ago) })
    };
    let sources = port.sources.into_iter().take(kept).map(source).collect::<Result<Vec<_>, String>>()?;
    // Plaintext that was counted was there at some time.
    let counted = port.plaintext > 0 || port.plaintext_refused > 0 || !sources.is_empty();
    let plaintext_ago = port.plaintext_ms_ago.or(counted.then_some(0)).map(within);
    Ok(PortCalls {
        mode,
        mutual_tls: port.mutual_tls,
        plaintext: port.plaintext,
        refused: port.plaintext_refused,
        plaintext_ago,
        sources,
        more,
    })
}

#[cfg(test)]
mod tests {
    use palisade_proto::v1::peer_authentication::Mode;
    use tonic::Code;

    use super::*;

    fn source(address: &str) -> v1::PlaintextSource {
        v1::PlaintextSource { address: address.into(), calls: 1, ms_ago: 5 }
    }

    fn port(number: u32, sources: Vec<v1::PlaintextSource>) -> v1::PortCalls {
        v1::PortCalls { port: number, plaintext: 1, sources, ..v1::PortCalls::default() }
    }

    fn check(ports: Vec<v1::PortCalls>) -> Result<Calls, Status> {
        read(v1::Calls { watched_ms: 1000, ports }, &[80, 81], &Limits::default())
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_whole_what_is_no_report() {
        let many = (1..=65).map(|number| port(number, Vec::new())).collect();
        for ports in [
            vec![port(0, Vec::new())],
            vec![port(65_536, Vec::new())],
            vec![port(80, Vec::new()), port(80, Vec::new())],
            vec![port(80, vec![source("10.0.0.1:80")])],
            vec![port(80, vec![source("")])],
            vec![port(80, vec![source("\u{1b}[2J")])],
            many,
        ] {
            assert_eq!(check(ports.clone()).unwrap_err().code(), Code::InvalidArgument, "{ports:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_what_is_too_much_and_brings_times_into_bounds() {
        let limits = Limits::default();
        let many = |n: usize| (0..n).map(|n| source(&format!("10.0.{}.{}", n / 250, n % 250))).collect();
        let at_most = limits.call_sources_max;
        let calls = check(vec![port(80, many(at_most - 1)), port(81, many(9)), port(82, many(1))]).unwrap();
        let kept = |port| (calls.ports[&port].sources.len(), calls.ports[&port].more);
        assert_eq!((kept(80), kept(81)), ((at_most - 1, false), (1, true)));
        assert!(!calls.ports.contains_key(&82), "a port that Hello did not name");

        let long_ago = v1::PlaintextSource { ms_ago: u64::MAX, ..source("::ffff:10.0.0.1") };
        let absurd = v1::PortCalls { mode: 99, plaintext_ms_ago: Some(u64::MAX), ..port(80, vec![long_ago]) };
        let calls = read(v1::Calls { watched_ms: u64::MAX, ports: vec![absurd] }, &[80], &limits).unwrap();
        let of_port = &calls.ports[&80];
        assert_eq!((calls.watched, of_port.mode), (limits.calls_watched_max, Mode::Unspecified));
        assert_eq!(of_port.plaintext_ago, Some(limits.calls_watched_max));
        assert_eq!(of_port.sources[0].address, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(of_port.sources[0].ago, limits.calls_watched_max);
    }

    #[tokio::test(start_paused = true)]
    async fn plaintext_without_a_time_counts_as_of_now() {
        let calls = check(vec![port(80, Vec::new())]).unwrap();
        assert_eq!(calls.ports[&80].plaintext_ago, Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_reports_too_often_is_heard_again_after_a_minute() {
        let limits = Limits::default();
        let mut allowance = Allowance::new();
        for _ in 0..limits.call_reports_per_minute_max {
            assert!(allowance.take(&limits));
        }
        assert!(!allowance.take(&limits));
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(allowance.take(&limits));
    }
}
