//! The script that counts for all proxies, against the arithmetic that counts within one: the same decisions.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use http::HeaderMap;
use palisade_policy::kind::rate_limit_policy::{KeyPart, Limit, Mode, OnStoreFailure, Scope};
use palisade_policy::kind::request_match::RequestMatch;
use palisade_proxy::limit::{Asked, Limiter, Standing};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::store::Store;

/// As it is shipped, to the letter.
const SCRIPT: &str = include_str!("../../../proxy/src/limit/mesh/take.lua");

/// Stands before the script and gives it the test's clock, by which keys expire, too: as Redis has it, one is gone in the
/// first millisecond after its last. The two arguments after the script's own are seconds and microseconds.
const CLOCK: &str = r"
local store, sec, usec = redis, ARGV[#ARGV - 1], ARGV[#ARGV]
local ms = math.floor((sec * 1000000 + usec) / 1000)
local redis = {call = function(verb, key, value, px, lasts)
  if verb == 'TIME' then return {sec, usec} end
  if verb == 'SET' then
    assert(px == 'PX')
    return store.call('SET', key, string.format('%.0f|%s', ms + lasts, value))
  end
  assert(verb == 'GET')
  local last, kept = string.match(store.call('GET', key) or '', '^(%d+)|(.*)$')
  return last and ms <= tonumber(last) and kept
end}
";

/// Microseconds since 1970 when a sequence begins, in 2024: a whole number of the granules of all windows below.
const BEGIN: u64 = 5_760_000_000 * 300_000;

const SECOND: u64 = 1_000_000;

fn limit(limit: u32, window: u64, burst: Option<u32>, mode: Mode) -> Limit {
    Limit {
        id: "id".into(),
        title: "n/p/a".into(),
        name: "a".into(),
        matches: RequestMatch::default(),
        key: [KeyPart::Address].into(),
        limit,
        window: Duration::from_micros(window),
        burst,
        cost: 1,
        scope: Scope::Mesh(OnStoreFailure::Deny),
        mode,
        headers: true,
    }
}

/// Room and what is left, or none; and microseconds, rounded up.
type Answer = (Option<u32>, u64);

/// The script in a store, its clock, and a name for each sequence.
struct Script {
    connection: redis::Connection,
    text: String,
    sequences: u32,
}

impl Script {
    fn of(store: &Store) -> Self {
        let connection = redis::Client::open(store.url()).unwrap().get_connection().unwrap();
        Self { connection, text: format!("{CLOCK}{SCRIPT}"), sequences: 0 }
    }

    /// One question about all of these limits, at a time in microseconds since 1970.
    fn take(&mut self, limits: &[Limit], now: u64, cost: u32) -> Vec<Answer> {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.text).arg(limits.len());
        for n in 0..limits.len() {
            command.arg(format!("{}-{n}", self.sequences));
        }
        for limit in limits {
            let window = u64::try_from(limit.window.as_micros()).unwrap();
            let refuses = u64::from(limit.mode == Mode::Enforce);
            let burst = limit.burst.unwrap_or(0).into();
            command.arg(&[limit.limit.into(), window, burst, cost.into(), refuses]);
        }
        let numbers: Vec<u64> =
            command.arg(&[now / SECOND, now % SECOND]).query(&mut self.connection).unwrap();
        assert_eq!(numbers.len(), limits.len() * 3);
        let answers = numbers.chunks(3).map(|one| (one[0] == 1, u32::try_from(one[1]).unwrap(), one[2]));
        answers.map(|(room, left, wait)| (room.then_some(left), wait)).collect()
    }
}

fn ask(limiter: &Limiter<FakeRelativeClock>, limit: &Limit, client: u8, cost: u32) -> Answer {
    let (headers, address) = (HeaderMap::new(), IpAddr::from(Ipv4Addr::new(192, 0, 2, client)));
    let asked = Asked { address, headers: &headers, token: None };
    let micros = |time: Duration| u64::try_from(time.as_nanos().div_ceil(1000)).unwrap();
    match limiter.take(&Limit { cost, ..limit.clone() }, &asked) {
        Ok(Standing { remaining, back }) => (Some(remaining), micros(back)),
        Err(wait) => (None, micros(wait)),
    }
}

