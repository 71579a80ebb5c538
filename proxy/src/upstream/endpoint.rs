//! One endpoint of a cluster: what is under way at it, how fast it answers, and how it has answered of late. Shared by all
//! workers, without locks: every number is one that may be a little old.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use palisade_policy::traffic::OutlierDetection;

use super::balance::of_bytes;

/// How an attempt ended, as far as it says something about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It answered with this status; a gRPC status is told by the HTTP status that it stands for.
    Status(u16),
    /// It did not answer: no connection, a reset, or not in time.
    Local(Local),
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    Connect,
    Reset,
    Timeout,
}

/// Why an endpoint is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    Consecutive5xx,
    ConsecutiveGateway,
    ConsecutiveLocal,
    SuccessRate,
}

impl Cause {
    /// In logs, metrics and admin pages; Envoy's names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGateway => "consecutive_gateway_failure",
            Self::ConsecutiveLocal => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
        }
    }

    fn of(number: u32) -> Option<Self> {
        [Self::Consecutive5xx, Self::ConsecutiveGateway, Self::ConsecutiveLocal, Self::SuccessRate]
            .into_iter()
            .find(|cause| cause.number() == number)
    }

    fn number(self) -> u32 {
        match self {
            Self::Consecutive5xx => 1,
            Self::ConsecutiveGateway => 2,
            Self::ConsecutiveLocal => 3,
            Self::SuccessRate => 4,
        }
    }
}

/// What is to be told of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: &'static str,
    /// Why it is left out.
    pub(crate) cause: Option<Cause>,
    /// For how long still.
    pub(crate) left: Option<Duration>,
    pub(crate) ejections: u32,
}

/// Of a new latency, so much goes into the mean (in 256ths): some ten answers make up for all before.
const LATENCY_SHARE: u64 = 64;

/// How long an answer at least took, and at most, in whose place somebody was turned away.
const TURNED_AWAY_MIN: Duration = Duration::from_millis(100);
const TURNED_AWAY_MAX: Duration = Duration::from_secs(10);

