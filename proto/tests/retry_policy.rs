//! A RetryPolicy on the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::time::Duration;

use palisade_policy::kind::request_match::MatchItem;
use palisade_policy::kind::retry_policy::{Because, DuplicatesSpec, OnDuplicate, RepeatRuleSpec};
use palisade_policy::kind::{Meta, Named, RetryPolicySpec};
use palisade_proto::v1;

#[test]
fn a_retry_policy_survives_the_wire_and_a_half_one_does_not() {
    let matches = vec![MatchItem { methods: vec!["POST".into()], ..MatchItem::default() }];
    let rules = vec![
        RepeatRuleSpec { matches, because: Because::Key("Idempotency-Key".into()) },
        RepeatRuleSpec { matches: vec![], because: Because::Idempotent },
    ];
    let watched = |window, max_keys, on_duplicate| Some(DuplicatesSpec { window, max_keys, on_duplicate });
    let window = Some(Duration::from_millis(1500));
    for duplicates in
        [None, watched(None, None, OnDuplicate::Record), watched(window, Some(5000), OnDuplicate::Refuse)]
    {
        let meta = Meta { namespace: "n".into(), name: "p".into(), ..Meta::default() };
        let spec = RetryPolicySpec { host: "ledger".into(), rules: rules.clone(), duplicates };
        let object = Named { meta, spec };
        let wire = v1::RetryPolicy::from(&object);
        assert_eq!(Named::try_from(wire.clone()).unwrap(), object);
        let mut half = wire.clone();
        half.rules[1].because = None;
        assert_eq!(Named::<RetryPolicySpec>::try_from(half).unwrap_err().field, "rules[1].because");
        let mut strange = wire;
        if let Some(duplicates) = &mut strange.duplicates {
            duplicates.on_duplicate = 9;
            let field = Named::<RetryPolicySpec>::try_from(strange).unwrap_err().field;
            assert_eq!(field, "duplicates.on_duplicate");
        }
    }
}
