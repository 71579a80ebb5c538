//! A FaultExperiment on the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use palisade_policy::experiment::DelayLength;
use palisade_policy::kind::fault_experiment::{ExperimentItem, FaultSpec, ResponseFault, SlowBody};
use palisade_policy::kind::request_match::MatchItem;
use palisade_policy::kind::virtual_service::fault::AbortStatus;
use palisade_policy::kind::{FaultExperimentSpec, MeshConfigSpec, Meta, Named};
use palisade_proto::v1;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn with(fault: FaultSpec) -> Named<FaultExperimentSpec> {
    let request =
        MatchItem { methods: vec!["POST".into()], routes: vec!["pay".into()], ..MatchItem::default() };
    let headers = BTreeMap::from([("x-fault-test".into(), "abc".into())]);
    let spec = FaultExperimentSpec {
        callers: vec!["test.mesh/ns/payments/sa/payments".into(), "*".into()],
        hosts: vec!["ledger".into()],
        ports: vec![80, 65535],
        matches: vec![
            ExperimentItem { request, headers: BTreeMap::new() },
            ExperimentItem { request: MatchItem::default(), headers },
        ],
        starts_at: SystemTime::UNIX_EPOCH + MS(1_796_040_000_250),
        duration: MS(300_001),
        share_ppm: 125_000,
        max_active: Some(7),
        fault,
    };
    Named { meta: Meta { namespace: "payments".into(), name: "x".into(), ..Meta::default() }, spec }
}

#[test]
fn a_fault_experiment_survives_the_wire() {
    let response = |response: ResponseFault| FaultSpec { response, ..FaultSpec::default() };
    let faults = [
        FaultSpec::default(),
        FaultSpec { delay: Some(DelayLength::Fixed(MS(1))), reset: true, ..FaultSpec::default() },
        FaultSpec {
            delay: Some(DelayLength::Uniform { min: MS(1), max: MS(2) }),
            abort: Some(AbortStatus::Http(503)),
            ..FaultSpec::default()
        },
        FaultSpec {
            delay: Some(DelayLength::Exponential { mean: MS(1), max: MS(2) }),
            abort: Some(AbortStatus::Grpc("UNAVAILABLE".into())),
            ..FaultSpec::default()
        },
        response(ResponseFault { drop: true, ..ResponseFault::default() }),
        response(ResponseFault { truncate_after: Some(0), ..ResponseFault::default() }),
        response(ResponseFault {
            slow: Some(SlowBody { every_bytes: 3, pause: MS(4) }),
            ..ResponseFault::default()
        }),
        response(ResponseFault { bandwidth: Some(5), ..ResponseFault::default() }),
    ];
    for fault in faults {
        let object = with(fault);
        assert_eq!(Named::try_from(v1::FaultExperiment::from(&object)).unwrap(), object);
    }
    let mut plain = with(FaultSpec::default());
    plain.spec.ports.clear();
    plain.spec.matches.clear();
    plain.spec.max_active = None;
    assert_eq!(Named::try_from(v1::FaultExperiment::from(&plain)).unwrap(), plain);
}

#[test]
fn what_no_document_can_say_is_refused() {
    let wire = v1::FaultExperiment::from(&with(FaultSpec {
        abort: Some(AbortStatus::Http(503)),
        ..FaultSpec::default()
    }));
    type Change = fn(&mut v1::FaultExperiment);
    let rows: [(&str, Change); 7] = [
        ("fault", |wire| wire.fault = None),
        ("meta", |wire| wire.meta = None),
        ("ports[1].", |wire| wire.ports[1] = 0),
        ("ports[0].", |wire| wire.ports[0] = 65_536),
        ("share_ppm", |wire| wire.share_ppm = 1_000_001),
        ("starts_at_ms", |wire| wire.starts_at_ms = u64::MAX),
        ("fault.http_status", |wire| {
            let status = v1::fault_experiment::fault::Abort::HttpStatus(70_000);
            wire.fault.as_mut().unwrap().abort = Some(status);
        }),
    ];
    for (field, change) in rows {
        let mut wire = wire.clone();
        change(&mut wire);
        assert_eq!(Named::<FaultExperimentSpec>::try_from(wire).unwrap_err().field, field);
    }
}

#[test]
fn a_control_plane_that_knows_no_experiments_leaves_the_limits_at_their_defaults() {
    let mut wire = v1::MeshConfig::from(&MeshConfigSpec::default());
    wire.faults = None;
    assert_eq!(MeshConfigSpec::try_from(wire).unwrap(), MeshConfigSpec::default());
}
