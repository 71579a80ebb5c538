//! Exact under concurrency, bounded under many keys, and nobody's quota comes back early.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU32;

use governor::clock::FakeRelativeClock;
use http::{HeaderMap, HeaderValue};
use palisade_policy::kind::rate_limit_policy::{KeyPart, Mode, Scope};
use palisade_policy::kind::request_match::RequestMatch;
use palisade_policy::request::token::Token;

use super::*;

fn limit(limit: u32, key: &[KeyPart]) -> Limit {
    Limit {
        id: format!("bank/p/a {limit}").into(),
        title: "bank/p/a".into(),
        name: "a".into(),
        matches: RequestMatch::default(),
        key: key.into(),
        limit,
        window: Duration::from_secs(60),
        burst: None,
        cost: 1,
        scope: Scope::Instance,
        mode: Mode::Enforce,
        headers: true,
    }
}

fn take<C: Clock + Clone>(
    limiter: &Limiter<C>,
    limit: &Limit,
    address: impl Into<IpAddr>,
) -> Result<Standing, Duration> {
    let headers = HeaderMap::new();
    limiter.take(limit, &Asked { address: address.into(), headers: &headers, token: None })
}

fn v4(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(n)
}

#[test]
fn ten_threads_get_exactly_the_limit() {
    let limiter = Limiter::with_clock(1000, FakeRelativeClock::default());
    let hundred = limit(100, &[KeyPart::Address]);
    let passed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    if take(&limiter, &hundred, v4(1)).is_ok() {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 100);
}

fn left(remaining: u32, back: u64) -> Result<Standing, Duration> {
    Ok(Standing { remaining, back: Duration::from_secs(back) })
}

/// One client's requests: when they come, in seconds, and what they are told.
fn assert_answers(limit: &Limit, rows: &[(u64, Result<Standing, Duration>)]) {
    let clock = FakeRelativeClock::default();
    let limiter = Limiter::with_clock(1000, clock.clone());
    let mut now = 0;
    for (at, answer) in rows {
        clock.advance(Duration::from_secs(at - now));
        now = *at;
        assert_eq!(take(&limiter, limit, v4(1)), *answer, "at {at} s");
    }
}

#[test]
fn any_window_passes_the_limit_and_no_more_and_the_wait_is_told() {
    let five = limit(5, &[]);
    let rows = [
        (0, left(4, 60)),
        (0, left(3, 60)),
        (0, left(2, 60)),
        (50, left(1, 10)),
        (55, left(0, 5)),
        (55, Err(Duration::from_secs(5))),
        (59, Err(Duration::from_secs(1))),
        (60, left(2, 50)),
        (60, left(1, 50)),
        (60, left(0, 50)),
        (60, Err(Duration::from_secs(50))),
        (110, left(0, 5)),
        (110, Err(Duration::from_secs(5))),
    ];
    assert_answers(&five, &rows);
}

#[test]
fn with_a_burst_quota_comes_back_evenly() {
    let five = Limit { burst: Some(3), ..limit(5, &[]) };
    let rows = [
        (0, left(2, 12)),
        (0, left(1, 12)),
        (0, left(0, 12)),
        (0, Err(Duration::from_secs(12))),
        (11, Err(Duration::from_secs(1))),
        (12, left(0, 12)),
        (12, Err(Duration::from_secs(12))),
    ];
    assert_answers(&five, &rows);
}

#[test]
fn a_request_may_cost_more_than_one() {
    let limiter = Limiter::with_clock(1000, FakeRelativeClock::default());
    let dear = Limit { cost: 2, ..limit(5, &[]) };
    assert_eq!(take(&limiter, &dear, v4(1)), left(3, 60));
    assert_eq!(take(&limiter, &dear, v4(1)), left(1, 60));
    assert!(take(&limiter, &dear, v4(1)).is_err());
}

