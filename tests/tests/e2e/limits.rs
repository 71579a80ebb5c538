//! RateLimitPolicy at a sidecar: the application sees no more than the limit.

use http::StatusCode;

use crate::fleet::Fleet;

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
    assert!((1100..=1200).contains(&wait), "an hour for three: {wait} s");
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