/// One address of one cluster.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// Milliseconds since the proxy's start.
    pub(crate) since: u64,
    /// What keys are hashed with to find their endpoint: the same at every proxy.
    pub(super) place: u64,
    active: AtomicU32,
    /// Mean time to the answer's head in microseconds, newer ones counting more; 0: not known.
    latency: AtomicU64,
    /// Whether anything was measured since the last look.
    measured: AtomicBool,
    row_5xx: AtomicU32,
    row_gateway: AtomicU32,
    row_local: AtomicU32,
    /// Within the interval.
    answers: AtomicU32,
    good: AtomicU32,
    /// Left out until then, in milliseconds since the proxy's start; 0: it is not.
    pub(super) out_until: AtomicU64,
    pub(super) cause: AtomicU32,
    /// That it is back has not been told yet.
    is_missed: AtomicBool,
    /// How often it was left out; grows the time, and shrinks again.
    pub(super) times: AtomicU32,
    /// No connection could be made: tried last until then.
    pub(super) avoided_until: AtomicU64,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr, since: u64) -> Self {
        Self {
            address,
            since,
            place: of_bytes(address.to_string().as_bytes()),
            active: AtomicU32::default(),
            latency: AtomicU64::default(),
            measured: AtomicBool::default(),
            row_5xx: AtomicU32::default(),
            row_gateway: AtomicU32::default(),
            row_local: AtomicU32::default(),
            answers: AtomicU32::default(),
            good: AtomicU32::default(),
            out_until: AtomicU64::default(),
            cause: AtomicU32::default(),
            is_missed: AtomicBool::default(),
            times: AtomicU32::default(),
            avoided_until: AtomicU64::default(),
        }
    }

    pub(super) fn enter(&self) {
        self.active.fetch_add(1, Relaxed);
    }

    pub(super) fn leave(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    /// Requests under way.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Mean time to the answer's head; zero where nothing was measured of late.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_micros(self.latency.load(Relaxed))
    }

    /// Less is better: what is under way, times how long each takes.
    pub(super) fn cost(&self, latency_known: bool) -> u64 {
        let waiting = u64::from(self.active()).saturating_add(1);
        if latency_known { waiting.saturating_mul(self.latency.load(Relaxed)) } else { waiting }
    }

    /// An answer's head came after this time.
    pub(crate) fn took(&self, time: Duration) {
        let new = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        let old = self.latency.load(Relaxed);
        // Two at once: one of them is lost, which a mean can bear.
        let mean = if old == 0 { new } else { (old * (256 - LATENCY_SHARE) + new * LATENCY_SHARE) / 256 };
        self.latency.store(mean.max(1), Relaxed);
        self.measured.store(true, Relaxed);
    }

    /// Counts as an answer that took twice as long as they do, and 100 ms at least: the more of them, the fewer requests come
    /// here, and all of that is forgotten as answers are.
    pub(crate) fn turned_away(&self) {
        let twice = Duration::from_micros(self.latency.load(Relaxed).saturating_mul(2));
        self.took(twice.clamp(TURNED_AWAY_MIN, TURNED_AWAY_MAX));
    }

    /// Once a second. One that nobody asks any more is forgotten bit by bit, so that it is asked again.
    pub(super) fn forget(&self) {
        if !self.measured.swap(false, Relaxed) {
            let old = self.latency.load(Relaxed);
            self.latency.store(old * 7 / 10, Relaxed);
        }
    }

    /// Counts what was seen. Says why the endpoint should be left out, if it should.
    pub(crate) fn saw(&self, seen: Seen, rules: &OutlierDetection) -> Option<Cause> {
        let status = match seen {
            Seen::Status(status) => status,
            Seen::Local(_) if rules.split_local => {
                return reached(&self.row_local, rules.consecutive_local).then_some(Cause::ConsecutiveLocal);
            }
            // As Envoy takes them where they are not counted apart.
            Seen::Local(Local::Timeout) => 504,
            Seen::Local(Local::Connect | Local::Reset) => 503,
        };
        self.answers.fetch_add(1, Relaxed);
        if matches!(seen, Seen::Status(_)) {
            clear(&self.row_local);
        }
        if status < 500 {
            self.good.fetch_add(1, Relaxed);
            clear(&self.row_5xx);
            clear(&self.row_gateway);
            return None;
        }
        let gateway = if matches!(status, 502..=504) {
            reached(&self.row_gateway, rules.consecutive_gateway)
        } else {
            clear(&self.row_gateway);
            false
        };
        if reached(&self.row_5xx, rules.consecutive_5xx) {
            return Some(Cause::Consecutive5xx);
        }
        gateway.then_some(Cause::ConsecutiveGateway)
    }

    /// What came within the interval, and begins the next: answers, and good ones among them.
    pub(super) fn interval(&self) -> (u32, u32) {
        (self.answers.swap(0, Relaxed), self.good.swap(0, Relaxed))
    }

    /// Why it is left out now, if it is.
    pub(crate) fn out(&self, now: u64) -> Option<Cause> {
        if self.out_until.load(Relaxed) <= now { None } else { Cause::of(self.cause.load(Relaxed)) }
    }

    /// What it was left out for, once when it is back.
    pub(super) fn back(&self, now: u64) -> Option<Cause> {
        let is_back = self.out_until.load(Relaxed) <= now && self.is_missed.swap(false, Relaxed);
        if is_back { Cause::of(self.cause.load(Relaxed)) } else { None }
    }

    pub(crate) fn standing(&self, now: u64) -> Standing {
        let left = |until: u64| Duration::from_millis(until.saturating_sub(now));
        let ejections = self.times.load(Relaxed);
        if let Some(cause) = self.out(now) {
            let left = Some(left(self.out_until.load(Relaxed)));
            return Standing { state: "ejected", cause: Some(cause), left, ejections };
        }
        if self.is_avoided(now) {
            let left = Some(left(self.avoided_until.load(Relaxed)));
            return Standing { state: "avoided", cause: None, left, ejections };
        }
        Standing { state: "healthy", cause: None, left: None, ejections }
    }

    pub(super) fn set_out(&self, cause: Cause, until: u64) {
        self.cause.store(cause.number(), Relaxed);
        self.out_until.store(until, Relaxed);
        self.is_missed.store(true, Relaxed);
        for row in [&self.row_5xx, &self.row_gateway, &self.row_local] {
            clear(row);
        }
    }

    /// Whether it is one of those that are tried first.
    pub(super) fn is_avoided(&self, now: u64) -> bool {
        self.avoided_until.load(Relaxed) > now
    }
}

