//! VirtualService, as operators meet it: linted and applied by real processes.

use palisade_tests::World;

use crate::PALISADE;
use crate::fleet::assert_refused;

const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: payments}
spec:
  selector: {app: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['payments/api.bank.example']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: payments}
spec:
  hosts: [api.bank.example]
  gateways: [public]
  http:
  - name: entries
    match: [{uri: {prefix: /entries}, method: {exact: GET}}]
    route: [{destination: {host: ledger}}]
    corsPolicy: {allowOrigins: [{exact: 'https://app.bank.example'}], allowCredentials: true}
";

#[tokio::test]
async fn routes_are_applied_and_given_back_as_they_were_written() {
    let world = World::start(PALISADE).await;
    world.apply(ROUTES).await;
    let got = world.operator(&["get", "VirtualService", "api", "-n", "payments", "-o", "yaml"]).await;
    assert!(got.stdout.contains("name: entries"), "{got:?}");
}

#[tokio::test]
async fn what_would_open_more_than_it_says_is_refused_with_its_place() {
    let world = World::start(PALISADE).await;
    type Edits = &'static [(&'static str, &'static str)];
    let rows: &[(Edits, &[&str])] = &[
        (&[("'https://app.bank.example'", "'*'")], &["PAL1711", "bad.yaml:19", "allowCredentials"]),
        (&[("gateways: [public]", "gateways: [public, public]")], &["PAL1701", "bad.yaml:14"]),
        (&[("{host: ledger}", "{host: ledger, subsett: v1}")], &["PAL0008", "bad.yaml:18", "did you mean"]),
        // Another team's host.
        (
            &[
                ("name: api, namespace: payments", "name: api, namespace: shop"),
                ("gateways: [public]", "gateways: [payments/public]"),
            ],
            &["PAL1704", "bad.yaml:9", "spec.hosts[0]", "api.bank.example"],
        ),
    ];
    for (edits, words) in rows {
        let mut text = ROUTES.to_owned();
        for (good, bad) in *edits {
            assert!(text.contains(good));
            text = text.replace(good, bad);
        }
        let path = world.write("bad.yaml", &text);
        for done in [world.palisade(&["lint", &path]).await, world.operator(&["apply", &path]).await] {
            assert_refused(&done, 2, words);
        }
    }
}