#[test]
fn an_ipv6_subnet_is_one_client_and_a_mapped_address_is_the_ipv4_one() {
    let rows = [
        ("2001:db8::1", "2001:db8::ffff:1", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
        ("::ffff:10.0.0.1", "10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", false),
    ];
    for (a, b, same) in rows {
        let limiter = Limiter::with_clock(1000, FakeRelativeClock::default());
        let one = limit(1, &[KeyPart::Address]);
        assert!(take(&limiter, &one, a.parse::<IpAddr>().unwrap()).is_ok());
        assert_eq!(take(&limiter, &one, b.parse::<IpAddr>().unwrap()).is_err(), same, "{a} {b}");
    }
}

#[test]
fn claims_and_headers_are_parts_and_a_missing_part_is_no_fresh_quota() {
    let limiter = Limiter::with_clock(1000, FakeRelativeClock::default());
    let one = limit(1, &[KeyPart::Claim("realm.id".into()), KeyPart::Header("x-device".into())]);
    let token =
        |id: &str| Token::parse(format!(r#"{{"iss":"i","realm":{{"id":{id}}}}}"#).as_bytes()).unwrap().0;
    let asked = |token: Option<&Token>, devices: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for device in devices {
            headers.append("x-device", HeaderValue::from_static(device));
        }
        limiter.take(&one, &Asked { address: v4(1).into(), headers: &headers, token }).is_ok()
    };
    assert!(asked(Some(&token("1")), &["a"]));
    assert!(!asked(Some(&token("1")), &["a"]));
    assert!(asked(Some(&token("\"1\"")), &["a"]));
    assert!(asked(Some(&token("1")), &["a", "b"]));
    assert!(asked(Some(&token("1")), &["ab"]));
    assert!(asked(None, &[]));
    assert!(!asked(None, &[]));
}

#[test]
fn when_full_new_keys_share_one_bucket_and_used_quota_stays_used() {
    let clock = FakeRelativeClock::default();
    let limiter = Limiter::with_clock(100, clock.clone());
    let one = limit(1, &[KeyPart::Address]);
    for n in 0..100 {
        assert!(take(&limiter, &one, v4(n)).is_ok());
    }
    assert!(take(&limiter, &one, v4(1000)).is_ok(), "the first of the overflow");
    for n in 1001..5000 {
        assert!(take(&limiter, &one, v4(n)).is_err(), "{n}");
    }
    assert!(take(&limiter, &one, v4(7)).is_err(), "a flood of keys gave a used quota back");
    assert_eq!(limiter.len(), 100);
    clock.advance(Duration::from_secs(61));
    assert!(take(&limiter, &one, v4(9000)).is_ok());
    assert!(take(&limiter, &one, v4(9000)).is_err());
    assert!(limiter.len() <= 100);
    (0..16).for_each(|_| limiter.tidy());
    assert_eq!(limiter.len(), 1);
}

#[test]
fn state_is_found_again_by_id_and_a_changed_limit_starts_anew() {
    let clock = FakeRelativeClock::default();
    let limiter = Limiter::with_clock(100, clock.clone());
    assert!(take(&limiter, &limit(1, &[]), v4(1)).is_ok());
    assert!(take(&limiter, &limit(1, &[]), v4(1)).is_err(), "a push gave the quota back");
    assert!(take(&limiter, &limit(2, &[]), v4(1)).is_ok());
    assert_eq!(limiter.buckets.load().len(), 2);
    clock.advance(Duration::from_secs(61));
    assert!(take(&limiter, &limit(3, &[]), v4(1)).is_ok());
    assert_eq!(limiter.buckets.load().len(), 1);
    assert_eq!(limiter.len(), 1);
}

/// The numbers of docs/reference/RateLimitPolicy.md, each in a process of its own:
/// `cargo test --release -p palisade-proxy --lib -- --ignored --nocapture a_million_keys_of_one_request`.
#[allow(clippy::print_stdout, reason = "what it measures")]
fn measure_a_million_keys(most: u32, requests: u32) {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let clock = FakeRelativeClock::default();
    let limiter = Limiter::with_clock(1_000_000, clock.clone());
    let (limit, before) = (limit(most, &[KeyPart::Address]), resident());
    for _ in 0..requests {
        for n in 0..1_000_000 {
            take(&limiter, &limit, v4(n)).unwrap();
        }
        clock.advance(Duration::from_secs(3));
    }
    let full = resident() - before;
    for n in 1_000_000..2_000_000 {
        let _shares_one = take(&limiter, &limit, v4(n));
    }
    assert_eq!(limiter.len(), 1_000_000);
    println!("{requests} requests each: {full} MiB; after a million keys more: {} MiB", resident() - before);
}

#[test]
#[ignore = "a measurement"]
fn a_million_keys_of_one_request() {
    measure_a_million_keys(5, 1);
}

#[test]
#[ignore = "a measurement"]
fn a_million_keys_of_five_requests() {
    measure_a_million_keys(5, 5);
}

#[test]
#[ignore = "a measurement"]
fn a_million_keys_of_sixteen_entries() {
    measure_a_million_keys(16, 16);
}
