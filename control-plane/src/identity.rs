//! The identity service: first certificates for join tokens, next ones for earlier certificates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::{constant_time, digest};
use palisade_certs::ca::{IssueError, Issued};
use palisade_identity::{Namespace, ServiceAccount, SpiffeId};
use palisade_policy::Workload;
use palisade_proto::join_token::JoinToken;
use palisade_proto::v1;
use palisade_proto::v1::attest_request::Evidence;
use tonic::{Request, Response, Status};

use crate::clock::to_seconds;
use crate::context::{Context, unavailable};
use crate::peer::Peer;
use crate::store::{How, Issuance, NewInstance, Redeem, TokenRow};

pub(crate) struct Service(pub(crate) Arc<Context>);

/// What every refused token is answered, so that a guesser learns nothing.
const TOKEN_REFUSED: &str = "join token refused";

#[tonic::async_trait]
impl v1::identity_server::Identity for Service {
    async fn attest(
        &self,
        request: Request<v1::AttestRequest>,
    ) -> Result<Response<v1::IssueResponse>, Status> {
        let peer = Peer::of(request.extensions())?.clone();
        let v1::AttestRequest { evidence, csr_der } = request.into_inner();
        let Some(Evidence::JoinToken(token)) = evidence else {
            return Err(Status::invalid_argument("no evidence; send a join token"));
        };
        let context = Arc::clone(&self.0);
        let work = async move { attest(&context, &peer, &token, &csr_der).await };
        self.0.complete(work).await.map(Response::new)
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        let peer = Peer::of(request.extensions())?.clone();
        let csr_der = request.into_inner().csr_der;
        let context = Arc::clone(&self.0);
        let work = async move { renew(&context, &peer, &csr_der).await };
        self.0.complete(work).await.map(Response::new)
    }
}

async fn attest(
    context: &Context,
    peer: &Peer,
    token: &str,
    csr_der: &[u8],
) -> Result<v1::IssueResponse, Status> {
    let refused = |id: &str, reason: &str| {
        context.metrics.tokens_refused.increment();
        tracing::warn!(peer.addr = %peer.address, token.id = id, reason, "join token refused");
        Status::permission_denied(TOKEN_REFUSED)
    };
    let token = JoinToken::parse(token).map_err(|e| refused("", &e.to_string()))?;
    let id = token.id.to_string();
    let row = context.store.token(&id).await.map_err(|e| unavailable(&e))?;
    let row = row.ok_or_else(|| refused(&id, "unknown"))?;
    let secret_sha256 = digest::digest(&digest::SHA256, token.secret());
    if constant_time::verify_slices_are_equal(secret_sha256.as_ref(), &row.secret_sha256).is_err() {
        return Err(refused(&id, "wrong secret"));
    }
    let now = context.clock.now();
    let workload = workload_of(context, &row)?;
    let ttl = ttl(context, row.svid_ttl_seconds);
    let instance = instance_id(&workload);
    let redeemed = context
        .store
        .redeem(&id, now, || {
            let issued = context.ca.issue(&workload.id, csr_der, ttl, now)?;
            let new = new_instance(&instance, &row, &workload, &issued, now);
            let audit =
                audit(&issued, &workload.id, Some(&instance), How::Attest, &peer.address.to_string(), now);
            Ok((new, audit, issued))
        })
        .await
        .map_err(|e| unavailable(&e))?;
    match redeemed {
        Redeem::Done(issued) => {
            context.metrics.attested.increment();
            context.registry.issued(&instance, &workload, issued.not_after);
            tracing::info!(
                peer.addr = %peer.address, peer.id = %workload.id, instance, token.id = id, serial = issued.serial,
                "attested"
            );
            Ok(response(context, issued, instance, workload.labels))
        }
        Redeem::Spent => Err(refused(&id, spent_reason(&row, now))),
        Redeem::Failed(error) => Err(issue_failed(&error)),
    }
}