/// Counts one more in a row; whether that is as many as are borne. 0: any number is.
fn reached(row: &AtomicU32, borne: u32) -> bool {
    let now = row.fetch_add(1, Relaxed).saturating_add(1);
    borne != 0 && now >= borne
}

/// Most rows are empty, and a look is cheaper than a write that other cores hear of.
fn clear(row: &AtomicU32) {
    if row.load(Relaxed) != 0 {
        row.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::new(SocketAddr::from(([127, 0, 0, 1], 1)), 0)
    }

    fn first_cause(rules: &OutlierDetection, all: &[Seen]) -> Option<(usize, Cause)> {
        let endpoint = endpoint();
        all.iter().enumerate().find_map(|(i, seen)| Some((i, endpoint.saw(*seen, rules)?)))
    }

    #[test]
    fn an_endpoint_is_left_out_for_what_it_did_in_a_row() {
        use Cause::{Consecutive5xx, ConsecutiveGateway, ConsecutiveLocal};
        use Seen::{Local as L, Status as S};
        let split = |five, gateway, local| OutlierDetection {
            consecutive_5xx: five,
            consecutive_gateway: gateway,
            consecutive_local: local,
            split_local: true,
            ..OutlierDetection::default()
        };
        let whole = |five, gateway| OutlierDetection { split_local: false, ..split(five, gateway, 1) };
        let (connect, reset, late) = (L(Local::Connect), L(Local::Reset), L(Local::Timeout));
        type Row<'r> = (OutlierDetection, &'r [Seen], Option<(usize, Cause)>);
        let rows: &[Row<'_>] = &[
            (whole(3, 0), &[S(500), S(500), S(500)], Some((2, Consecutive5xx))),
            (whole(3, 0), &[S(500), S(200), S(500), S(500)], None),
            (whole(3, 0), &[S(500), S(404), S(500), S(500)], None),
            (whole(3, 0), &[S(500), connect, late], Some((2, Consecutive5xx))),
            (whole(0, 0), &[S(500); 50], None),
            (whole(0, 2), &[S(500), S(500), S(503), S(502)], Some((3, ConsecutiveGateway))),
            (whole(0, 2), &[S(503), S(500), S(503)], None),
            (whole(0, 2), &[reset, late], Some((1, ConsecutiveGateway))),
            // Counted apart, failures of connections are no answers, and answers end their row.
            (split(2, 2, 3), &[connect, reset, late], Some((2, ConsecutiveLocal))),
            (split(2, 2, 3), &[connect, reset, S(500), late, reset], None),
            (split(1, 0, 0), &[connect; 9], None),
        ];
        for (rules, seen, expected) in rows {
            assert_eq!(first_cause(rules, seen), *expected, "{seen:?} {rules:?}");
        }
    }

    #[test]
    fn latency_follows_the_newer_answers_and_is_forgotten_when_there_are_none() {
        let endpoint = endpoint();
        assert_eq!(endpoint.latency(), Duration::ZERO);
        endpoint.took(Duration::from_millis(10));
        assert_eq!(endpoint.latency(), Duration::from_millis(10));
        for _ in 0..20 {
            endpoint.took(Duration::from_millis(100));
        }
        assert!(endpoint.latency() > Duration::from_millis(95), "{:?}", endpoint.latency());
        endpoint.forget();
        let before = endpoint.latency();
        assert!(before > Duration::from_millis(95), "measured within the second");
        for _ in 0..60 {
            endpoint.forget();
        }
        assert_eq!(endpoint.latency(), Duration::ZERO);
    }
}
