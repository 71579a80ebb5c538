//! Traffic policies and endpoint weights on the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_policy::kind::destination_rule::balancing::{ConsistentHash, Cookie, Simple, Warmup};
use palisade_policy::kind::destination_rule::pool::{HttpPool, TcpPool};
use palisade_policy::kind::destination_rule::{
    ConnectionPool, LoadBalancer, Outliers, PortSettings, RetryBudget, Settings, Subset, TlsMode,
    TlsSettings, TrafficPolicy,
};
use palisade_policy::kind::service_entry::{EntryEndpoint, Location, Resolution};
use palisade_policy::kind::{DestinationRuleSpec, Meta, Named, ServiceEntrySpec};
use palisade_policy::traffic::Keepalive;
use palisade_proto::v1;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;

fn text() -> impl Strategy<Value = String> {
    "[a-z*/{}é]{0,8}"
}

fn count() -> impl Strategy<Value = Option<u32>> {
    option::of(any::<u32>())
}

fn duration() -> impl Strategy<Value = Option<Duration>> {
    option::of(any::<u64>().prop_map(Duration::from_millis))
}

fn balancer() -> impl Strategy<Value = LoadBalancer> {
    let simple = prop_oneof![Just(Simple::LeastRequest), Just(Simple::RoundRobin), Just(Simple::Random)];
    let cookie =
        (text(), option::of(text()), duration()).prop_map(|(name, path, ttl)| Cookie { name, path, ttl });
    let hash = (option::of(text()), option::of(cookie), option::of(any::<bool>()), option::of(text()))
        .prop_map(|(header, cookie, source_ip, query_parameter)| ConsistentHash {
            header,
            cookie,
            source_ip,
            query_parameter,
        });
    let warmup = (any::<u64>(), count()).prop_map(|(duration, minimum_percent)| Warmup {
        duration: Duration::from_millis(duration),
        minimum_percent,
    });
    (option::of(simple), option::of(hash), option::of(warmup))
        .prop_map(|(simple, consistent_hash, warmup)| LoadBalancer { simple, consistent_hash, warmup })
}

fn pool() -> impl Strategy<Value = ConnectionPool> {
    let keepalive = (count(), duration(), duration()).prop_map(|(probes, time, interval)| Keepalive {
        probes,
        time,
        interval,
    });
    let tcp = (count(), duration(), duration(), duration(), option::of(keepalive)).prop_map(
        |(max_connections, connect_timeout, idle_timeout, max_connection_duration, keepalive)| TcpPool {
            max_connections,
            connect_timeout,
            idle_timeout,
            max_connection_duration,
            keepalive,
        },
    );
    let http = (vec(count(), 5), duration()).prop_map(|(counts, idle_timeout)| HttpPool {
        max_pending_requests: counts[0],
        max_requests: counts[1],
        max_requests_per_connection: counts[2],
        max_retries: counts[3],
        max_concurrent_streams: counts[4],
        idle_timeout,
    });
    (tcp, http).prop_map(|(tcp, http)| ConnectionPool { tcp, http })
}

