//! Fetching a key set: one GET, no redirects, bounded in time and bytes, to an address that was judged.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::{Reach, reach};
use super::jwk::SET_BYTES_MAX;
use super::url::KeysUrl;

/// From the question to DNS to the last byte. 5 s: callers may be waiting.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// Response head in bytes, and header lines.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 100;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the URL cannot be used")]
    Url,
    #[error("http:// is served only with allowPrivateAddresses")]
    Plaintext,
    #[error("the host has no address")]
    Dns,
    #[error("the host's address is private; set allowPrivateAddresses in the JwtPolicy if that is right")]
    PrivateAddress,
    #[error("no connection")]
    Connect,
    #[error("TLS failed")]
    Tls,
    #[error("no answer in time")]
    Timeout,
    #[error("no proper HTTP answer")]
    Protocol,
    #[error("redirected, which is not followed")]
    Redirect,
    #[error("a status other than 200")]
    Status,
    #[error("larger than 1 MiB")]
    TooLarge,
}

impl FetchError {
    /// Machine-readable, stable.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Url => "jwks_url",
            Self::Plaintext => "jwks_plaintext",
            Self::Dns => "jwks_dns",
            Self::PrivateAddress => "jwks_private_address",
            Self::Connect => "jwks_connect",
            Self::Tls => "jwks_tls",
            Self::Timeout => "jwks_timeout",
            Self::Protocol => "jwks_protocol",
            Self::Redirect => "jwks_redirect",
            Self::Status => "jwks_status",
            Self::TooLarge => "jwks_too_large",
        }
    }
}

/// Fetches the bytes of a key set.
pub(super) async fn fetch(url: &str, allow_private: bool) -> Result<Bytes, FetchError> {
    let url = KeysUrl::parse(url, allow_private)?;
    tokio::time::timeout(DEADLINE, ask(&url, allow_private)).await.unwrap_or(Err(FetchError::Timeout))
}

async fn ask(url: &KeysUrl, allow_private: bool) -> Result<Bytes, FetchError> {
    let address = resolve(url, allow_private).await?;
    let stream = TcpStream::connect(address).await.map_err(|_error| FetchError::Connect)?;
    if !url.tls {
        return exchange(stream, url).await;
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|_invalid| FetchError::Url)?;
    let connector = TlsConnector::from(tls_config().ok_or(FetchError::Tls)?);
    let stream = connector.connect(name, stream).await.map_err(|_error| FetchError::Tls)?;
    exchange(stream, url).await
}

/// The first address that may be asked. The connection is made to this very address: the name is not asked again,
/// so that it cannot answer differently then (DNS rebinding).
async fn resolve(url: &KeysUrl, allow_private: bool) -> Result<SocketAddr, FetchError> {
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
    let mut addresses = found.map_err(|_error| FetchError::Dns)?.peekable();
    if addresses.peek().is_none() {
        return Err(FetchError::Dns);
    }
    addresses
        .find(|address| match reach(address.ip()) {
            Reach::Public => true,
            Reach::Private => allow_private,
            Reach::Never => false,
        })
        .ok_or(FetchError::PrivateAddress)
}

async fn exchange<S>(stream: S, url: &KeysUrl) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) =
        client.handshake(TokioIo::new(stream)).await.map_err(|_error| FetchError::Protocol)?;
    let request = Request::get(url.target.as_str())
        .header(header::HOST, url.authority.as_str())
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_invalid| FetchError::Url)?;
    let receiving = async {
        let response = sender.send_request(request).await.map_err(|_error| FetchError::Protocol)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchError::Redirect),
            _ => return Err(FetchError::Status),
        }
        #[expect(clippy::disallowed_methods, reason = "limited to SET_BYTES_MAX")]
        let body = Limited::new(response.into_body(), SET_BYTES_MAX).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                FetchError::TooLarge
            } else {
                FetchError::Protocol
            }
        })
    };
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        answer = &mut receiving => answer,
        // The connection may end before the body was looked at to its end.
        _ended = connection => receiving.await,
    }
}

/// TLS 1.2 or 1.3 against the system's roots, which are read once.
fn tls_config() -> Option<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let (added, _ignored) =
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                tracing::warn!("there are no system roots to check servers of key sets with");
            }
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .ok()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Some(Arc::new(config))
        })
        .clone()
}
