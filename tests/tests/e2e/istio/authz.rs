//! Who may do what.

use std::fs;
use std::path::Path;

use http::StatusCode;
use palisade_tests::jwks::{Issuer, in_seconds};
use palisade_tests::world::TRUST_DOMAIN;
use serde_json::{Value, json};

use super::table::{Case, Row, Table, port, tables};
use super::{Call, Place, data, read};

/// Whether a case can be played with one sidecar and callers on loopback: not with made-up addresses and server names, nor
/// with a target in another namespace or with other labels.
fn is_played(row: &Row, case: &Case<'_>) -> bool {
    let [_, to, _, _, path, _, source, remote, sni, _] = case;
    let made_up = ["/destination-ip", "/source-ip", "/connection-sni"];
    to.is_none_or(|to| to.starts_with("ns1/"))
        && [source, remote, sni].into_iter().all(Option::is_none)
        && !path.is_some_and(|path| made_up.iter().any(|prefix| path.starts_with(prefix)))
        && row.labels.is_empty()
}

/// The policies of a table for our trust domain, our keys, and a service that goes by the name of the target.
fn adapted(text: &str, target: &str, keys: &str) -> String {
    let name = target.strip_prefix("ns1/").unwrap();
    let mut text = text.replace("corp.example", TRUST_DOMAIN);
    if name != "b" {
        text = text.replace("{app: b}", "{app: nobody}").replace(&format!("{{app: {name}}}"), "{app: b}");
    }
    for issuer in ["issuer-1.example", "issuer-2.example"] {
        text = text.replace(&format!("jwksUri: \"https://{issuer}/keys\""), &format!("jwks: '{keys}'"));
    }
    text
}

struct Player {
    place: Place,
    issuer: Issuer,
    claims: Value,
}

impl Player {
    async fn table(&self, file: &Path) -> usize {
        let table: Table = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let policies = fs::read_to_string(file.with_extension("yaml")).unwrap();
        let rows = table.cases.iter().flat_map(|row| row.cases().into_iter().map(move |case| (row, case)));
        let mut cases: Vec<_> = rows.filter(|(row, case)| is_played(row, case)).collect();
        let target = |case: &Case<'_>| case[1].unwrap_or("ns1/b").to_owned();
        cases.sort_by_key(|(_, case)| target(case));
        let mut in_force = String::new();
        for (row, case) in &cases {
            let target = target(case);
            if in_force != target {
                let text = adapted(&policies, &target, &self.issuer.jwks());
                self.place.enforce(&format!("{} {target}", file.display()), &text).await;
                in_force = target;
            }
            self.check(file, row, case).await;
        }
        cases.len()
    }

    async fn check(&self, file: &Path, row: &Row, case: &Case<'_>) {
        let [from, _, at, method, path, host, .., token] = *case;
        let port = port(at);
        let what = format!("{}: {case:?} {:?}", file.display(), row.headers);
        if port.protocol == "tcp" {
            assert_eq!(self.place.connects(from.unwrap(), port.number).await, row.allow, "{what}");
            return;
        }
        let grpc = port.protocol == "grpc";
        let (usual_method, usual_path) = if grpc { ("POST", "/echo.Echo/Say") } else { ("GET", "/") };
        let mut headers: Vec<(String, String)> = row.headers.clone().into_iter().collect();
        if let Some(name) = token {
            let mut claims = self.claims[name].clone();
            claims["exp"] = json!(in_seconds(600));
            headers.push(("authorization".into(), format!("Bearer {}", self.issuer.token(&claims))));
        }
        let call = Call {
            from: from.unwrap(),
            port: port.number,
            http2: port.protocol != "http",
            method: method.unwrap_or(usual_method),
            path: path.unwrap_or(usual_path),
            host: host.unwrap_or("b.ns1"),
            headers: &headers,
        };
        let (answer, arrived) = self.place.call(&call).await;
        assert_eq!(arrived, row.allow, "{what}: {} {}", answer.status, answer.text());
        let status = if row.allow { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_sidecar_gives_istios_answers_over_http1_http2_grpc_and_tcp() {
    let player =
        Player { place: Place::start().await, issuer: Issuer::new("k1"), claims: read("claims.json") };
    let mut total = 0;
    for file in tables(&data()) {
        total += player.table(&file).await;
    }
    eprintln!("{total} cases of authorization over the wire");
    assert!(total >= 400, "only {total} cases");
}
