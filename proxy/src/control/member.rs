//! What membership of the mesh consists of, once the control plane granted it.

use std::collections::BTreeMap;

use palisade_certs::csr::PendingKey;
use palisade_certs::{Svid, TrustBundle};
use palisade_identity::TrustDomain;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// An SVID with what came beside it. Holds the private key as text, to be kept: no `Debug`.
pub(super) struct Member {
    pub(super) instance: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) trust_domain: TrustDomain,
    pub(super) chain_pem: String,
    pub(super) key_pem: Zeroizing<String>,
    pub(super) roots_pem: String,
}

/// The file form.
#[derive(Serialize, Deserialize)]
struct Text {
    format: u32,
    instance: String,
    labels: BTreeMap<String, String>,
    trust_domain: String,
    certificate: String,
    key: Zeroizing<String>,
    roots: String,
}

const FORMAT: u32 = 1;

impl Member {
    pub(super) fn new(
        instance: String,
        labels: BTreeMap<String, String>,
        svid: &Svid,
        key: &PendingKey,
        bundle: &TrustBundle,
    ) -> Self {
        Self {
            instance,
            labels,
            trust_domain: bundle.trust_domain.clone(),
            chain_pem: svid.chain_pem(),
            key_pem: key.to_pem(),
            roots_pem: bundle.to_pem(),
        }
    }

    /// Certificate and roots, ready for use. The error says which of them is wrong.
    pub(super) fn parts(&self) -> Result<(Svid, TrustBundle), String> {
        let svid = Svid::from_pem(self.chain_pem.as_bytes(), self.key_pem.as_bytes());
        let svid = svid.map_err(|error| format!("certificate: {error}"))?;
        let bundle = TrustBundle::from_pem(self.trust_domain.clone(), self.roots_pem.as_bytes());
        Ok((svid, bundle.map_err(|error| format!("roots: {error}"))?))
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let text = Text {
            format: FORMAT,
            instance: self.instance.clone(),
            labels: self.labels.clone(),
            trust_domain: self.trust_domain.to_string(),
            certificate: self.chain_pem.clone(),
            key: self.key_pem.clone(),
            roots: self.roots_pem.clone(),
        };
        // Strings and maps of strings always have a JSON form.
        Zeroizing::new(serde_json::to_vec_pretty(&text).unwrap_or_default())
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let text: Text = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if text.format != FORMAT {
            return Err(format!("format {} is not known to this version", text.format));
        }
        let trust_domain = TrustDomain::parse(&text.trust_domain).map_err(|error| error.to_string())?;
        Ok(Self {
            instance: text.instance,
            labels: text.labels,
            trust_domain,
            chain_pem: text.certificate,
            key_pem: text.key,
            roots_pem: text.roots,
        })
    }
}
