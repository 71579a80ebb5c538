//! What the control plane is told of who called.

use std::net::IpAddr;

use palisade_policy::Snapshot;
use palisade_policy::kind::peer_authentication::MtlsMode;
use palisade_proto::v1;
use palisade_proto::v1::peer_authentication::Mode;
use tokio::time::Instant;

use crate::calls::{Calls, Seen, Source};

/// What there is to tell, and how much of it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallsTold<'a> {
    pub(crate) calls: &'a Calls,
    /// Addresses of each port.
    pub(crate) sources_max: usize,
}

/// The modes in force, port by port; none before the first snapshot.
pub(super) fn modes(
    ports: impl Iterator<Item = u16>,
    snapshot: Option<&Snapshot>,
) -> Vec<(u16, Option<MtlsMode>)> {
    ports.map(|port| (port, snapshot.map(|snapshot| snapshot.mtls_mode(port)))).collect()
}

impl CallsTold<'_> {
    /// The message, for ports with these modes.
    pub(super) fn message(&self, modes: &[(u16, Option<MtlsMode>)]) -> v1::Calls {
        let (now, mut seen) = (Instant::now(), self.calls.seen());
        let ports = modes.iter().map(|(port, mode)| {
            let seen = seen.remove(port).unwrap_or_default();
            v1::PortCalls {
                port: u32::from(*port),
                mode: mode.map_or(Mode::Unspecified, Mode::from).into(),
                ..port_calls(&seen, now, self.sources_max)
            }
        });
        v1::Calls { watched_ms: ms_between(self.calls.started(), now), ports: ports.collect() }
    }
}

fn port_calls(seen: &Seen, now: Instant, sources_max: usize) -> v1::PortCalls {
    let mut sources: Vec<(&IpAddr, &Source)> = seen.sources.iter().collect();
    sources.sort_by_key(|(_, source)| std::cmp::Reverse(source.last(now)));
    let more_sources = seen.more || sources.len() > sources_max;
    sources.truncate(sources_max);
    v1::PortCalls {
        mutual_tls: seen.mutual_tls,
        plaintext: seen.plaintext,
        plaintext_refused: seen.refused,
        plaintext_ms_ago: seen.last_plaintext(now).map(|last| ms_between(last, now)),
        sources: sources.into_iter().map(|(address, source)| to_wire(*address, source, now)).collect(),
        more_sources,
        ..v1::PortCalls::default()
    }
}

fn to_wire(address: IpAddr, source: &Source, now: Instant) -> v1::PlaintextSource {
    v1::PlaintextSource {
        address: address.to_string(),
        calls: source.calls,
        ms_ago: ms_between(source.last(now), now),
    }
}

fn ms_between(then: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tells_of_each_port_and_of_the_newest_addresses_first() {
        let calls = Calls::default();
        let worker = calls.worker(8);
        worker.mutual_tls(80);
        for last in 1..=3 {
            worker.plaintext(80, IpAddr::from([10, 0, 0, last]), false);
            advance(Duration::from_secs(1)).await;
        }
        // Nobody asks for a port that is not served.
        worker.mutual_tls(9);
        let told = CallsTold { calls: &calls, sources_max: 2 };
        let told = told.message(&[(80, Some(MtlsMode::Permissive)), (81, None)]);
        assert_eq!(told.watched_ms, 3000);
        let [http, silent] = told.ports.as_slice() else { panic!("{told:?}") };
        assert_eq!((http.port, http.mode(), http.mutual_tls, http.plaintext), (80, Mode::Permissive, 1, 3));
        let sources = http.sources.iter().map(|s| (s.address.as_str(), s.calls, s.ms_ago));
        assert_eq!(sources.collect::<Vec<_>>(), [("10.0.0.3", 1, 1000), ("10.0.0.2", 1, 2000)]);
        assert!(http.more_sources && http.plaintext_ms_ago == Some(1000), "{http:?}");
        assert_eq!(*silent, v1::PortCalls { port: 81, ..v1::PortCalls::default() });
    }
}
