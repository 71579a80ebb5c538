//! Who called the ports of services, as the sidecars of their instances reported it. In memory: a proxy says all of it
//! again on every stream, so that a restart of the control plane forgets only instances that are gone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palisade_identity::SpiffeId;
use palisade_proto::v1;
use palisade_proto::v1::peer_authentication::Mode;
use tokio::time::Instant;

use super::Instance;
use crate::clock::{rfc3339, to_seconds};

/// What the sidecar of one instance said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Calls {
    /// When it came. Everything below is as of then.
    pub(crate) at: Instant,
    /// How far back it goes.
    pub(crate) watched: Duration,
    pub(crate) ports: BTreeMap<u16, PortCalls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortCalls {
    pub(crate) mode: Mode,
    pub(crate) mutual_tls: u64,
    pub(crate) plaintext: u64,
    pub(crate) refused: u64,
    /// How long ago the last plaintext was.
    pub(crate) plaintext_ago: Option<Duration>,
    pub(crate) sources: Vec<Source>,
    /// Not all addresses are among `sources`.
    pub(crate) more: bool,
}

/// An address that called in plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) address: IpAddr,
    pub(crate) calls: u64,
    /// How long ago its last call was.
    pub(crate) ago: Duration,
}

/// What an answer may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// A report that is older is none.
    pub(crate) age_max: Duration,
    /// Addresses of each port of a service.
    pub(crate) callers_max: usize,
}

/// One port of a service, all of its instances together.
#[derive(Default)]
struct Sum {
    instances: u32,
    reporting: u32,
    /// Of the instance that was started last.
    watched: Option<Duration>,
    modes: BTreeSet<Mode>,
    mutual_tls: u64,
    plaintext: u64,
    refused: u64,
    plaintext_ago: Option<Duration>,
    callers: BTreeMap<IpAddr, (u64, Duration)>,
    more: bool,
}

/// Every port that an instance serves. `now`: for showing times.
pub(super) fn services(
    instances: &BTreeMap<String, Instance>,
    now: SystemTime,
    bounds: Bounds,
) -> Vec<v1::ServiceCalls> {
    let mut sums: BTreeMap<(&SpiffeId, u16), Sum> = BTreeMap::new();
    for instance in instances.values() {
        for served in &instance.serves {
            let sum = sums.entry((&instance.workload.id, served.number)).or_default();
            sum.add(instance, served.number, bounds);
        }
    }
    sums.into_iter().map(|((id, port), sum)| sum.into_wire(id, port, now, bounds)).collect()
}

impl Sum {
    /// An instance that is gone proves nothing any more by its silence, but what it saw was seen.
    fn add(&mut self, instance: &Instance, port: u16, bounds: Bounds) {
        let is_here = instance.is_connected() || instance.is_published();
        self.instances += u32::from(is_here);
        let Some(calls) = &instance.calls else { return };
        let Some(seen) = calls.ports.get(&port) else { return };
        let age = calls.at.elapsed();
        if is_here && age <= bounds.age_max {
            self.reporting += 1;
            let watched = calls.watched.saturating_add(age);
            self.watched = Some(self.watched.map_or(watched, |least| least.min(watched)));
            self.modes.extend((seen.mode != Mode::Unspecified).then_some(seen.mode));
        }
        self.mutual_tls = self.mutual_tls.saturating_add(seen.mutual_tls);
        self.plaintext = self.plaintext.saturating_add(seen.plaintext);
        self.refused = self.refused.saturating_add(seen.refused);
        self.more |= seen.more;
        if let Some(ago) = seen.plaintext_ago.map(|ago| ago.saturating_add(age)) {
            self.plaintext_ago = Some(self.plaintext_ago.map_or(ago, |least| least.min(ago)));
        }
        for source in &seen.sources {
            let ago = source.ago.saturating_add(age);
            let (calls, last) = self.callers.entry(source.address).or_insert((0, ago));
            *calls = calls.saturating_add(source.calls);
            *last = ago.min(*last);
        }
    }

    fn into_wire(self, id: &SpiffeId, port: u16, now: SystemTime, bounds: Bounds) -> v1::ServiceCalls {
        let at = |ago: Duration| rfc3339(to_seconds(now.checked_sub(ago).unwrap_or(UNIX_EPOCH)));
        // Half of them say nothing of the callers of the others.
        let watched = self.watched.filter(|_| self.reporting == self.instances);
        let mut callers: Vec<_> = self.callers.into_iter().collect();
        callers.sort_by_key(|(_, (calls, ago))| (*ago, Reverse(*calls)));
        let more_callers = self.more || callers.len() > bounds.callers_max;
        callers.truncate(bounds.callers_max);
        let caller = |(address, (calls, ago)): (IpAddr, (u64, Duration))| v1::PlaintextCaller {
            address: address.to_string(),
            calls,
            last_seen: at(ago),
            seconds_ago: ago.as_secs(),
        };
        v1::ServiceCalls {
            spiffe_id: id.to_string(),
            port: port.into(),
            modes: self.modes.into_iter().map(i32::from).collect(),
            instances: self.instances,
            reporting: self.reporting,
            watched_seconds: watched.map(|watched| watched.as_secs()),
            watched_since: watched.map(at).unwrap_or_default(),
            mutual_tls: self.mutual_tls,
            plaintext: self.plaintext,
            plaintext_refused: self.refused,
            plaintext_seconds_ago: self.plaintext_ago.map(|ago| ago.as_secs()),
            callers: callers.into_iter().map(caller).collect(),
            more_callers,
        }
    }
}
