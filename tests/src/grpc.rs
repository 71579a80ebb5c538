//! The control plane's services, called directly: as an operator, as a workload, as nobody.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use palisade_certs::csr::PendingKey;
use palisade_certs::tls::{ExpectedPeer, client_config};
use palisade_certs::{Svid, TrustBundle};
use palisade_identity::{SpiffeId, TrustDomain};
use palisade_proto::v1;
use palisade_proto::v1::admin_client::AdminClient;
use palisade_proto::v1::configuration_client::ConfigurationClient;
use palisade_proto::v1::identity_client::IdentityClient;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::world::{TRUST_DOMAIN, World};

/// A channel to the control plane with these TLS settings.
pub async fn channel(
    address: SocketAddr,
    config: rustls::ClientConfig,
) -> Result<Channel, tonic::transport::Error> {
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            // Without it every call waits for a delayed acknowledgement, 40 ms on Linux.
            socket.set_nodelay(true)?;
            let name = ServerName::IpAddress(address.ip().into());
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, socket).await?))
        }
    });
    Endpoint::from_static("http://control-plane").connect_with_connector(connect).await
}

fn control_plane() -> ExpectedPeer {
    ExpectedPeer::only(SpiffeId::control_plane(&TrustDomain::parse(TRUST_DOMAIN).unwrap()))
}

impl World {
    fn read_operator(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.data_dir().join("operator").join(file)).unwrap()
    }

    /// The roots of the control plane's mesh.
    pub fn mesh_bundle(&self) -> TrustBundle {
        let domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
        TrustBundle::from_pem(domain, &self.read_operator("roots.pem")).unwrap()
    }

    /// What the operator of the first start shows.
    pub fn operator_svid(&self) -> Svid {
        Svid::from_pem(&self.read_operator("operator.crt"), &self.read_operator("operator.key")).unwrap()
    }

    /// A channel as `svid`, or as nobody.
    pub async fn channel(&self, svid: Option<&Svid>) -> Channel {
        let config = client_config(svid, &self.mesh_bundle(), control_plane(), &[b"h2"]).unwrap();
        channel(self.address(), config).await.unwrap()
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel(Some(&self.operator_svid())).await)
    }

    pub async fn identity(&self, svid: Option<&Svid>) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel(svid).await)
    }

    pub async fn configuration(&self, svid: Option<&Svid>) -> ConfigurationClient<Channel> {
        ConfigurationClient::new(self.channel(svid).await)
    }

    /// Joins with a token as a proxy does.
    pub async fn attest(&self, token: &str) -> Result<Svid, tonic::Status> {
        let key = PendingKey::generate().unwrap();
        let request = attest_request(token, &key.csr_der().unwrap());
        let answer = self.identity(None).await.attest(request).await?.into_inner();
        Ok(svid_of(answer, &key))
    }
}

pub fn attest_request(token: &str, csr_der: &[u8]) -> v1::AttestRequest {
    let evidence = v1::attest_request::Evidence::JoinToken(token.to_owned());
    v1::AttestRequest { evidence: Some(evidence), csr_der: csr_der.to_vec() }
}

/// The certificate in an answer, with the key it was asked for.
pub fn svid_of(answer: v1::IssueResponse, key: &PendingKey) -> Svid {
    let chain = answer.chain_der.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    Svid::from_der(chain, key.private_key_der()).unwrap()
}
