use std::collections::BTreeMap;

use palisade_identity::SpiffeId;
use palisade_policy::document::{SourceFile, parse};
use palisade_policy::projection::project;
use palisade_policy::{PolicySet, Snapshot, Workload};
use tokio::time::advance;

use super::*;
use crate::upstream::endpoint::Seen;

const SECOND: Duration = Duration::from_secs(1);

/// As many endpoints at ports from 1 on, and what the rule says beside the first failure that leaves one out.
fn members(endpoints: u16, outliers: &str) -> Members {
    let each: Vec<_> =
        (1..=endpoints).map(|n| format!("{{address: 127.0.0.1, ports: {{main: {n}}}}}")).collect();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: bank, namespace: bank}}\n\
         spec: {{hosts: [bank.example], location: MESH_EXTERNAL, resolution: STATIC, endpoints: [{}], \
         ports: [{{number: 80, name: main, protocol: HTTP}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: bank, namespace: bank}}\n\
         spec: {{host: bank.example, trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 1, \
         maxEjectionPercent: 100{outliers}}}}}}}\n",
        each.join(", ")
    );
    let (objects, findings) = parse(&[SourceFile { name: "t".into(), text }]);
    assert!(!findings.has_errors(), "{findings:?}");
    let (set, _) = PolicySet::new(objects, &[]).unwrap();
    let id = SpiffeId::parse("spiffe://corp.example/ns/bank/sa/web").unwrap();
    let snapshot =
        Snapshot::compile(1, &project(&set, &[], &Workload { id, labels: BTreeMap::new() })).unwrap();
    let destination = snapshot.destination("bank.example", 80).unwrap().clone();
    Members::new(destination, SmallVec::new(), &Upstreams::default(), &Experiments::default())
}

fn at(members: &Members, port: u16) -> SocketAddr {
    members.members.iter().map(|member| member.endpoint.address).find(|at| at.port() == port).unwrap()
}

fn avoid(members: &Members, port: u16) {
    let address = at(members, port);
    let member = members.members.iter().find(|member| member.endpoint.address == address).unwrap();
    members.cluster.avoid(&member.endpoint, SECOND * 10, &"a test");
}

fn leave_out(members: &Members, port: u16) {
    let address = at(members, port);
    let member = members.members.iter().find(|member| member.endpoint.address == address).unwrap();
    members.cluster.saw(&member.endpoint, Seen::Status(500));
}

/// The ports that requests come to, of many.
fn picked(members: &Members, tried: &[u16]) -> Vec<u16> {
    let tried: Vec<_> = tried.iter().map(|port| at(members, *port)).collect();
    let mut ports: Vec<_> = (0..200)
        .filter_map(|_| match members.pick(None, &tried) {
            Picked::Member(member) => Some(member.endpoint.address.port()),
            Picked::Nobody | Picked::AllOut => None,
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_were_tried_or_are_avoided_come_last_and_in_this_order() {
    let members = members(3, "");
    assert_eq!(picked(&members, &[]), [1, 2, 3]);
    assert_eq!(picked(&members, &[2]), [1, 3]);
    avoid(&members, 1);
    assert_eq!(picked(&members, &[]), [2, 3]);
    assert_eq!(picked(&members, &[2, 3]), [1], "rather than one that was tried");
    assert_eq!(picked(&members, &[1, 2, 3]), [1, 2, 3], "rather than none");
    advance(SECOND * 11).await;
    members.cluster.look();
    assert_eq!(picked(&members, &[]), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn who_is_left_out_is_not_asked_until_its_time_is_over() {
    let members = members(3, ", baseEjectionTime: 20s");
    leave_out(&members, 1);
    avoid(&members, 2);
    avoid(&members, 3);
    assert_eq!(picked(&members, &[]), [2, 3], "rather those that took no connection");
    leave_out(&members, 2);
    leave_out(&members, 3);
    assert!(matches!(members.pick(None, &[]), Picked::AllOut));
    advance(SECOND * 21).await;
    assert_eq!(picked(&members, &[]), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn with_too_few_left_all_are_asked() {
    let members = members(4, ", minHealthPercent: 50");
    leave_out(&members, 1);
    leave_out(&members, 2);
    assert_eq!(picked(&members, &[]), [3, 4], "half of them are enough");
    leave_out(&members, 3);
    assert_eq!(picked(&members, &[]), [1, 2, 3, 4]);
}
