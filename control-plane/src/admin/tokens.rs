//! Join tokens: made, listed, revoked.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest;
use palisade_identity::{Namespace, ServiceAccount, SpiffeId};
use palisade_proto::join_token::{JoinToken, JoinTokenId};
use palisade_proto::v1;
use tonic::Status;
use zeroize::Zeroizing;

use super::Call;
use crate::clock::{rfc3339, to_seconds};
use crate::context::unavailable;
use crate::identity::labels;
use crate::limits::Limits;
use crate::settings::{SVID_TTL_MAX, SVID_TTL_MIN};
use crate::store::TokenRow;

pub(super) async fn create(
    call: &Call,
    request: v1::CreateJoinTokenRequest,
) -> Result<v1::CreateJoinTokenResponse, Status> {
    let context = &call.context;
    let mut secret = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(secret.as_mut()).map_err(|_| Status::internal("no random numbers"))?;
    let id = JoinTokenId::new(rand::random());
    let token = JoinToken::new(id, *secret, context.ca.root_sha256());
    let row = row(call, request, &token)?;
    let made = context.store.create_token(&row, context.limits.tokens_max).await;
    if !made.map_err(|e| unavailable(&e))? {
        let problem = format!("there are {} join tokens already", context.limits.tokens_max);
        return Err(Status::resource_exhausted(problem));
    }
    tracing::info!(operator.id = %call.operator, token.id = row.id, "join token created");
    Ok(v1::CreateJoinTokenResponse { token: token.to_string(), description: Some(describe(row)?) })
}

pub(super) async fn list(call: &Call) -> Result<v1::ListJoinTokensResponse, Status> {
    let rows = call.context.store.tokens().await.map_err(|e| unavailable(&e))?;
    Ok(v1::ListJoinTokensResponse { tokens: rows.into_iter().map(describe).collect::<Result<_, _>>()? })
}

pub(super) async fn revoke(call: &Call, id: &str) -> Result<v1::RevokeJoinTokenResponse, Status> {
    if !call.context.store.revoke_token(id).await.map_err(|e| unavailable(&e))? {
        return Err(Status::not_found("there is no such join token; `palisade token list` lists them"));
    }
    tracing::info!(operator.id = %call.operator, token.id = id, "join token revoked");
    Ok(v1::RevokeJoinTokenResponse {})
}

fn row(call: &Call, request: v1::CreateJoinTokenRequest, token: &JoinToken) -> Result<TokenRow, Status> {
    let context = &call.context;
    let limits = &context.limits;
    let now = context.clock.now();
    let wrong = |problem: String| Status::invalid_argument(problem);
    let namespace = Namespace::parse(&request.namespace).map_err(|e| wrong(e.to_string()))?;
    let account = ServiceAccount::parse(&request.service_account).map_err(|e| wrong(e.to_string()))?;
    let id = SpiffeId::of_workload(&context.trust_domain, &namespace, &account);
    if id == SpiffeId::control_plane(&context.trust_domain) {
        return Err(wrong(format!("{id} is the control plane itself; no workload may have it")));
    }
    let ttl = ttl(request.ttl_seconds, limits).map_err(wrong)?;
    let uses = uses(request.uses, limits).map_err(wrong)?;
    let labels = checked_labels(request.labels, account.as_str(), limits).map_err(wrong)?;
    let labels = serde_json::to_string(&labels).map_err(|_| Status::internal("labels cannot be stored"))?;
    Ok(TokenRow {
        id: token.id.to_string(),
        secret_sha256: digest::digest(&digest::SHA256, token.secret()).as_ref().to_vec(),
        namespace: namespace.to_string(),
        service_account: account.to_string(),
        labels,
        svid_ttl_seconds: svid_ttl(request.svid_ttl_seconds).map_err(wrong)?,
        uses,
        uses_left: uses,
        created_by: call.operator.to_string(),
        created_at: to_seconds(now),
        expires_at: to_seconds(now + ttl),
        revoked: false,
    })
}

