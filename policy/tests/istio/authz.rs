//! Who may do what: the outcomes of Istio's integration tests for authorization, in tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use palisade_policy::request::path::normalize;
use palisade_policy::{Decision, PolicySet, Snapshot, Workload};
use serde_json::Value;

use super::support::{Ask, parse_ok, snapshot, workload};
use super::table::{Case, Row, Table, port, tables};
use super::{data, read};

fn target(name: &str, labels: &BTreeMap<String, String>) -> Workload {
    let (namespace, account) = name.split_once('/').unwrap();
    let mut target = workload(namespace, account);
    target.labels.extend(labels.clone());
    target
}

/// Whether the call is let in, by the very functions that the proxy asks.
fn is_allowed(set: &PolicySet, row: &Row, case: &Case<'_>, claims: &BTreeMap<String, Value>) -> bool {
    let [from, to, at, method, path, host, source, remote, sni, token] = *case;
    let snapshot = snapshot(set, &[], &target(to.unwrap_or("ns1/b"), &row.labels));
    let port = port(at);
    let grpc = port.protocol == "grpc";
    let (usual_method, usual_path) = if grpc { ("POST", "/echo.Echo/Say") } else { ("GET", "/") };
    let ask = Ask::new().port(port.number).method(method.unwrap_or(usual_method));
    let ask = match from.unwrap() {
        "-" => ask.plaintext(),
        caller => ask.peer(&format!("corp.example/ns/{}", caller.replacen('/', "/sa/", 1))),
    };
    let mut ask = match token {
        Some(name) => ask.token(&claims[name].to_string()),
        None => ask,
    };
    for (name, value) in &row.headers {
        ask = ask.header(name, value);
    }
    ask.host = host.unwrap_or("b.ns1").into();
    ask.source = source.map_or(ask.source, |address| address.parse().unwrap());
    ask.remote = remote.map_or(ask.remote, |address| address.parse().unwrap());
    ask.sni = sni.map(str::to_owned);
    if port.protocol == "tcp" {
        return matches!(snapshot.authorize_tcp(&ask.connection()), Decision::Allow { .. });
    }
    ask.path = judged_path(&snapshot, path.unwrap_or(usual_path));
    ask.allowed(&snapshot)
}

/// As the proxy does before it asks: without query, normalized.
fn judged_path(snapshot: &Snapshot, target: &str) -> String {
    let path = target.split('?').next().unwrap();
    let (mode, ambiguous) = (snapshot.mesh.path_normalization, snapshot.mesh.ambiguous_paths);
    normalize(path, mode, ambiguous).unwrap().into_owned()
}

fn check_table(file: &Path, claims: &BTreeMap<String, Value>) -> (String, usize) {
    let table: Table = read(file);
    let (set, _) = parse_ok(&fs::read_to_string(file.with_extension("yaml")).unwrap());
    let mut count = 0;
    for row in &table.cases {
        for case in row.cases() {
            let allowed = is_allowed(&set, row, &case, claims);
            assert_eq!(allowed, row.allow, "{}: {case:?} {:?}", file.display(), row.headers);
            count += 1;
        }
    }
    (table.istio, count)
}

#[test]
fn istios_outcomes_for_authorization_are_ours() {
    let claims: BTreeMap<String, Value> = read(&data().join("claims.json"));
    let mut total = 0;
    for file in tables(&data()) {
        let (source, count) = check_table(&file, &claims);
        println!("{count:4} cases of {source}");
        total += count;
    }
    println!("{total} cases of authorization in all");
    assert!(total >= 300, "only {total} cases");
}
