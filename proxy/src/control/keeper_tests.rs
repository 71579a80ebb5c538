//! Days of renewal in milliseconds: tokio's time is paused, and the certificates' clock follows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use palisade_certs::TrustBundle;
use palisade_certs::ca::{Authority, RootAuthority};
use palisade_certs::csr::PendingKey;
use palisade_identity::{SpiffeId, TrustDomain};
use palisade_proto::{JoinToken, JoinTokenId, v1};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::issue::{Issue, IssueError, Issued, issued};
use super::source::{ControlPlaneSettings, Shared};
use crate::drain::Drain;
use crate::identity::{Clock, Identity};
use crate::live::Live;
use crate::run::RunError;
use crate::settings::JoinTokenSource;
use crate::settings::control::ControlLimits;

const TTL: Duration = Duration::from_hours(1);

/// The wall clock of a host whose tokio time is paused; `jump` moves it alone, as a suspended host's does.
#[derive(Clone, Debug)]
struct TestClock {
    base: SystemTime,
    start: Instant,
    jumped_seconds: Arc<AtomicU64>,
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        self.base + self.start.elapsed() + Duration::from_secs(self.jumped_seconds.load(Ordering::Relaxed))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Issues,
    Fails,
    Refuses,
}

struct TestIssuer {
    authority: Authority,
    bundle: TrustBundle,
    mood: Arc<Mutex<Mood>>,
    attests: Arc<Mutex<Vec<SystemTime>>>,
    renews: Arc<Mutex<Vec<SystemTime>>>,
}

impl TestIssuer {
    fn answer(&self, now: SystemTime) -> Result<Issued, IssueError> {
        match *self.mood.lock().unwrap() {
            Mood::Issues => {}
            Mood::Fails => return Err(IssueError::Timeout),
            Mood::Refuses => return Err(IssueError::Refused("no".into())),
        }
        let key = PendingKey::generate().unwrap();
        let id = SpiffeId::parse("spiffe://corp.example/ns/a/sa/b").unwrap();
        let made = self.authority.issue(&id, &key.csr_der().unwrap(), TTL, now).unwrap();
        let response = v1::IssueResponse {
            chain_der: made.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            bundle: Some(v1::TrustBundle {
                trust_domain: "corp.example".into(),
                roots_der: self.bundle.roots.iter().map(|root| root.to_vec()).collect(),
            }),
            instance_id: "i".into(),
            labels: BTreeMap::new(),
        };
        issued(response, &key, now)
    }
}

impl Issue for TestIssuer {
    async fn attest(&self, _token: &JoinToken, now: SystemTime) -> Result<Issued, IssueError> {
        self.attests.lock().unwrap().push(now);
        self.answer(now)
    }

    async fn renew(&self, _current: &Identity, now: SystemTime) -> Result<Issued, IssueError> {
        self.renews.lock().unwrap().push(now);
        self.answer(now)
    }
}

struct Bench {
    shared: Shared<TestIssuer>,
    clock: TestClock,
    mood: Arc<Mutex<Mood>>,
    attests: Arc<Mutex<Vec<SystemTime>>>,
    renews: Arc<Mutex<Vec<SystemTime>>>,
    refresh: Notify,
}

impl Bench {
    fn new() -> Self {
        let base = SystemTime::now();
        let clock = TestClock { base, start: Instant::now(), jumped_seconds: Arc::default() };
        let domain = TrustDomain::parse("corp.example").unwrap();
        let root = RootAuthority::generate(&domain, base).unwrap();
        let mood = Arc::new(Mutex::new(Mood::Issues));
        let (attests, renews) = (Arc::default(), Arc::default());
        let issuer = TestIssuer {
            authority: root.intermediate(base).unwrap(),
            bundle: TrustBundle::new(domain, vec![root.certificate().clone()]).unwrap(),
            mood: Arc::clone(&mood),
            attests: Arc::clone(&attests),
            renews: Arc::clone(&renews),
        };
        let token = JoinToken::new(JoinTokenId::new([1; 8]), [2; 32], [3; 32]).to_string();
        let settings = ControlPlaneSettings {
            address: "test:1".into(),
            join_token: Some(JoinTokenSource::Text(token)),
            state_dir: None,
            advertise: None,
            serves: Vec::new(),
            addresses: Default::default(),
        };
        let shared = Shared::new(
            settings,
            issuer,
            ControlLimits::default(),
            Arc::new(Live::default()),
            Arc::default(),
            Arc::new(clock.clone()),
            Drain::new().1,
            None,
        );
        Self { shared, clock, mood, attests, renews, refresh: Notify::new() }
    }