fn ttl(seconds: u32, limits: &Limits) -> Result<Duration, String> {
    let ttl = match seconds {
        0 => limits.token_ttl_default,
        s => Duration::from_secs(s.into()),
    };
    if ttl > limits.token_ttl_max {
        return Err(format!("a join token lives at most {} s", limits.token_ttl_max.as_secs()));
    }
    Ok(ttl)
}

fn uses(uses: u32, limits: &Limits) -> Result<i64, String> {
    if uses > limits.token_uses_max {
        return Err(format!("a join token has at most {} uses", limits.token_uses_max));
    }
    Ok(uses.max(1).into())
}

fn svid_ttl(seconds: u32) -> Result<Option<i64>, String> {
    let ttl = Duration::from_secs(seconds.into());
    if seconds != 0 && !(SVID_TTL_MIN..=SVID_TTL_MAX).contains(&ttl) {
        let (min, max) = (SVID_TTL_MIN.as_secs(), SVID_TTL_MAX.as_secs());
        return Err(format!("svid_ttl_seconds is {min} to {max}"));
    }
    Ok((seconds != 0).then_some(seconds.into()))
}

/// `app` is the service account where it is not given.
fn checked_labels(
    mut labels: BTreeMap<String, String>,
    account: &str,
    limits: &Limits,
) -> Result<BTreeMap<String, String>, String> {
    labels.entry("app".into()).or_insert_with(|| account.to_owned());
    if labels.len() > limits.labels_max {
        return Err(format!("at most {} labels", limits.labels_max));
    }
    let allowed = |text: &str| {
        text.len() <= limits.label_bytes_max
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/'))
    };
    for (key, value) in &labels {
        if key.is_empty() || !allowed(key) || !allowed(value) {
            let max = limits.label_bytes_max;
            return Err(format!(
                "the label {key:?} is wrong: keys and values are letters, digits, '.', '-', '_' and '/', \
                 at most {max} bytes"
            ));
        }
    }
    Ok(labels)
}

fn describe(row: TokenRow) -> Result<v1::JoinToken, Status> {
    Ok(v1::JoinToken {
        labels: labels(&row.labels)?,
        id: row.id,
        namespace: row.namespace,
        service_account: row.service_account,
        expires_at: rfc3339(row.expires_at),
        uses: u32::try_from(row.uses).unwrap_or(u32::MAX),
        uses_left: u32::try_from(row.uses_left).unwrap_or(u32::MAX),
        created_by: row.created_by,
        revoked: row.revoked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_name_the_app_and_are_bounded() {
        let limits = Limits::default();
        let given = BTreeMap::from([("version".to_owned(), "v1.2".to_owned())]);
        let labels = checked_labels(given, "ledger", &limits).unwrap();
        assert_eq!(labels.get("app").map(String::as_str), Some("ledger"));
        let own = BTreeMap::from([("app".to_owned(), "books".to_owned())]);
        assert_eq!(checked_labels(own.clone(), "ledger", &limits).unwrap(), own);
        for (key, value) in [("", "x"), ("a b", "x"), ("a", "x\n"), ("a", &"x".repeat(254))] {
            let given = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            assert!(checked_labels(given, "ledger", &limits).is_err(), "{key:?}");
        }
        let many = (0..33).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(checked_labels(many, "ledger", &limits).is_err());
    }

    #[test]
    fn lives_and_uses_have_defaults_and_bounds() {
        let limits = Limits::default();
        assert_eq!(ttl(0, &limits).unwrap(), Duration::from_secs(3600));
        assert_eq!(ttl(604_800, &limits).unwrap(), Duration::from_secs(604_800));
        assert!(ttl(604_801, &limits).is_err());
        assert_eq!((uses(0, &limits), uses(5, &limits)), (Ok(1), Ok(5)));
        assert!(uses(1_000_001, &limits).is_err());
        assert_eq!((svid_ttl(0), svid_ttl(300)), (Ok(None), Ok(Some(300))));
        assert!(svid_ttl(299).is_err() && svid_ttl(86_401).is_err());
    }
}
