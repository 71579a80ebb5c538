//! Fetching a key set: one GET, no redirects, bounded in time and bytes, to an address that was judged.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::{Reach, reach};
use super::jwk::SET_BYTES_MAX;
use super::keys::{KeyOrigin, KeySource};
use super::url::KeysUrl;

/// A file of roots in bytes. The system's has some 220 KiB.
const ROOTS_BYTES_MAX: u64 = 1024 * 1024;
/// Response head in bytes, and header lines.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 100;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the URL cannot be used")]
    Url,
    #[error("http:// is served only with allowPrivateAddresses, and from a private address")]
    Plaintext,
    #[error("the host has no address")]
    Dns,
    #[error("the host's address is private; set allowPrivateAddresses in the JwtPolicy if that is right")]
    PrivateAddress,
    #[error("no connection")]
    Connect,
    #[error("TLS failed")]
    Tls,
    #[error("there are no roots to check the server with")]
    Roots,
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
            Self::Roots => "jwks_roots",
            Self::Timeout => "jwks_timeout",
            Self::Protocol => "jwks_protocol",
            Self::Redirect => "jwks_redirect",
            Self::Status => "jwks_status",
            Self::TooLarge => "jwks_too_large",
        }
    }
}

/// Fetches the bytes of a key set, within the source's timeout from the question to DNS to the last byte.
pub(super) async fn fetch(source: &KeySource) -> Result<Bytes, FetchError> {
    let KeyOrigin::Url { url, allow_private, ca_certificates } = &source.origin else {
        return Err(FetchError::Url);
    };
    let url = KeysUrl::parse(url, *allow_private)?;
    let asking = ask(&url, *allow_private, ca_certificates.as_deref());
    tokio::time::timeout(source.timeout, asking).await.unwrap_or(Err(FetchError::Timeout))
}

async fn ask(url: &KeysUrl, allow_private: bool, roots: Option<&Path>) -> Result<Bytes, FetchError> {
    let address = resolve(url, allow_private).await?;
    let stream = TcpStream::connect(address).await.map_err(|_error| FetchError::Connect)?;
    if !url.tls {
        return exchange(stream, url).await;
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|_invalid| FetchError::Url)?;
    let config = match roots {
        Some(path) => tls_config(&roots_of(path)?),
        None => system_config(),
    };
    let connector = TlsConnector::from(config.ok_or(FetchError::Roots)?);
    let stream = connector.connect(name, stream).await.map_err(|_error| FetchError::Tls)?;
    exchange(stream, url).await
}

/// The first address that may be asked. The connection is made to this very address: the name is not asked again,
/// so that it cannot answer differently then (DNS rebinding). Plaintext stays in private networks.
async fn resolve(url: &KeysUrl, allow_private: bool) -> Result<SocketAddr, FetchError> {
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|_error| FetchError::Dns)?.collect();
    let fits = |address: &&SocketAddr| match reach(address.ip()) {
        Reach::Public => url.tls,
        Reach::Private => allow_private,
        Reach::Never => false,
    };
    let public = |address: &SocketAddr| reach(address.ip()) == Reach::Public;
    match addresses.iter().find(fits) {
        Some(address) => Ok(*address),
        None if addresses.is_empty() => Err(FetchError::Dns),
        None if addresses.iter().any(public) => Err(FetchError::Plaintext),
        None => Err(FetchError::PrivateAddress),
    }
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

/// The system's roots, which are read once.
fn system_config() -> Option<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    CONFIG.get_or_init(|| tls_config(&rustls_native_certs::load_native_certs().certs)).clone()
}

/// Roots of a file, read for each fetch: it may change, and fetches are rare.
fn roots_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, FetchError> {
    // Opening a pipe would wait for a writer, and with it the whole control thread.
    if !std::fs::metadata(path).is_ok_and(|file| file.is_file()) {
        return Err(FetchError::Roots);
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|_error| FetchError::Roots)?;
    file.take(ROOTS_BYTES_MAX).read_to_end(&mut text).map_err(|_error| FetchError::Roots)?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    roots.map_err(|_malformed| FetchError::Roots)
}

/// TLS 1.2 or 1.3 against these roots; `None` where not one of them can be one.
fn tls_config(roots: &[CertificateDer<'static>]) -> Option<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    let (added, _ignored) = store.add_parsable_certificates(roots.iter().cloned());
    if added == 0 {
        return None;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(store)
        .with_no_client_auth();
    Some(Arc::new(config))
}
