//! Upstreams that do at random what upstreams do: whatever that is, and whatever a route wants to be tried again, a payment is
//! delivered once at most, unless a RetryPolicy says that it may be repeated.

use std::sync::{Arc, Mutex};

use palisade_tests::Wild;
use palisade_tests::client;
use palisade_tests::wild::{Act, Delivery};

use crate::experiments::experiment;
use crate::kit::{Caller, nobody, request};

const REFUSED_STREAM: u32 = 7;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;
const PAYMENTS: usize = 80;
/// Tries of a request that may be repeated.
const TRIES: usize = 3;

/// Asks for every try that there is.
const AGAIN: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bank, namespace: payments}
spec:
  hosts: [bank.example]
  http:
  - route: [{destination: {host: bank.example}}]
    retries:
      attempts: 2
      perTryTimeout: 100ms
      retryOn: '5xx,gateway-error,reset,connect-failure,refused-stream,retriable-4xx,429'
---
apiVersion: palisade.mesh/v1
kind: RetryPolicy
metadata: {name: bank, namespace: payments}
spec: {host: bank.example, rules: [{match: [{methods: [POST, PATCH]}], idempotencyKey: Idempotency-Key}]}
";

/// SplitMix64 (Steele, Lea, Flood 2014): good enough to draw by, and the same for the same seed.
#[derive(Clone, Debug)]
struct Chance(Arc<Mutex<u64>>);

impl Chance {
    fn draw<T: Copy>(&self, from: &[T]) -> T {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = usize::try_from((z ^ (z >> 31)) % from.len() as u64).unwrap();
        from[drawn]
    }
}

/// Long after the time of one try.
const TOO_LATE: Act = Act::Late(2000);

/// What was really delivered, and what was done then: a server that says that it read nothing has not processed it either.
type Processed = Arc<Mutex<Vec<(String, Act)>>>;

fn script(
    chance: Chance,
    acts: &'static [Act],
    processed: Processed,
) -> impl Fn(&Delivery) -> Act + Send + Sync + 'static {
    move |delivery| {
        // Asked before anything is read, too.
        if delivery.attempt == 0 {
            return chance.draw(&[Act::Slam, Act::Answer(200), Act::Answer(200), Act::Answer(200)]);
        }
        let act = chance.draw(acts);
        if !matches!(act, Act::ResetStream(REFUSED_STREAM) | Act::GoAwayBefore) {
            processed.lock().unwrap().push((String::from_utf8(delivery.body.clone()).unwrap(), act));
        }
        act
    }
}

/// Another one each time; a failure names it, and `PALISADE_TEST_SEED` takes it again.
fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let given = std::env::var("PALISADE_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    given.unwrap_or(u64::try_from(now.as_nanos() % u128::from(u64::MAX)).unwrap())
}

/// Half of the payments bear a key, which their bank knows them by.
fn has_key(n: usize) -> bool {
    n % 2 == 1
}

/// `more`: documents beside the route.
async fn payments_are_delivered_once(http2: bool, acts: &'static [Act], more: &str) {
    let seed = seed();
    let chance = Chance(Arc::new(Mutex::new(seed)));
    let processed = Processed::default();
    let mut servers = Vec::new();
    for _ in 0..3 {
        let script = script(chance.clone(), acts, processed.clone());
        servers.push(if http2 { Wild::http2(script).await } else { Wild::http1(script).await });
    }
    let mut endpoints: Vec<_> = servers.iter().map(Wild::address).collect();
    endpoints.push(nobody());
    let caller =
        Caller::of(&endpoints, if http2 { "HTTP2" } else { "HTTP" }, &format!("{AGAIN}{more}")).await;
    let mut statuses = Vec::new();
    for n in 0..PAYMENTS {
        let id = format!("payment-{n}");
        let mut payment = request(chance.draw(&["POST", "PATCH"]), &id, &id);
        if has_key(n) {
            payment.headers_mut().insert("idempotency-key", id.parse().unwrap());
        }
        let answer = client::try_send(caller.sidecar.http_proxy(), payment).await;
        statuses.push((id, answer.map_or(0, |answer| answer.status.as_u16())));
    }
    let processed = processed.lock().unwrap().clone();
    let (mut repeated, mut again_for_time) = (0, 0);
    for (n, (id, status)) in statuses.iter().enumerate() {
        let acts: Vec<Act> = processed.iter().filter(|(other, _)| other == id).map(|(_, act)| *act).collect();
        let allowed = if has_key(n) { TRIES } else { 1 };
        assert!(acts.len() <= allowed, "{id} was delivered {} times; seed {seed}", acts.len());
        repeated += usize::from(acts.len() > 1);
        assert!(*status != 200 || !acts.is_empty(), "{id} was answered, and not delivered; seed {seed}");
        let is_over = |act: &Act| matches!(*act, TOO_LATE | Act::Stall);
        again_for_time += usize::from(acts.windows(2).any(|pair| is_over(&pair[0])));
        assert!(*status != 200 || !acts.iter().all(is_over), "{id} was answered too late; seed {seed}");
        assert!(has_key(n) || !acts.iter().any(is_over) || *status == 504, "{id}: {status}; seed {seed}");
    }
    assert!(repeated > 0, "nothing that may be was delivered again; seed {seed}");
    assert!(again_for_time > 0, "nothing was delivered again for its time; seed {seed}");
    assert!(processed.len() > PAYMENTS / 4, "{} were delivered at all; seed {seed}", processed.len());
}

#[tokio::test]
async fn whatever_servers_of_http1_do_at_random_a_payment_without_a_key_is_delivered_once_at_most() {
    const ACTS: &[Act] = &[
        Act::Answer(200),
        Act::Answer(200),
        Act::Answer(500),
        Act::Answer(503),
        Act::Answer(409),
        Act::Answer(429),
        Act::Late(20),
        TOO_LATE,
        Act::Stall,
        Act::Reset,
        Act::ResetInBody,
        Act::Garbage,
    ];
    payments_are_delivered_once(false, ACTS, "").await;
}

#[tokio::test]
async fn whatever_servers_of_http2_do_at_random_a_payment_without_a_key_is_delivered_once_at_most() {
    const ACTS: &[Act] = &[
        Act::Answer(200),
        Act::Answer(200),
        Act::Answer(500),
        Act::Reset,
        Act::ResetStream(REFUSED_STREAM),
        Act::ResetStream(INTERNAL_ERROR),
        Act::ResetStream(CANCEL),
        Act::GoAwayBefore,
        Act::GoAwayAfter,
        Act::Garbage,
        TOO_LATE,
        Act::Stall,
    ];
    payments_are_delivered_once(true, ACTS, "").await;
}

/// On top of what servers do.
#[tokio::test]
async fn whatever_experiments_inject_at_random_a_payment_without_a_key_is_delivered_once_at_most() {
    const ACTS: &[Act] = &[Act::Answer(200), Act::Answer(200), Act::Answer(503), TOO_LATE, Act::ResetInBody];
    for fault in ["response: {drop: {}}", "reset: {}"] {
        let experiment = format!("---{}", experiment(fault, "percentage: {value: 30}\n"));
        payments_are_delivered_once(false, ACTS, &experiment).await;
    }
}
