//! Getting certificates: the first one for a join token, each next one for the one in force.

use std::sync::Arc;
use std::time::SystemTime;

use palisade_certs::csr::PendingKey;
use palisade_certs::tls::{ExpectedPeer, TlsError, client_config, pinned_client_config};
use palisade_certs::{Svid, SvidError, TrustBundle, bundle};
use palisade_identity::SpiffeId;
use palisade_proto::join_token::JoinToken;
use palisade_proto::v1;
use palisade_proto::v1::attest_request::Evidence;
use palisade_proto::v1::identity_client::IdentityClient;
use rustls_pki_types::CertificateDer;
use tonic::{Code, Response, Status};

use super::channel::{self, ALPN, ChannelError};
use super::member::Member;
use crate::identity::{Identity, both_clocks};
use crate::settings::control::ControlLimits;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    #[error("the control plane {address} {error}")]
    Channel { address: String, error: ChannelError },
    /// Asking again would not help.
    #[error("the control plane refuses: {0}")]
    Refused(String),
    #[error("the control plane failed: {0}")]
    Failed(String),
    #[error("the control plane did not answer in time")]
    Timeout,
    #[error("the certificate that was issued cannot be used: {0}")]
    Unusable(String),
    #[error("no TLS configuration: {0}")]
    Tls(#[from] TlsError),
    #[error("no key could be made: {0}")]
    Key(String),
}

/// Who asks, and whom.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    pub(super) address: String,
    pub(super) limits: ControlLimits,
}

/// Who gives certificates: the control plane, and in tests a script.
pub(super) trait Issue {
    async fn attest(&self, token: &JoinToken, now: SystemTime) -> Result<Issued, IssueError>;
    async fn renew(&self, current: &Identity, now: SystemTime) -> Result<Issued, IssueError>;
}

impl Issue for Issuer {
    /// First certificate. The control plane is known by the root hash in the token, and the token is sent only to a
    /// server that has proved that root.
    async fn attest(&self, token: &JoinToken, now: SystemTime) -> Result<Issued, IssueError> {
        let config = pinned_client_config(token.root_sha256, SpiffeId::control_plane, &ALPN)?;
        let key = PendingKey::generate().map_err(|error| IssueError::Key(error.to_string()))?;
        let request =
            v1::AttestRequest { csr_der: csr(&key)?, evidence: Some(Evidence::JoinToken(token.to_string())) };
        let mut client = self.client(config, now).await?;
        let issued = issued(self.within(client.attest(request)).await?, &key, now)?;
        if !issued.bundle.roots.iter().any(|root| bundle::sha256(root) == token.root_sha256) {
            return Err(IssueError::Unusable("its roots lack the one that the join token names".into()));
        }
        Ok(issued)
    }

    /// Next certificate, for the same identity.
    async fn renew(&self, current: &Identity, now: SystemTime) -> Result<Issued, IssueError> {
        let config = mesh_config(current)?;
        let key = PendingKey::generate().map_err(|error| IssueError::Key(error.to_string()))?;
        let request = v1::RenewRequest { csr_der: csr(&key)? };
        let mut client = self.client(config, now).await?;
        let issued = issued(self.within(client.renew(request)).await?, &key, now)?;
        if issued.svid.id != current.svid.id {
            return Err(IssueError::Unusable(format!("it is for {}, not for us", issued.svid.id)));
        }
        Ok(issued)
    }
}

impl Issuer {
    async fn client(
        &self,
        config: rustls::ClientConfig,
        now: SystemTime,
    ) -> Result<IdentityClient<tonic::transport::Channel>, IssueError> {
        let (channel, _local) = channel::open(&self.address, config, &self.limits, now)
            .await
            .map_err(|error| IssueError::Channel { address: self.address.clone(), error })?;
        Ok(IdentityClient::new(channel).max_decoding_message_size(self.limits.message_bytes_max))
    }

    async fn within(
        &self,
        call: impl Future<Output = Result<Response<v1::IssueResponse>, Status>>,
    ) -> Result<v1::IssueResponse, IssueError> {
        match tokio::time::timeout(self.limits.issue_timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(refused(&status)),
            Err(_elapsed) => Err(IssueError::Timeout),
        }
    }
}

/// A certificate that was checked, with all that came beside it.
pub(super) struct Issued {
    pub(super) svid: Svid,
    pub(super) bundle: TrustBundle,
    pub(super) member: Member,
}

/// TLS to the control plane as a member.
pub(super) fn mesh_config(current: &Identity) -> Result<rustls::ClientConfig, TlsError> {
    let expected = ExpectedPeer::only(SpiffeId::control_plane(&current.bundle.trust_domain));
    client_config(Some(&current.svid), &current.bundle, expected, &ALPN)
}

fn csr(key: &PendingKey) -> Result<Vec<u8>, IssueError> {
    key.csr_der().map_err(|error| IssueError::Key(error.to_string()))
}

fn refused(status: &Status) -> IssueError {
    let text = status.message().to_owned();
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument | Code::Unimplemented => {
            IssueError::Refused(text)
        }
        code => IssueError::Failed(format!("{code}: {text}")),
    }
}

/// Nothing that the control plane sends is used before it was checked.
pub(super) fn issued(
    response: v1::IssueResponse,
    key: &PendingKey,
    now: SystemTime,
) -> Result<Issued, IssueError> {
    let unusable = |text: String| IssueError::Unusable(text);
    let chain: Vec<_> = response.chain_der.into_iter().map(CertificateDer::from).collect();
    let svid = Svid::from_der(chain, key.private_key_der()).map_err(|error| unusable(error.to_string()))?;
    let wire = response.bundle.ok_or_else(|| unusable("it came without trust bundle".into()))?;
    let bundle = trust_bundle(wire).map_err(unusable)?;
    svid.verify(&bundle, now).map_err(|error| match error {
        SvidError::Expired { .. } | SvidError::NotYetValid { .. } => {
            unusable(format!("{error}; {}", both_clocks(&svid, now)))
        }
        error => unusable(error.to_string()),
    })?;
    if svid.id.workload().is_none() {
        return Err(unusable(format!("{} is no workload's id", svid.id)));
    }
    if response.instance_id.is_empty() {
        return Err(unusable("it came without instance id".into()));
    }
    let member = Member::new(response.instance_id, response.labels, &svid, key, &bundle);
    Ok(Issued { svid, bundle, member })
}

pub(super) fn trust_bundle(wire: v1::TrustBundle) -> Result<TrustBundle, String> {
    let domain = wire.trust_domain.parse().map_err(|error| format!("trust domain: {error}"))?;
    let roots = wire.roots_der.into_iter().map(CertificateDer::from).collect();
    TrustBundle::new(domain, roots).map_err(|error| error.to_string())
}

/// An identity of the next generation.
pub(super) fn identity(generation: u64, svid: Svid, bundle: TrustBundle) -> Result<Arc<Identity>, TlsError> {
    Identity::new(generation, svid, bundle).map(Arc::new)
}