async fn renew(context: &Context, peer: &Peer, csr_der: &[u8]) -> Result<v1::IssueResponse, Status> {
    let now = context.clock.now();
    let certificate = peer.workload(now)?;
    let refused = |reason: &str, status: Status| {
        context.metrics.renewals_refused.increment();
        tracing::warn!(
            peer.addr = %peer.address, peer.id = %certificate.id, serial = certificate.serial, reason,
            "renewal refused"
        );
        status
    };
    let row = context.store.instance_of(&certificate.serial).await.map_err(|e| unavailable(&e))?;
    let row = row.filter(|row| row.spiffe_id == certificate.id.as_str());
    let unknown =
        || refused("unknown serial", Status::permission_denied("this certificate is not known; attest anew"));
    let row = row.ok_or_else(unknown)?;
    let evicted = || refused("evicted", Status::permission_denied("this instance was evicted"));
    if row.evicted_reason.is_some() {
        return Err(evicted());
    }
    let issued = context
        .ca
        .issue(&certificate.id, csr_der, ttl(context, row.svid_ttl_seconds), now)
        .map_err(|e| issue_failed(&e))?;
    let audit = audit(&issued, &certificate.id, Some(&row.id), How::Renew, &peer.address.to_string(), now);
    if !context.store.renew(&row.id, &audit).await.map_err(|e| unavailable(&e))? {
        return Err(evicted());
    }
    let labels = labels(&row.labels)?;
    let workload = Workload { id: certificate.id.clone(), labels };
    context.metrics.renewed.increment();
    context.registry.issued(&row.id, &workload, issued.not_after);
    Ok(response(context, issued, row.id, workload.labels))
}

/// The row of the audit for a certificate.
pub(crate) fn audit(
    issued: &Issued,
    id: &SpiffeId,
    instance: Option<&str>,
    how: How,
    peer: &str,
    now: SystemTime,
) -> Issuance {
    Issuance {
        serial: issued.serial.clone(),
        spiffe_id: id.to_string(),
        instance: instance.map(str::to_owned),
        how,
        peer: peer.to_owned(),
        not_before: to_seconds(issued.not_before),
        not_after: to_seconds(issued.not_after),
        at: to_seconds(now),
    }
}

/// Labels as the store keeps them.
pub(crate) fn labels(json: &str) -> Result<BTreeMap<String, String>, Status> {
    serde_json::from_str(json).map_err(|error| {
        tracing::error!(error = %error, "labels in the store cannot be read");
        Status::internal("the store holds labels that cannot be read")
    })
}

fn workload_of(context: &Context, row: &TokenRow) -> Result<Workload, Status> {
    let unreadable = |_| Status::internal("the store holds a name that cannot be read");
    let namespace = Namespace::parse(&row.namespace).map_err(unreadable)?;
    let account = ServiceAccount::parse(&row.service_account).map_err(unreadable)?;
    let id = SpiffeId::of_workload(&context.trust_domain, &namespace, &account);
    Ok(Workload { id, labels: labels(&row.labels)? })
}

/// Readable in lists, and unique by 64 random bits.
fn instance_id(workload: &Workload) -> String {
    let account = workload.id.workload().map_or("workload", |name| name.service_account.as_str());
    format!("{account}-{:016x}", rand::random::<u64>())
}

fn ttl(context: &Context, svid_ttl_seconds: Option<i64>) -> Duration {
    let of_token = svid_ttl_seconds.and_then(|s| u64::try_from(s).ok());
    of_token.map_or(context.svid_ttl, Duration::from_secs)
}

fn new_instance(
    id: &str,
    token: &TokenRow,
    workload: &Workload,
    issued: &Issued,
    now: SystemTime,
) -> NewInstance {
    NewInstance {
        id: id.to_owned(),
        spiffe_id: workload.id.to_string(),
        labels: token.labels.clone(),
        svid_ttl_seconds: token.svid_ttl_seconds,
        join_token: token.id.clone(),
        created_at: to_seconds(now),
        not_after: to_seconds(issued.not_after),
    }
}

fn spent_reason(row: &TokenRow, now: SystemTime) -> &'static str {
    if row.revoked {
        "revoked"
    } else if row.expires_at <= to_seconds(now) {
        "expired"
    } else {
        "used up"
    }
}

fn issue_failed(error: &IssueError) -> Status {
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(error = %error, source, "no certificate issued");
    match error {
        IssueError::Csr(csr) => Status::invalid_argument(format!("the signing request is refused: {csr}")),
        _ => Status::internal("no certificate can be issued; see the control plane's log"),
    }
}

fn response(
    context: &Context,
    issued: Issued,
    instance_id: String,
    labels: BTreeMap<String, String>,
) -> v1::IssueResponse {
    let bundle = &context.ca.bundle;
    v1::IssueResponse {
        chain_der: issued.chain.iter().map(|c| c.to_vec()).collect(),
        bundle: Some(v1::TrustBundle {
            trust_domain: bundle.trust_domain.to_string(),
            roots_der: bundle.roots.iter().map(|c| c.to_vec()).collect(),
        }),
        instance_id,
        labels,
    }
}
