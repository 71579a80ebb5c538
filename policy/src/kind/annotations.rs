//! Annotations that mean something here. One with our prefix and another name would be a setting that nobody reads.

use super::authorization_policy::DRY_RUN_ANNOTATION;
use super::destination_rule::SUCCESS_RATE_ANNOTATION;
use super::gateway::HSTS_ANNOTATION;
use super::{Kind, Meta};
use crate::finding::code;
use crate::finding::problem::{Problems, did_you_mean};
use crate::lint::IGNORE_ANNOTATION;

const PREFIX: &str = "palisade.mesh/";

pub(super) fn check(kind: Kind, meta: &Meta, problems: &mut Problems) {
    if kind != Kind::AuthorizationPolicy && meta.annotations.contains_key(DRY_RUN_ANNOTATION) {
        let message = format!("a {} is never tried without being in force", kind.name());
        let path = format!("metadata.annotations.{DRY_RUN_ANNOTATION}");
        problems.error(code::UNKNOWN_ANNOTATION, path, message);
        problems.help("remove the annotation: AuthorizationPolicies alone have a dry run");
    }
    let known: &[&str] = match kind {
        Kind::Gateway => &[IGNORE_ANNOTATION, HSTS_ANNOTATION],
        Kind::DestinationRule => &[IGNORE_ANNOTATION, SUCCESS_RATE_ANNOTATION],
        _ => &[IGNORE_ANNOTATION],
    };
    for key in meta.annotations.keys().filter(|key| key.starts_with(PREFIX) && !known.contains(&key.as_str()))
    {
        let message = format!("no annotation of a {} has the name {key:?}", kind.name());
        problems.error(code::UNKNOWN_ANNOTATION, format!("metadata.annotations.{key}"), message);
        match did_you_mean(key, known.iter().copied()) {
            Some(near) => problems.help(format!("did you mean {near}?")),
            None => problems.help(format!("known here: {}", known.join(", "))),
        }
    }
}
