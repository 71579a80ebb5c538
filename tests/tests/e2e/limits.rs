//! RateLimitPolicy at a sidecar: the application sees no more than the limit.

use http::StatusCode;

use palisade_tests::client::{self, request};

use crate::fleet::{Fleet, ledger};

fn policy(mode: &str, limits: u32) -> String {
    format!(
        "
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {{name: ledger, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: ledger}}}}
  limits:
  - {{name: entries, match: [{{paths: [/entries]}}], key: [{{address: {{}}}}], limit: {limits}, window: 1h, mode: {mode}}}
"
    )
}

#[tokio::test]
async fn concurrent_callers_never_get_more_than_the_limit_and_are_told_when_to_come_back() {
    let fleet = Fleet::open().await;
    fleet.world.apply(&policy("enforce", 3)).await;
    fleet.app.clear();
    let get = || fleet.get("/entries");
    let (a, b, c, d, e, f, g, h, i, j) =
        tokio::join!(get(), get(), get(), get(), get(), get(), get(), get(), get(), get());
    let answers = [a, b, c, d, e, f, g, h, i, j];
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(StatusCode::OK), count(StatusCode::TOO_MANY_REQUESTS)), (3, 7));
    assert_eq!(fleet.app.received().len(), 3);
    let refused = answers.iter().find(|a| a.status == StatusCode::TOO_MANY_REQUESTS).unwrap();
    let wait: u32 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "three an hour: {wait} s");
    assert_eq!(refused.headers["ratelimit-policy"], "\"entries\";q=3;w=3600");
    assert_eq!(refused.headers["ratelimit"], format!("\"entries\";r=0;t={wait}"));

    // Another path is not limited, and a push that changes nothing of the limit gives no quota back.
    assert_eq!(fleet.get("/other").await.status, StatusCode::OK);
    fleet.world.apply(&policy("shadow", 3)).await;
    fleet.world.apply(&policy("enforce", 3)).await;
    fleet.app.clear();
    assert_eq!(fleet.get("/entries").await.status, StatusCode::TOO_MANY_REQUESTS);
    fleet.app.assert_untouched();
}

#[tokio::test]
async fn a_shadow_limit_refuses_nothing() {
    let fleet = Fleet::open().await;
    fleet.world.apply(&policy("shadow", 1)).await;
    for _ in 0..5 {
        assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn answers_tell_what_is_left_and_a_hidden_limit_is_never_told() {
    let fleet = Fleet::open().await;
    fleet.world.apply(&policy("enforce", 3)).await;
    for left in [2, 1, 0] {
        let answer = fleet.get("/entries").await;
        assert_eq!(answer.status, StatusCode::OK);
        let told = answer.headers["ratelimit"].to_str().unwrap();
        assert!(told.starts_with(&format!("\"entries\";r={left};t=3")), "{told}");
        assert_eq!(answer.headers["ratelimit-policy"], "\"entries\";q=3;w=3600");
    }
    assert!(!fleet.get("/other").await.headers.contains_key("ratelimit"));

    fleet.world.apply(&policy("enforce, headers: false", 3)).await;
    let refused = fleet.get("/entries").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers.contains_key("retry-after"));
    for mode in ["enforce, headers: false", "shadow", "flag"] {
        fleet.world.apply(&policy(mode, 9)).await;
        let answer = fleet.get("/entries").await;
        assert_eq!(answer.status, StatusCode::OK, "{mode}");
        for name in ["ratelimit", "ratelimit-policy"] {
            assert!(!answer.headers.contains_key(name) && !refused.headers.contains_key(name), "{mode}");
        }
    }
}

#[tokio::test]
async fn a_flagged_request_reaches_the_application_with_a_mark_that_no_caller_can_set() {
    let fleet = Fleet::open().await;
    fleet.world.apply(&policy("flag", 1)).await;
    fleet.app.clear();
    let url = ledger("/entries");
    for _ in 0..2 {
        let mut forged = request("GET", &url, "");
        for name in ["x-palisade-flagged", "x_palisade_flagged"] {
            forged.headers_mut().insert(name, http::HeaderValue::from_static("a/b/c"));
        }
        let answer = client::send(fleet.web.http_proxy(), forged).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let marks: Vec<_> =
        fleet.app.received().iter().map(|seen| seen.headers.get("x-palisade-flagged").cloned()).collect();
    assert_eq!(marks, [None, Some(http::HeaderValue::from_static("payments/ledger/entries"))]);
    assert!(fleet.app.received().iter().all(|seen| !seen.headers.contains_key("x_palisade_flagged")));
    let flagged = fleet.ledger.records_with(1, &[("flagged_by", "payments/ledger/entries".into())]).await;
    assert_eq!(flagged[0]["response_code"], 200);
    let having = [r#"limit="payments/ledger/entries""#, r#"mode="flag""#];
    let counted = fleet.ledger.metric("palisade_rate_limited_total", &having).await;
    assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
}
