//! From YAML to the spec.

use super::range::read_count;
use super::{
    DestinationRuleSpec, PortSettings, RetryBudget, Settings, Subset, TrafficPolicy, balancing, outliers,
    pool, tls,
};
use crate::document::reader::{At, Fields, Reader};
use crate::finding::code;
use crate::kind::read_labels;
use crate::kind::virtual_service::percent;

const UNSUPPORTED: &[(&str, &str)] = &[
    ("exportTo", "a rule holds for callers of its own namespace, of the host's and, from the root, of all"),
    ("workloadSelector", "a rule holds for every caller of its namespace; leave it out"),
];

const POLICY_UNSUPPORTED: &[(&str, &str)] = &[("tunnel", "leave it out"), ("proxyProtocol", "leave it out")];

const PORT_UNSUPPORTED: &[(&str, &str)] =
    &[("retryBudget", "it is for all ports together, as in Istio: write it beside portLevelSettings")];

const SETTINGS: [&str; 4] = ["loadBalancer", "connectionPool", "outlierDetection", "tls"];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<DestinationRuleSpec> {
    let mut fields = reader.mapping(at)?;
    let host = match fields.take("host") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "host", "name the host that the rule is for");
            None
        }
    };
    let policy = read_policy(reader, &mut fields);
    let subsets = fields.take("subsets").map(|at| reader.items(&at)).unwrap_or_default();
    let subsets = subsets.iter().filter_map(|at| read_subset(reader, at)).collect();
    reader.finish(fields, UNSUPPORTED);
    Some(DestinationRuleSpec { host: host?, policy, subsets })
}

fn read_subset(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Subset> {
    let mut fields = reader.mapping(at)?;
    let name = match fields.take("name") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "name", "for example name: v1");
            None
        }
    };
    let labels = fields.take("labels").map(|at| read_labels(reader, &at)).unwrap_or_default();
    let policy = read_policy(reader, &mut fields);
    reader.finish(fields, &[]);
    Some(Subset { name: name?, labels, policy })
}

fn read_policy(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> TrafficPolicy {
    let Some(at) = fields.take("trafficPolicy") else { return TrafficPolicy::default() };
    if at.is_empty_mapping() {
        says_nothing(reader, &at);
    }
    let Some(mut fields) = reader.mapping(&at) else { return TrafficPolicy::default() };
    let settings = Box::new(read_settings(reader, &mut fields));
    let ports = fields.take("portLevelSettings").map(|at| reader.items(&at)).unwrap_or_default();
    let ports = ports.iter().filter_map(|at| read_port(reader, at)).collect();
    let retry_budget = fields.take("retryBudget").and_then(|at| read_budget(reader, &at));
    reader.finish(fields, POLICY_UNSUPPORTED);
    TrafficPolicy { settings, ports, retry_budget }
}

fn read_settings(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Settings {
    Settings {
        load_balancer: fields.take("loadBalancer").and_then(|at| balancing::read(reader, &at)),
        connection_pool: fields.take("connectionPool").and_then(|at| {
            if at.is_empty_mapping() {
                says_nothing(reader, &at);
            }
            pool::read(reader, &at)
        }),
        outliers: fields.take("outlierDetection").and_then(|at| outliers::read(reader, &at)),
        tls: fields.take("tls").and_then(|at| tls::read(reader, &at)),
    }
}

/// Istio refuses what says nothing.
fn says_nothing(reader: &mut Reader<'_>, at: &At<'_>) {
    let help = Some("write what it is for, or leave it out".to_owned());
    reader.error(code::TRAFFIC_EMPTY, at.mark(), &at.path, "this says nothing", help);
}

fn read_port(reader: &mut Reader<'_>, at: &At<'_>) -> Option<PortSettings> {
    let mut fields = reader.mapping(at)?;
    if !SETTINGS.iter().any(|name| fields.has(name)) {
        says_nothing(reader, at);
    }
    let mut number = None;
    match fields.take("port") {
        Some(at) => {
            if let Some(mut port) = reader.mapping(&at) {
                match port.take("number") {
                    Some(at) => number = reader.port(&at),
                    None => reader.missing(&port, "number", "the port that callers use"),
                }
                reader.finish(port, &[]);
            }
        }
        None => reader.missing(&fields, "port", "write port: {number: ...}"),
    }
    let settings = read_settings(reader, &mut fields);
    reader.finish(fields, PORT_UNSUPPORTED);
    Some(PortSettings { port: number?, settings })
}

fn read_budget(reader: &mut Reader<'_>, at: &At<'_>) -> Option<RetryBudget> {
    let mut fields = reader.mapping(at)?;
    let percent_ppm = fields.take("percent").and_then(|at| read_percent(reader, &at));
    let min_retry_concurrency = read_count(reader, &mut fields, "minRetryConcurrency");
    if let Some(at) = fields.take("budgetInterval")
        && reader.duration(&at).is_some_and(|interval| !interval.is_zero())
    {
        let help = Some("leave it out: the budget is a share of what is under way at the moment".to_owned());
        reader.error(code::UNSUPPORTED_FIELD, at.mark(), &at.path, "only 0s is taken by this version", help);
    }
    reader.finish(fields, &[]);
    Some(RetryBudget { percent_ppm, min_retry_concurrency })
}

fn read_percent(reader: &mut Reader<'_>, at: &At<'_>) -> Option<u32> {
    let share = reader.percent(at).and_then(percent);
    if share.is_none() {
        let help = Some("0 to 100 without quotes, with up to three decimals".to_owned());
        reader.error(code::TRAFFIC_RANGE, at.mark(), &at.path, "this is no percentage", help);
    }
    share
}
