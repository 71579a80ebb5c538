//! Fetching over TLS, from a server with certificates of a test's own authority.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::fetch::{FetchError, fetch};
use super::keys::{KeyOrigin, KeySource};

const KEYS: &str = r#"{"keys":[]}"#;

struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.write(&self.issuer.pem())
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("ca.pem");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Serves the key set on a port of loopback, with a certificate for `name`.
    async fn serve(&self, name: &str) -> u16 {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf: CertificateDer<'static> = params.signed_by(&key, &self.issuer).unwrap().into();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                let _head = stream.read(&mut [0; 4096]).await;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{KEYS}", KEYS.len());
                let _closed = stream.write_all(answer.as_bytes()).await;
                let _closed = stream.shutdown().await;
            }
        });
        port
    }
}

async fn get(url: String, roots: Option<PathBuf>) -> Result<Bytes, FetchError> {
    let origin = KeyOrigin::Url { url, allow_private: true, ca_certificates: roots };
    let (refresh, timeout) = (Duration::from_secs(300), Duration::from_secs(5));
    fetch(&KeySource { origin, refresh, refetch_min: Duration::ZERO, timeout }).await
}

#[tokio::test]
async fn keys_are_taken_from_a_server_that_proves_its_name_to_the_roots_of_policy() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let port = ca.serve("localhost").await;
    let url = format!("https://localhost:{port}/keys");
    assert_eq!(get(url.clone(), Some(ca.file())).await, Ok(Bytes::from_static(KEYS.as_bytes())));
    // An address instead of the name, another authority, and the system's, which knows nothing of this one.
    assert_eq!(get(format!("https://127.0.0.1:{port}/keys"), Some(ca.file())).await, Err(FetchError::Tls));
    assert_eq!(get(url.clone(), Some(stranger.file())).await, Err(FetchError::Tls));
    assert!(matches!(get(url.clone(), None).await, Err(FetchError::Tls | FetchError::Roots)));
    let other = ca.serve("auth.example").await;
    assert_eq!(get(format!("https://localhost:{other}/keys"), Some(ca.file())).await, Err(FetchError::Tls));
    for text in ["", "no pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        assert_eq!(get(url.clone(), Some(ca.write(text))).await, Err(FetchError::Roots), "{text}");
    }
    for path in [ca.folder.path().to_owned(), "/absent/ca.pem".into()] {
        assert_eq!(get(url.clone(), Some(path)).await, Err(FetchError::Roots));
    }
    // The file is read again for the next fetch.
    assert!(get(url, Some(ca.file())).await.is_ok());
}

#[tokio::test]
async fn a_plaintext_answer_on_a_tls_port_is_no_key_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{KEYS}").as_bytes()).await.unwrap();
    });
    let found = get(format!("https://localhost:{port}/keys"), Some(Ca::new().file())).await;
    assert_eq!(found, Err(FetchError::Tls));
}