/// What a proxy alone says at `now`, when it let these through before: times in microseconds and costs.
fn alone(limit: &Limit, passed: &[(u64, u32)], now: u64, cost: u32) -> Answer {
    let clock = FakeRelativeClock::default();
    let limiter = Limiter::with_clock(10, clock.clone());
    // Another client's request makes the state, so that its time begins where the sequence does.
    ask(&limiter, limit, 1, 1);
    let mut at = BEGIN;
    let mut advance = |to: u64| {
        clock.advance(Duration::from_micros(to - at));
        at = to;
    };
    for (when, cost) in passed {
        advance(*when);
        assert!(ask(&limiter, limit, 2, *cost).0.is_some());
    }
    advance(now);
    ask(&limiter, limit, 2, cost)
}

/// How far the clock goes before a request.
#[derive(Clone, Copy, Debug)]
enum Pause {
    None,
    Micros(u64),
    /// Thousandths of the first limit's window.
    Share(u64),
    /// As long as the last answer said, or a microsecond less.
    AsTold,
    ShortOfTold,
}

fn pauses() -> impl Strategy<Value = Pause> {
    prop_oneof![
        3 => Just(Pause::None),
        1 => (1..1000_u64).prop_map(Pause::Micros),
        4 => (1..200_u64).prop_map(Pause::Share),
        1 => (200..2500_u64).prop_map(Pause::Share),
        2 => Just(Pause::AsTold),
        2 => Just(Pause::ShortOfTold),
    ]
}

/// Sliding windows. Where requests share entries, the two agree to the microsecond when a fifteenth of the window is a
/// whole number of them.
fn windows() -> impl Strategy<Value = (u32, u64, Option<u32>)> {
    let coarse = prop::sample::select(vec![15, 60, 3600, 86_400]).prop_map(|s| s * SECOND);
    prop_oneof![
        (1..=16_u32, (1_000_000..90_000_000_u64)).prop_map(|(most, window)| (most, window, None)),
        (17..200_u32, coarse).prop_map(|(most, window)| (most, window, None)),
    ]
}

/// Token buckets. They agree to the microsecond when a request's share of the window is a whole number of them; and one of
/// these is more than the billionth of a request that the script lets off for floating point numbers.
fn buckets() -> impl Strategy<Value = (u32, u64, Option<u32>)> {
    let most = prop::sample::select(vec![1, 2, 3, 5, 8, 10, 12, 30, 60, 100, 1000]);
    let window = prop::sample::select(vec![15, 60]).prop_map(|s| s * 1_000_000 * 2);
    (most, window, 1..50_u32).prop_map(|(most, window, burst)| (most, window, Some(burst)))
}

/// One to three limits of a request, the first of which refuses; and what comes: pauses and costs.
fn sequences() -> impl Strategy<Value = (Vec<Limit>, Vec<(Pause, u32)>)> {
    let numbers = prop_oneof![windows(), buckets()];
    let limits = prop::collection::vec((numbers, any::<bool>()), 1..4).prop_map(|all| {
        let mut limits = Vec::new();
        for ((most, window, burst), refuses) in all {
            let mode = if limits.is_empty() || refuses { Mode::Enforce } else { Mode::Shadow };
            limits.push(limit(most, window, burst, mode));
        }
        limits
    });
    (limits, prop::collection::vec((pauses(), 0..6_u32), 1..80))
}

