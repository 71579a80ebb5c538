//! What a rule must be beside well-formed. YAML and wire come through here alike.

use std::collections::BTreeSet;

use super::super::service_entry::valid_host;
use super::outliers::{self, SUCCESS_RATE_ANNOTATION};
use super::range::{COUNT, Within};
use super::{
    DestinationRuleSpec, RetryBudget, Settings, Subset, TlsMode, TlsSettings, TrafficPolicy, balancing, pool,
    tls,
};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::Meta;

pub(crate) fn check(meta: &Meta, spec: &DestinationRuleSpec, problems: &mut Problems) {
    if !valid_host(&spec.host) {
        problems.error(code::BAD_HOST, "spec.host", format!("{:?} is no host name", spec.host));
        problems.help("write one host in lower case, without wildcard, port and trailing dot");
    }
    if let Err(message) = outliers::by_success_rate(meta) {
        let path = format!("metadata.annotations.{SUCCESS_RATE_ANNOTATION}");
        problems.error(code::SUCCESS_RATE, path, message);
    }
    check_policy(&spec.policy, "spec.trafficPolicy", problems);
    let mut names = BTreeSet::new();
    for (i, subset) in spec.subsets.iter().enumerate() {
        let path = format!("spec.subsets[{i}]");
        check_subset(subset, names.insert(subset.name.as_str()), &path, problems);
    }
}

fn check_subset(subset: &Subset, first: bool, path: &str, problems: &mut Problems) {
    let name = &subset.name;
    // It stands between bars in the cluster's name, and in records; Istio wants a DNS label too.
    if !valid_host(name) || name.contains(['.', '_']) {
        let message = format!("{name:?} is no name of a subset");
        problems.error(code::BAD_SUBSET, format!("{path}.name"), message);
        problems.help("1 to 63 lower-case letters, digits and hyphens");
    }
    if !first {
        let message = format!("the subset {name:?} is already there");
        problems.error(code::BAD_SUBSET, format!("{path}.name"), message);
        problems.help("give one of the two another name, or delete it");
    }
    check_policy(&subset.policy, &format!("{path}.trafficPolicy"), problems);
}

fn check_policy(policy: &TrafficPolicy, path: &str, problems: &mut Problems) {
    check_settings(&policy.settings, path, problems);
    if let Some(RetryBudget { percent_ppm, min_retry_concurrency }) = policy.retry_budget {
        let mut within = Within { path: format!("{path}.retryBudget"), problems };
        within.count("percent", percent_ppm, 0..=1_000_000, "");
        if percent_ppm.is_some_and(|ppm| ppm % 10 != 0) {
            within.refuse("percent", "a budget has three decimals at most".into(), "");
        }
        let least = "Istio reads 0 as 3; with percent: 0, 1 is the least";
        within.count("minRetryConcurrency", min_retry_concurrency, COUNT, least);
    }
    let mut seen = BTreeSet::new();
    for (i, port) in policy.ports.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{i}]");
        if port.port == 0 {
            problems.error(code::BAD_PORT, format!("{path}.port"), "0 is no port; ports are 1 to 65535");
        }
        if !seen.insert(port.port) {
            let message = format!("the port {} is already there", port.port);
            problems.error(code::DUPLICATE_PORT, format!("{path}.port"), message);
        }
        check_settings(&port.settings, &path, problems);
        // Inside the mesh, ISTIO_MUTUAL is what there is without a word.
        let outside = |tls: &TlsSettings| matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual);
        let secured = |settings: &Settings| settings.tls.as_ref().is_some_and(outside);
        if port.settings.tls.is_none() && secured(&policy.settings) {
            let message = format!("the port {} does not have the tls of the other ports", port.port);
            problems.warning(code::PORT_WITHOUT_TLS, path, message);
            problems.help("as in Istio, settings of a port stand in for all others: repeat tls here");
        }
    }
}

fn check_settings(settings: &Settings, path: &str, problems: &mut Problems) {
    if let Some(balancer) = &settings.load_balancer {
        balancing::check(balancer, &format!("{path}.loadBalancer"), problems);
    }
    if let Some(pool) = &settings.connection_pool {
        pool::check(pool, &format!("{path}.connectionPool"), problems);
    }
    if let Some(outliers) = &settings.outliers {
        outliers::check(outliers, &format!("{path}.outlierDetection"), problems);
    }
    if let Some(tls) = &settings.tls {
        tls::check(tls, &format!("{path}.tls"), problems);
    }
}
