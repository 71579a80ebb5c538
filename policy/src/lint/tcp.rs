//! Rules that look at HTTP where no HTTP is spoken.

use super::Desk;
use super::selection::Reach;
use super::world::{Of, World};
use crate::finding::code;
use crate::kind::authorization_policy::{Action, Operation, Rule, Source};
use crate::kind::service_entry::Protocol;
use crate::kind::{AuthorizationPolicySpec, ServiceEntrySpec};

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for policy in &world.deciding {
        for entry in &world.entries {
            let selects = entry.spec.endpoints.iter().any(|endpoint| {
                let place = Reach { namespace: entry.namespace(), selector: &endpoint.labels };
                !endpoint.labels.is_empty() && Reach::of(policy).includes(&place)
            });
            if selects {
                look_at(policy, entry, desk);
                requests_at_tcp(policy, entry, desk);
            }
        }
    }
}

fn requests_at_tcp(
    policy: &Of<'_, AuthorizationPolicySpec>,
    entry: &Of<'_, ServiceEntrySpec>,
    desk: &mut Desk,
) {
    for (i, rule) in policy.spec.rules.iter().enumerate() {
        let Some((path, what)) = reads_request(rule) else { continue };
        let port = match rule.to.is_empty() {
            true => tcp_port(&Operation::default(), entry.spec),
            false => rule.to.iter().find_map(|operation| tcp_port(operation, entry.spec)),
        };
        let Some(port) = port else { continue };
        let message = format!("the port {port} of {} is TCP and has no {what}", entry.named());
        let problems = desk.about(policy.index);
        problems.warning(code::HTTP_ON_TCP, format!("spec.rules[{i}].{path}"), message);
        problems.help("write ports and principals only, or give the port its protocol (HTTP, HTTP2, GRPC)");
    }
}

fn look_at(policy: &Of<'_, AuthorizationPolicySpec>, entry: &Of<'_, ServiceEntrySpec>, desk: &mut Desk) {
    for (i, rule) in policy.spec.rules.iter().enumerate() {
        for (j, operation) in rule.to.iter().enumerate() {
            let Some(field) = looks_at_http(operation) else { continue };
            let Some(port) = tcp_port(operation, entry.spec) else { continue };
            let outcome = match policy.spec.action {
                Action::Allow => "it never matches there",
                Action::Deny | Action::Audit => "it takes the whole port then, as in Istio",
            };
            let message =
                format!("the port {port} of {} is TCP and has no {field}: {outcome}", entry.named());
            let problems = desk.about(policy.index);
            problems.warning(
                code::HTTP_ON_TCP,
                format!("spec.rules[{i}].to[{j}].operation.{field}"),
                message,
            );
            problems
                .help("write ports and principals only, or give the port its protocol (HTTP, HTTP2, GRPC)");
        }
    }
}

/// Tokens and headers, which only requests of HTTP have.
fn reads_request(rule: &Rule) -> Option<(String, &'static str)> {
    let source = |s: &Source| !s.request_principals.is_empty() || !s.not_request_principals.is_empty();
    if let Some((at, source)) = rule.from.iter().enumerate().find(|(_, s)| source(s)) {
        let field =
            if source.request_principals.is_empty() { "notRequestPrincipals" } else { "requestPrincipals" };
        return Some((format!("from[{at}].source.{field}"), "tokens"));
    }
    let at = rule.when.iter().position(|c| c.key.starts_with("request."))?;
    Some((format!("when[{at}]"), "request"))
}

fn looks_at_http(operation: &Operation) -> Option<&'static str> {
    let fields = [
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
    ];
    fields.into_iter().find(|(_, list)| !list.is_empty()).map(|(name, _)| name)
}

/// A TCP port that the operation names, or that is all there is.
fn tcp_port(operation: &Operation, entry: &ServiceEntrySpec) -> Option<u16> {
    let number = |p: &crate::kind::service_entry::EntryPort| p.target_port.unwrap_or(p.number);
    if operation.ports.is_empty() {
        let only = entry.ports.iter().all(|port| port.protocol == Protocol::Tcp);
        return entry.ports.first().filter(|_| only).map(number);
    }
    let tcp = entry.ports.iter().filter(|port| port.protocol == Protocol::Tcp).map(number);
    tcp.into_iter().find(|number| operation.ports.contains(&number.to_string()))
}