fn outliers() -> impl Strategy<Value = Outliers> {
    (option::of(any::<bool>()), vec(count(), 5), duration(), duration()).prop_map(
        |(split_local, counts, interval, base_ejection)| Outliers {
            split_local,
            consecutive_local: counts[0],
            consecutive_gateway: counts[1],
            consecutive_5xx: counts[2],
            max_ejection_percent: counts[3],
            min_health_percent: counts[4],
            interval,
            base_ejection,
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let tls = TlsSettings { mode: TlsMode::Simple, sni: Some("a.example".into()), ..TlsSettings::default() };
    (option::of(balancer()), option::of(pool()), option::of(outliers()), option::of(Just(tls))).prop_map(
        |(load_balancer, connection_pool, outliers, tls)| Settings {
            load_balancer,
            connection_pool,
            outliers,
            tls,
        },
    )
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    let port = (1..=u16::MAX, settings()).prop_map(|(port, settings)| PortSettings { port, settings });
    let budget = (count(), count())
        .prop_map(|(percent_ppm, min_retry_concurrency)| RetryBudget { percent_ppm, min_retry_concurrency });
    (settings(), vec(port, 0..2), option::of(budget)).prop_map(|(settings, ports, retry_budget)| {
        TrafficPolicy { settings: Box::new(settings), ports, retry_budget }
    })
}

fn rule() -> impl Strategy<Value = Named<DestinationRuleSpec>> {
    let subset = (text(), btree_map(text(), text(), 0..2), policy())
        .prop_map(|(name, labels, policy)| Subset { name, labels, policy });
    (text(), policy(), vec(subset, 0..3)).prop_map(|(host, policy, subsets)| Named {
        meta: Meta { namespace: "bank".into(), name: "r".into(), ..Meta::default() },
        spec: DestinationRuleSpec { host, policy, subsets },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_field_of_a_traffic_policy_survives_the_wire(rule in rule()) {
        let bytes = v1::DestinationRule::from(&rule).encode_to_vec();
        let sent = v1::DestinationRule::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(Named::try_from(sent).unwrap(), rule);
    }
}

fn refused(change: impl FnOnce(&mut v1::DestinationRule)) -> String {
    let meta = Some(v1::Meta { namespace: "bank".into(), name: "r".into(), ..Default::default() });
    let settings = v1::destination_rule::Settings {
        load_balancer: Some(v1::destination_rule::LoadBalancer::default()),
        tls: Some(v1::destination_rule::TlsSettings { mode: 1, ..Default::default() }),
        ..Default::default()
    };
    let ports = vec![v1::destination_rule::PortSettings { port: 80, settings: Some(settings.clone()) }];
    let policy = v1::destination_rule::TrafficPolicy { settings: Some(settings), ports, retry_budget: None };
    let subset = v1::destination_rule::Subset { policy: Some(policy.clone()), ..Default::default() };
    let mut rule =
        v1::DestinationRule { meta, host: "a.example".into(), policy: Some(policy), subsets: vec![subset] };
    change(&mut rule);
    Named::<DestinationRuleSpec>::try_from(rule).unwrap_err().to_string()
}

#[test]
fn names_the_part_that_this_version_does_not_know() {
    fn settings(
        policy: &mut Option<v1::destination_rule::TrafficPolicy>,
    ) -> &mut v1::destination_rule::Settings {
        policy.as_mut().unwrap().settings.as_mut().unwrap()
    }
    let rows = [
        (
            refused(|r| settings(&mut r.policy).load_balancer.as_mut().unwrap().simple = 9),
            "policy.settings.load_balancer.simple: 9 is a value this version does not know",
        ),
        (
            refused(|r| settings(&mut r.policy).tls.as_mut().unwrap().mode = 0),
            "policy.settings.tls.mode: is not set",
        ),
        (
            refused(|r| settings(&mut r.subsets[0].policy).tls.as_mut().unwrap().mode = 9),
            "subsets[0].policy.settings.tls.mode: 9 is a value this version does not know",
        ),
        (
            refused(|r| r.policy.as_mut().unwrap().ports[0].port = 65_536),
            "policy.ports[0].port: 65536 is no port",
        ),
    ];
    for (message, expected) in rows {
        assert_eq!(message, expected);
    }
}

#[test]
fn an_endpoint_whose_weight_is_not_said_weighs_one() {
    let endpoint = |weight| EntryEndpoint {
        address: "10.0.0.1".into(),
        ports: BTreeMap::new(),
        labels: BTreeMap::new(),
        service_account: None,
        weight,
    };
    let spec = ServiceEntrySpec {
        hosts: vec!["a.example".into()],
        ports: Vec::new(),
        location: Location::MeshExternal,
        resolution: Resolution::Static,
        endpoints: vec![endpoint(0), endpoint(7)],
        subject_alt_names: Vec::new(),
        export_to: Vec::new(),
    };
    let meta = Meta { namespace: "bank".into(), name: "e".into(), ..Meta::default() };
    let entry = Named { meta, spec };
    let mut sent = v1::ServiceEntry::from(&entry);
    assert_eq!(Named::try_from(sent.clone()).unwrap(), entry);
    sent.endpoints[0].weight = None;
    let understood: Named<ServiceEntrySpec> = sent.try_into().unwrap();
    assert_eq!(understood.spec.endpoints[0].weight, 1);
}
