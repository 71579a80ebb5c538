//! The certificate authority in the data directory, and the certificates the control plane makes for itself.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use palisade_certs::ca::{
    Authority, AuthorityError, AuthorityPem, IssueError, Issued, RootAuthority, ServerNames,
};
use palisade_certs::csr::{KeyError, PendingKey};
use palisade_certs::limits::INTERMEDIATE_LIFE;
use palisade_certs::tls::{self, ClientAuth, TlsError};
use palisade_certs::{BundleError, Svid, SvidError, TrustBundle, bundle};
use palisade_identity::{SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use crate::data_dir::{DataDir, DataDirError};

const ROOT: [&str; 2] = ["ca/root.crt", "ca/root.key"];
const INTERMEDIATE: [&str; 2] = ["ca/intermediate.crt", "ca/intermediate.key"];
pub(crate) const OPERATOR_DIR: &str = "operator";
const OPERATOR: [&str; 2] = ["operator/operator.crt", "operator/operator.key"];
const ROOTS: &str = "operator/roots.pem";
/// The credential of the first start. Its name is what the history shows as author.
const OPERATOR_NAME: &str = "admin";

/// Why the certificate authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{path} and its key cannot be used; restore them from a backup of the whole data directory")]
    Authority {
        path: PathBuf,
        #[source]
        source: AuthorityError,
    },
    #[error("a certificate authority cannot be made")]
    Generate(#[source] AuthorityError),
    #[error("{path} is for trust domain {found}, not {wanted}")]
    TrustDomain { path: PathBuf, found: TrustDomain, wanted: TrustDomain },
    #[error("the control plane cannot issue its own certificate; compare the machine's clock with {ca}")]
    Issue {
        ca: PathBuf,
        #[source]
        source: IssueError,
    },
    #[error("a key cannot be made")]
    Key(#[source] KeyError),
    #[error("the root certificate is not usable as trust bundle")]
    Bundle(#[source] BundleError),
    #[error("the certificate just issued is not usable")]
    Svid(#[source] SvidError),
    #[error("TLS cannot be configured")]
    Tls(#[source] TlsError),
}

pub(crate) struct Ca {
    root: RootAuthority,
    authority: Mutex<Authority>,
    pub(crate) bundle: TrustBundle,
}

impl Ca {
    /// Reads the authority; `first_start` makes what is not there yet.
    pub(crate) fn open(
        dir: &DataDir,
        domain: &TrustDomain,
        first_start: bool,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        dir.subdirectory("ca")?;
        let root = match read_pair(dir, ROOT)? {
            Some(pem) => RootAuthority::from_pem(&pem.certificates, &pem.key)
                .map_err(|source| CaError::Authority { path: dir.join("ca/root.crt"), source })?,
            None if first_start => {
                let root = RootAuthority::generate(domain, now).map_err(CaError::Generate)?;
                write_pair(dir, ROOT, &root.to_pem())?;
                root
            }
            None => return Err(DataDirError::Missing { path: dir.join("ca/root.crt") }.into()),
        };
        if root.trust_domain() != domain {
            let (found, wanted) = (root.trust_domain().clone(), domain.clone());
            return Err(CaError::TrustDomain { path: dir.join("ca/root.crt"), found, wanted });
        }
        let authority = match read_pair(dir, INTERMEDIATE)? {
            Some(pem) => Authority::from_pem(&pem.certificates, &pem.key)
                .map_err(|source| CaError::Authority { path: dir.join("ca/intermediate.crt"), source })?,
            None => new_intermediate(dir, &root, now)?,
        };
        let roots = vec![root.certificate().clone()];
        let bundle = TrustBundle::new(domain.clone(), roots).map_err(CaError::Bundle)?;
        Ok(Self { root, authority: Mutex::new(authority), bundle })
    }

    /// Replaces an intermediate of which less than half is left. True: certificates of ours should follow.
    pub(crate) fn renew_intermediate(&self, dir: &DataDir, now: SystemTime) -> Result<bool, CaError> {
        let left = self.authority().not_after().duration_since(now).unwrap_or_default();
        if left > INTERMEDIATE_LIFE / 2 {
            return Ok(false);
        }
        let next = new_intermediate(dir, &self.root, now)?;
        *self.authority.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(true)
    }

    pub(crate) fn root_sha256(&self) -> [u8; 32] {
        bundle::sha256(self.root.certificate())
    }

    /// Issues a workload's certificate.
    pub(crate) fn issue(
        &self,
        id: &SpiffeId,
        csr_der: &[u8],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        self.authority().issue(id, csr_der, ttl, now)
    }

    /// A certificate for the gRPC listener, with a new key.
    pub(crate) fn server(
        &self,
        names: &[String],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<(rustls::ServerConfig, Issued), CaError> {
        let id = SpiffeId::control_plane(&self.bundle.trust_domain);
        let key = PendingKey::generate().map_err(CaError::Key)?;
        let csr = key.csr_der().map_err(CaError::Key)?;
        let issued = self
            .authority()
            .issue_server(&id, &server_names(names), &csr, ttl, now)
            .map_err(|source| CaError::Issue { ca: ROOT[0].into(), source })?;
        let mut chain = issued.chain.clone();
        // The root goes with it: a joining proxy has nothing but its hash.
        chain.push(self.root.certificate().clone());
        let svid = Svid::from_der(chain, key.private_key_der()).map_err(CaError::Svid)?;
        let config = tls::server_config(&svid, &self.bundle, ClientAuth::Optional, &[b"h2"]);
        Ok((config.map_err(CaError::Tls)?, issued))
    }

    /// Writes the operator's credential when there is none, or less than half of its life is left. The key is
    /// kept, so that the two files fit each other at every moment.
    pub(crate) fn operator(
        &self,
        dir: &DataDir,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Option<(SpiffeId, Issued)>, CaError> {
        dir.subdirectory(OPERATOR_DIR)?;
        let key = match dir.read(OPERATOR[1])? {
            Some(pem) => {
                let pem = Zeroizing::new(pem);
                let text = str::from_utf8(&pem).map_err(|_| not_text(dir, OPERATOR[1]))?;
                PendingKey::from_pem(text).map_err(CaError::Key)?
            }
            None => PendingKey::generate().map_err(CaError::Key)?,
        };
        if self.operator_is_fresh(dir, &key, ttl, now)? {
            return Ok(None);
        }
        let id = SpiffeId::operator(&self.bundle.trust_domain, OPERATOR_NAME)
            .map_err(|_| CaError::Generate(AuthorityError::NoTrustDomain))?;
        let csr = key.csr_der().map_err(CaError::Key)?;
        let issued = self
            .authority()
            .issue(&id, &csr, ttl, now)
            .map_err(|source| CaError::Issue { ca: dir.join(ROOT[0]), source })?;
        let svid = Svid::from_der(issued.chain.clone(), key.private_key_der()).map_err(CaError::Svid)?;
        dir.write(ROOTS, self.bundle.to_pem().as_bytes())?;
        dir.write(OPERATOR[1], key.to_pem().as_bytes())?;
        dir.write(OPERATOR[0], svid.chain_pem().as_bytes())?;
        Ok(Some((id, issued)))
    }

    fn operator_is_fresh(
        &self,
        dir: &DataDir,
        key: &PendingKey,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<bool, CaError> {
        let Some(chain) = dir.read(OPERATOR[0])? else { return Ok(false) };
        if dir.read(ROOTS)?.as_deref() != Some(self.bundle.to_pem().as_bytes()) {
            return Ok(false);
        }
        let Ok(svid) = Svid::from_pem(&chain, key.to_pem().as_bytes()) else { return Ok(false) };
        let left = svid.not_after.duration_since(now).unwrap_or_default();
        Ok(svid.verify(&self.bundle, now).is_ok() && left > ttl / 2)
    }

    fn authority(&self) -> Authority {
        self.authority.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn new_intermediate(dir: &DataDir, root: &RootAuthority, now: SystemTime) -> Result<Authority, CaError> {
    let authority = root.intermediate(now).map_err(CaError::Generate)?;
    write_pair(dir, INTERMEDIATE, &authority.to_pem())?;
    Ok(authority)
}

/// Certificate and key; none where the certificate is absent. It is written last, so its key is then there.
fn read_pair(dir: &DataDir, [certificate, key]: [&str; 2]) -> Result<Option<AuthorityPem>, CaError> {
    let Some(certificates) = dir.read(certificate)? else { return Ok(None) };
    let certificates = String::from_utf8(certificates).map_err(|_| not_text(dir, certificate))?;
    let bytes = dir.read(key)?.ok_or_else(|| DataDirError::Missing { path: dir.join(key) })?;
    let bytes = Zeroizing::new(bytes);
    let text = str::from_utf8(&bytes).map_err(|_| not_text(dir, key))?;
    Ok(Some(AuthorityPem { certificates, key: Zeroizing::new(text.to_owned()) }))
}

fn write_pair(dir: &DataDir, [certificate, key]: [&str; 2], pem: &AuthorityPem) -> Result<(), CaError> {
    dir.write(key, pem.key.as_bytes())?;
    dir.write(certificate, pem.certificates.as_bytes())?;
    Ok(())
}

fn not_text(dir: &DataDir, name: &str) -> DataDirError {
    DataDirError::Damaged { path: dir.join(name), problem: "it is not text".into() }
}

fn server_names(names: &[String]) -> ServerNames {
    let mut found = ServerNames::default();
    for name in names {
        match name.parse::<IpAddr>() {
            Ok(ip) => found.ip.push(ip),
            Err(_) => found.dns.push(name.clone()),
        }
    }
    found
}