/// Runs a sequence in both, and says where they part.
fn compare(script: &mut Script, limits: &[Limit], steps: &[(Pause, u32)]) -> Result<(), TestCaseError> {
    script.sequences += 1;
    let most = limits.iter().map(|limit| limit.burst.unwrap_or(limit.limit)).min().unwrap();
    let mut passed = vec![Vec::new(); limits.len()];
    let (mut now, mut told) = (BEGIN, 0);
    for (pause, cost) in steps {
        let cost = 1 + cost % most.min(4);
        now += match pause {
            Pause::None => 0,
            Pause::Micros(n) => *n,
            Pause::Share(n) => u64::try_from(limits[0].window.as_micros()).unwrap() * n / 1000,
            Pause::AsTold => told,
            Pause::ShortOfTold => told.saturating_sub(1),
        };
        let mesh = script.take(limits, now, cost);
        let alone: Vec<_> =
            limits.iter().zip(&passed).map(|(limit, passed)| alone(limit, passed, now, cost)).collect();
        for ((limit, mesh), alone) in limits.iter().zip(&mesh).zip(&alone) {
            let at = now - BEGIN;
            prop_assert_eq!(mesh.0, alone.0, "what is left {} us in, of {:?}", at, limit);
            // The bucket's floating point numbers may round up to the next one.
            let apart = mesh.1.abs_diff(alone.1);
            prop_assert!(
                apart <= u64::from(limit.burst.is_some()),
                "{mesh:?} {alone:?} at {at} of {limit:?}"
            );
        }
        told = alone[0].1;
        // From all that have room, or from none.
        let refuses = |(limit, answer): (&Limit, &Answer)| limit.mode == Mode::Enforce && answer.0.is_none();
        if !limits.iter().zip(&alone).any(refuses) {
            let takes = passed.iter_mut().zip(&alone).filter(|(_, answer)| answer.0.is_some());
            takes.for_each(|(passed, _)| passed.push((now, cost)));
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_script_and_a_proxy_alone_decide_the_same_of_any_sequence() {
    let store = Store::start(None).await;
    let mut script = Script::of(&store);
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    // The same sequences in every run.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let script = std::cell::RefCell::new(&mut script);
    let ran = TestRunner::new_with_rng(config, rng)
        .run(&sequences(), |(limits, steps)| compare(&mut script.borrow_mut(), &limits, &steps));
    assert!(ran.is_ok(), "{}", ran.unwrap_err());
}

#[tokio::test]
async fn a_store_whose_clock_went_back_holds_quota_no_longer_than_a_window() {
    let store = Store::start(None).await;
    let mut script = Script::of(&store);
    for burst in [false, true] {
        script.sequences += 1;
        let of = |most: u32| limit(most, 60 * SECOND, burst.then_some(most), Mode::Enforce);
        // Of the second there is one left.
        let limits = [of(2), of(3)];
        let lefts = |answers: Vec<Answer>| answers.iter().map(|answer| answer.0).collect::<Vec<_>>();
        assert_eq!(lefts(script.take(&limits, BEGIN, 2)), [Some(0), Some(1)]);
        let now = BEGIN - 3600 * SECOND;
        let answers = script.take(&limits, now, 1);
        let wait = answers[0].1;
        assert!(wait <= 60 * SECOND, "{burst}: {wait}");
        assert_eq!(lefts(answers), [None, Some(0)], "{burst}: the clock's step gave quota back");
        // Asking meanwhile makes it no longer.
        assert_eq!(script.take(&limits[..1], now + wait - 1, 1)[0].0, None, "{burst}");
        let whole = now + 60 * SECOND;
        assert_eq!(lefts(script.take(&limits, whole, 2)), [Some(0), Some(1)], "{burst}");
    }
}

#[tokio::test]
async fn the_clock_of_the_test_is_that_of_the_store_but_for_its_hands() {
    // The shipped script alone, on the store's own clock and with the store's own expiry.
    let store = Store::start(None).await;
    let mut script = Script::of(&store);
    SCRIPT.clone_into(&mut script.text);
    for (n, burst) in [None, Some(2)].into_iter().enumerate() {
        script.sequences += 1;
        let two = [limit(2, 3600 * SECOND, burst, Mode::Enforce)];
        assert_eq!(script.take(&two, BEGIN, 1)[0].0, Some(1));
        assert_eq!(script.take(&two, BEGIN, 1)[0].0, Some(0));
        let (room, wait) = script.take(&two, BEGIN, 1)[0];
        assert!(room.is_none() && (1700 * SECOND..=3600 * SECOND).contains(&wait), "{wait}");
        let left: u64 = store.ask(&["PTTL", &format!("{}-0", n + 1)]).await.trim().parse().unwrap();
        assert!((3_500_000..=3_600_002).contains(&left), "{left}");
    }
}
