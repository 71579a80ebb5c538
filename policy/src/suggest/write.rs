//! Suggestions as YAML, with counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Caller, Count, Endpoint, Service};

/// Refused callers that are named.
const REFUSED_SHOWN_MAX: usize = 20;

/// An operation: methods that were all seen with all of its paths.
type Operations<'c> = BTreeMap<(Option<u16>, BTreeSet<&'c str>), Vec<(&'c Endpoint, Vec<&'c Count>)>>;

/// Endpoints of one path.
type Counted<'c> = Vec<(&'c Endpoint, &'c Count)>;

pub(super) fn policies(services: &BTreeMap<String, Service>) -> String {
    let documents = services.values().filter(|service| service.is_written());
    documents.map(policy).collect::<Vec<_>>().join("---\n")
}

impl Service {
    fn is_written(&self) -> bool {
        !self.callers.is_empty() || self.plaintext > 0
    }
}

fn policy(service: &Service) -> String {
    let Some(name) = service.id.workload() else { return String::new() };
    let (namespace, account) = (name.namespace.as_str(), name.service_account.as_str());
    let mut text = String::new();
    let mut line = |words: String| {
        let _infallible = writeln!(text, "{words}");
    };
    line(format!(
        "# Suggested from decision records of {}. Review it: what was not seen is refused.",
        service.id
    ));
    if service.plaintext > 0 {
        let count = service.plaintext;
        line(format!(
            "# {count} requests were let in without a certificate. No rule can name such callers; they are refused."
        ));
    }
    for (caller, count) in service.refused.iter().take(REFUSED_SHOWN_MAX) {
        line(format!("# Refused as before: {count} requests of {caller}."));
    }
    line("apiVersion: security.istio.io/v1".into());
    line("kind: AuthorizationPolicy".into());
    line("metadata:".into());
    line(format!("  name: {}", quoted(&format!("{account}-observed"))));
    line(format!("  namespace: {}", quoted(namespace)));
    line("spec:".into());
    line("  selector:".into());
    line("    matchLabels:".into());
    line(format!("      app: {}", quoted(account)));
    line("  action: ALLOW".into());
    let rules: String = service.callers.iter().map(|(caller, seen)| rule(caller, seen)).collect();
    match rules.lines().all(|line| line.trim_start().starts_with('#')) {
        true => {
            text.push_str(&rules);
            text.push_str("  rules: []\n");
        }
        false => {
            text.push_str("  rules:\n");
            text.push_str(&rules);
        }
    }
    text
}

fn rule(caller: &str, seen: &Caller) -> String {
    let mut text = String::new();
    if seen.unwritten > 0 {
        let (count, example) = (seen.unwritten, quoted(&seen.unwritten_example));
        let _infallible = writeln!(
            text,
            "    # Left out: {count} requests whose path a rule would take for a pattern, the first {example}."
        );
    }
    if seen.left_out > 0 {
        let count = seen.left_out;
        let _infallible = writeln!(
            text,
            "    # Left out: {count} requests to more endpoints than are suggested for one caller."
        );
    }
    if seen.endpoints.is_empty() {
        return text;
    }
    let principal = quoted(caller);
    let _infallible =
        writeln!(text, "    - from:\n        - source:\n            principals: [{principal}]\n      to:");
    for ((port, methods), paths) in operations(seen) {
        let methods: Vec<String> = methods.iter().map(|method| quoted(method)).collect();
        let _infallible =
            writeln!(text, "        - operation:\n            methods: [{}]", methods.join(", "));
        if let Some(port) = port {
            let _infallible = writeln!(text, "            ports: [\"{port}\"]");
        }
        text.push_str("            paths:\n");
        for (endpoint, counts) in paths {
            let _infallible = writeln!(
                text,
                "              - {} # {}",
                quoted(endpoint.path.text()),
                counted(endpoint, &counts)
            );
        }
    }
    text
}

/// Paths with the same methods share an operation, so that no method is allowed on a path that it was not seen on.
fn operations(seen: &Caller) -> Operations<'_> {
    let mut by_path: BTreeMap<(Option<u16>, &str), Counted<'_>> = BTreeMap::new();
    for (endpoint, count) in &seen.endpoints {
        by_path.entry((endpoint.port, endpoint.path.text())).or_default().push((endpoint, count));
    }
    let mut out = Operations::new();
    for ((port, _), endpoints) in by_path {
        let methods: BTreeSet<&str> =
            endpoints.iter().map(|(endpoint, _)| endpoint.method.as_str()).collect();
        let counts = endpoints.iter().map(|(_, count)| *count).collect();
        if let Some((first, _)) = endpoints.first() {
            out.entry((port, methods)).or_default().push((*first, counts));
        }
    }
    out
}

fn counted(endpoint: &Endpoint, counts: &[&Count]) -> String {
    let requests: u64 = counts.iter().map(|count| count.requests).sum();
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let text = format!("{requests} request{}", if requests == 1 { "" } else { "s" });
    if !endpoint.path.is_general() {
        return text;
    }
    let paths: BTreeSet<&String> = counts.iter().flat_map(|count| &count.paths).collect();
    format!("{text}, {} different path{}", paths.len(), plural(paths.len()))
}

/// As JSON writes a text, which YAML reads alike.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
