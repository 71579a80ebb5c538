//! However many strangers come by, and whatever upstreams answer, a scrape stays small.
#![allow(clippy::unwrap_used, reason = "test code")]

use super::*;

const SERIES_MAX: usize = 50;

fn series(n: u32) -> Series {
    Series {
        direction: Direction::Inbound,
        source: Some(SpiffeId::parse(&format!("spiffe://test.mesh/ns/a/sa/w{n}")).unwrap()),
        destination: None,
        service: Some(format!("s{n}.a").into()),
        grpc: false,
        status: 200,
        grpc_status: None,
        flag: "",
        delayed: false,
        tls: true,
    }
}

/// Counts one request in each of these series, and gives what a scrape says of `istio_requests_total`.
fn scraped(all: impl Iterator<Item = Series>) -> Vec<String> {
    let mut shard = Shard::new(SERIES_MAX);
    for series in all {
        shard.request(series, 1.0, 10, 10);
    }
    let name = "istio_requests_total{";
    render(&shard).lines().filter(|line| line.starts_with(name)).map(ToOwned::to_owned).collect()
}

fn total(lines: &[String]) -> u64 {
    lines.iter().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_hundred_thousand_callers_and_services_are_fifty_series_and_one_for_the_rest() {
    let lines = scraped((0..100_000).map(series));
    assert_eq!((lines.len(), total(&lines)), (SERIES_MAX + 1, 100_000));
    let rest = lines.iter().find(|line| line.contains("source_principal=\"unknown\"")).unwrap();
    assert!(rest.contains("destination_service=\"unknown\"") && rest.ends_with(" 99950"), "{rest}");
}

#[test]
fn a_hundred_thousand_codes_that_an_upstream_makes_up_are_a_few_series_and_the_class_stays() {
    let codes = (0..100_000_u32).map(|n| Series {
        status: u16::try_from(100 + n % 900).unwrap(),
        grpc_status: Some(u16::try_from(n / 900).unwrap()),
        ..series(0)
    });
    let lines = scraped(codes);
    // Of the rest: nine classes, each with and without success of gRPC.
    assert!(lines.len() <= SERIES_MAX + 18, "{}", lines.len());
    assert_eq!(total(&lines), 100_000);
    for class in 1..=9 {
        let code = format!("response_code=\"{class}00\",grpc_response_status=\"2\"");
        assert!(lines.iter().any(|line| line.contains(&code)), "{code}");
    }
}

#[test]
fn known_series_count_on_when_no_new_one_has_room() {
    let lines = scraped((0..1_000).chain(0..1_000).map(series));
    for n in 0..50 {
        let known = lines.iter().find(|line| line.contains(&format!("/sa/w{n}\""))).unwrap();
        assert!(known.ends_with(" 2"), "{known}");
    }
}