    /// Lets the keeper work for a time; what ended it, if something did.
    async fn run_for(&self, time: Duration) -> Option<RunError> {
        tokio::select! {
            ended = self.shared.keep_identity(&self.refresh) => ended.err(),
            () = sleep(time) => None,
        }
    }

    fn renewed(&self) -> Vec<SystemTime> {
        self.renews.lock().unwrap().clone()
    }

    fn has_identity(&self) -> bool {
        self.shared.live.identity().is_some()
    }

    fn feel(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

fn gaps(times: &[SystemTime]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn renews_at_half_life_for_days() {
    let bench = Bench::new();
    assert!(bench.run_for(Duration::from_hours(48)).await.is_none());
    assert_eq!(bench.attests.lock().unwrap().len(), 1);
    let gaps = gaps(&bench.renewed());
    assert!((85..=107).contains(&gaps.len()), "{}", gaps.len());
    // Half of an hour, give or take a tenth; the fraction of a second is the certificate's rounding.
    let range = Duration::from_secs(1619)..=Duration::from_secs(1981);
    assert!(gaps.iter().all(|gap| range.contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap != gaps[0]), "no jitter");
    assert!(bench.has_identity());
}

#[tokio::test(start_paused = true)]
async fn keeps_the_old_certificate_until_it_expires_and_tries_all_the_while() {
    let bench = Bench::new();
    bench.run_for(Duration::from_secs(1)).await;
    bench.feel(Mood::Fails);
    bench.run_for(Duration::from_mins(59)).await;
    assert!(bench.has_identity());
    let gaps = gaps(&bench.renewed());
    assert!(gaps.len() > 50, "{}", gaps.len());
    assert!(gaps.iter().all(|gap| *gap <= Duration::from_secs(31)), "{gaps:?}");
    assert!(gaps[0] < Duration::from_secs(1), "{gaps:?}");

    bench.run_for(Duration::from_mins(2)).await;
    assert!(!bench.has_identity(), "an expired certificate stayed");
    assert!(bench.attests.lock().unwrap().len() > 1);
    let renews = bench.renewed().len();

    bench.feel(Mood::Issues);
    bench.run_for(Duration::from_mins(1)).await;
    assert!(bench.has_identity());
    assert_eq!(bench.renewed().len(), renews, "an expired certificate renews nothing");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_ends_only_a_proxy_that_never_had_a_certificate() {
    let bench = Bench::new();
    bench.feel(Mood::Refuses);
    assert!(matches!(bench.run_for(Duration::from_secs(1)).await, Some(RunError::Refused(_))));

    let bench = Bench::new();
    bench.run_for(Duration::from_secs(1)).await;
    bench.feel(Mood::Refuses);
    assert!(bench.run_for(Duration::from_hours(3)).await.is_none());
    assert!(!bench.has_identity());
    assert!(bench.shared.status.renewal_failures.get() > 100);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_suspended_renews_soon_after_it_woke() {
    let bench = Bench::new();
    bench.run_for(Duration::from_mins(5)).await;
    assert_eq!(bench.renewed().len(), 0);
    bench.clock.jumped_seconds.store(40 * 60, Ordering::Relaxed);
    bench.run_for(Duration::from_secs(31)).await;
    assert_eq!(bench.renewed().len(), 1);
    assert!(bench.has_identity());

    bench.clock.jumped_seconds.store(5 * 3600, Ordering::Relaxed);
    bench.run_for(Duration::from_secs(31)).await;
    assert_eq!(bench.attests.lock().unwrap().len(), 2, "expired while asleep: attested anew");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_cost_the_certificate() {
    let bench = Bench::new();
    bench.clock.jumped_seconds.store(24 * 3600, Ordering::Relaxed);
    bench.run_for(Duration::from_secs(1)).await;
    bench.clock.jumped_seconds.store(0, Ordering::Relaxed);
    bench.feel(Mood::Fails);
    bench.run_for(Duration::from_mins(10)).await;
    assert!(bench.has_identity());
}
