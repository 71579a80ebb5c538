//! Callers that come to the same endpoint again, by a cookie or by their address.

use palisade_tests::Wild;
use palisade_tests::wild::Act;

use crate::kit::{Caller, request};

fn rule(key: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank, namespace: payments}}
spec: {{host: bank.example, trafficPolicy: {{loadBalancer: {{consistentHash: {{{key}}}}}}}}}
"
    )
}

#[tokio::test]
async fn a_caller_is_given_a_cookie_that_leads_to_the_same_endpoint_and_an_address_leads_there_by_itself() {
    let banks = [
        Wild::http1(|_| Act::Answer(200)).await,
        Wild::http1(|_| Act::Answer(200)).await,
        Wild::http1(|_| Act::Answer(200)).await,
    ];
    let at = banks.each_ref().map(Wild::address);
    let caller = Caller::of(&at, "HTTP", &rule("httpCookie: {name: user, path: /, ttl: 1h}")).await;
    for n in 0..12 {
        let given = caller.call("GET", &format!("{n}"), "").await;
        let cookie = given.header("set-cookie").unwrap().to_owned();
        assert!(cookie.starts_with("user=") && cookie.contains("Max-Age=3600"), "{cookie}");
        for _ in 0..3 {
            let mut again = request("GET", &n.to_string(), "");
            again.headers_mut().insert("cookie", cookie.split(';').next().unwrap().parse().unwrap());
            assert_eq!(caller.send(again).await.header("set-cookie"), None, "it has one");
        }
    }
    let counts: Vec<_> = banks.iter().map(Wild::by_id).collect();
    assert!(counts.iter().all(|by_id| by_id.values().all(|count| *count == 4)), "{counts:?}");
    assert!(counts.iter().filter(|by_id| !by_id.is_empty()).count() > 1, "{counts:?}");

    let caller = Caller::of(&at, "HTTP", &rule("useSourceIp: true")).await;
    let before = banks.each_ref().map(|bank| bank.delivered().len());
    for _ in 0..12 {
        assert_eq!(caller.call("GET", "same", "").await.status, 200);
    }
    let more: Vec<_> =
        banks.iter().zip(before).map(|(bank, before)| bank.delivered().len() - before).collect();
    assert!(more.contains(&12), "one address, one endpoint: {more:?}");
}
