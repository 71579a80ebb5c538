//! TLS to servers that are no part of the mesh and no destination of requests: stores and collectors.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) struct RootsError {
    file: Option<PathBuf>,
    why: String,
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// TLS 1.2 or 1.3, the server's name checked against the given or the system's roots. The file is read at every call.
/// `option`: what names the file.
pub(crate) async fn client_config(
    roots: Option<&Path>,
    option: &'static str,
) -> Result<Arc<ClientConfig>, RootsError> {
    let file = roots.map(Path::to_path_buf);
    let reading = tokio::task::spawn_blocking(move || read(file, option));
    reading.await.unwrap_or_else(|error| Err(RootsError { file: None, why: error.to_string() }))
}

fn read(file: Option<PathBuf>, option: &str) -> Result<Arc<ClientConfig>, RootsError> {
    let refused = |why: &dyn fmt::Display| RootsError { file: file.clone(), why: why.to_string() };
    let mut roots = RootCertStore::empty();
    match &file {
        Some(path) => {
            // Opening a pipe would wait for a writer.
            if !std::fs::metadata(path).map_err(|error| refused(&error))?.is_file() {
                return Err(refused(&"it is no file"));
            }
            let certificates =
                CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            for certificate in certificates.map_err(|error| refused(&error))? {
                roots.add(certificate).map_err(|error| refused(&error))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs().certs;
            let (_added, _ignored) = roots.add_parsable_certificates(system);
        }
    }
    if roots.is_empty() {
        return Err(refused(&format_args!("there are no roots to check the server with; set {option}")));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| refused(&error))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
