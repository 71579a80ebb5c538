//! Requests that a RetryPolicy lets be repeated, and those beside them that it does not.

use palisade_tests::Wild;
use palisade_tests::wild::Act;

use crate::kit::{Caller, request};

const AGAIN: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bank, namespace: payments}
spec:
  hosts: [bank.example]
  http: [{route: [{destination: {host: bank.example}}], retries: {attempts: 2, retryOn: 'reset,503'}}]
---
apiVersion: palisade.mesh/v1
kind: RetryPolicy
metadata: {name: bank, namespace: payments}
spec: {host: bank.example, rules: [{match: [{methods: [POST]}], idempotencyKey: Idempotency-Key}]}
";

#[tokio::test]
async fn a_payment_with_a_key_is_sent_again_when_nobody_knows_what_became_of_it_and_one_without_is_not() {
    for act in [Act::Reset, Act::Answer(503)] {
        let bank = Wild::http1(move |d| if d.attempt == 1 { act } else { Act::Answer(200) }).await;
        let caller = Caller::of(&[bank.address()], "HTTP", AGAIN).await;
        // Method, keys, and how often it is delivered.
        let rows: [(&str, &[&str], usize); 6] = [
            ("POST", &["one"], 2),
            ("POST", &[], 1),
            ("POST", &[""], 1),
            ("POST", &["one", "two"], 1),
            ("PATCH", &["one"], 1),
            ("PUT", &[], 2),
        ];
        for (n, (method, keys, expected)) in rows.into_iter().enumerate() {
            let id = n.to_string();
            let mut request = request(method, &id, "pay");
            for key in keys {
                request.headers_mut().append("idempotency-key", key.parse().unwrap());
            }
            let status = caller.send(request).await.status;
            let delivered: Vec<_> = bank.delivered().into_iter().filter(|d| d.id == id).collect();
            assert_eq!(delivered.len(), expected, "{act:?} {method} {keys:?}");
            assert_eq!(status == 200, expected == 2, "{act:?} {method} {keys:?}: {status}");
            let attempts: Vec<u32> = delivered.iter().map(|d| d.attempt).collect();
            assert_eq!(attempts, (1..=u32::try_from(expected).unwrap()).collect::<Vec<_>>());
            assert!(delivered.iter().all(|d| d.body == b"pay"));
        }
    }
}
