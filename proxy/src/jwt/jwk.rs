//! JWK sets (RFC 7517) to keys that can verify, and nothing else. A key that is not fit is left out with a code; the
//! others stay.

use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use palisade_policy::request::json;
use serde_json::{Map, Value};

use super::algorithm::{CURVES, PublicAlgorithm, RSA};
use super::weak;

/// Bytes of a key set. 1 MiB: the largest public ones have some 30 KiB.
pub(crate) const SET_BYTES_MAX: usize = 1024 * 1024;
/// Keys of a set. 100: providers publish fewer than ten.
const KEYS_MAX: usize = 100;
const KEY_ID_BYTES_MAX: usize = 256;

/// A key that verifies. Each `ParsedPublicKey` is bound to its algorithm when it is made: no choice is left to the
/// token but which of these to use.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    pub(super) id: Option<String>,
    pub(super) verifiers: Vec<(PublicAlgorithm, ParsedPublicKey)>,
}

/// A set that could be read.
#[derive(Debug, Default)]
pub(crate) struct PublicKeys {
    pub(super) keys: Vec<VerifyingKey>,
    /// What was left out: position in the set and why.
    pub(crate) refused: Vec<(usize, KeyRefusal)>,
}

impl PublicKeys {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// Why a whole set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SetError {
    #[error("larger than 1 MiB")]
    TooLarge,
    #[error("not a JWK set: a JSON object with an array `keys`, no name twice, at most 8 levels")]
    Malformed,
    #[error("more than 100 keys")]
    TooMany,
}

/// Why one key is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyRefusal {
    Malformed,
    KeyType,
    Curve,
    Algorithm,
    Use,
    Private,
    Weak,
    Point,
    DuplicateId,
}

impl KeyRefusal {
    /// Machine-readable, stable: docs/reference/tokens.md lists them.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Malformed => "key_malformed",
            Self::KeyType => "key_type",
            Self::Curve => "key_curve",
            Self::Algorithm => "key_algorithm",
            Self::Use => "key_use",
            Self::Private => "key_private",
            Self::Weak => "key_weak",
            Self::Point => "key_point",
            Self::DuplicateId => "key_duplicate_id",
        }
    }
}

/// Reads a set. An empty one is a set: whoever publishes it has taken all keys back.
pub(crate) fn parse_set(text: &[u8]) -> Result<PublicKeys, SetError> {
    if text.len() > SET_BYTES_MAX {
        return Err(SetError::TooLarge);
    }
    let mut set = json::object(text).map_err(|_not_strict| SetError::Malformed)?;
    let Some(Value::Array(entries)) = set.remove("keys") else { return Err(SetError::Malformed) };
    if entries.len() > KEYS_MAX {
        return Err(SetError::TooMany);
    }
    let ids: Vec<Option<String>> = entries.iter().map(id_of).collect();
    let mut found = PublicKeys::default();
    for (index, entry) in entries.iter().enumerate() {
        let id = ids.get(index).and_then(Option::as_ref);
        let twin = id.is_some() && ids.iter().filter(|other| other.as_ref() == id).count() > 1;
        // Which of the two is meant is not ours to guess.
        let key = if twin { Err(KeyRefusal::DuplicateId) } else { parse_key(entry) };
        match key {
            Ok(key) => found.keys.push(key),
            Err(refusal) => found.refused.push((index, refusal)),
        }
    }
    Ok(found)
}

fn id_of(entry: &Value) -> Option<String> {
    entry.get("kid")?.as_str().map(str::to_owned)
}

fn parse_key(entry: &Value) -> Result<VerifyingKey, KeyRefusal> {
    let key = entry.as_object().ok_or(KeyRefusal::Malformed)?;
    let id = match key.get("kid") {
        None => None,
        Some(Value::String(id)) if !id.is_empty() && id.len() <= KEY_ID_BYTES_MAX => Some(id.clone()),
        Some(_) => return Err(KeyRefusal::Malformed),
    };
    let kind = text(key, "kty")?.ok_or(KeyRefusal::Malformed)?;
    if kind == "oct" {
        // A secret that is published is none; HS256 takes its secret from a file.
        return Err(KeyRefusal::KeyType);
    }
    if key.contains_key("d") {
        return Err(KeyRefusal::Private);
    }
    check_use(key)?;
    let wanted = match text(key, "alg")? {
        None => None,
        Some(name) => Some(PublicAlgorithm::parse(name).ok_or(KeyRefusal::Algorithm)?),
    };
    let mut verifiers = match kind {
        "RSA" => rsa(key)?,
        "EC" => vec![elliptic(key)?],
        "OKP" => vec![edwards(key)?],
        _ => return Err(KeyRefusal::KeyType),
    };
    verifiers.retain(|(algorithm, _)| wanted.is_none_or(|wanted| wanted == *algorithm));
    if verifiers.is_empty() { Err(KeyRefusal::Algorithm) } else { Ok(VerifyingKey { id, verifiers }) }
}

/// `use` and `key_ops` (RFC 7517 sections 4.2 and 4.3), each where it is given.
fn check_use(key: &Map<String, Value>) -> Result<(), KeyRefusal> {
    if text(key, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err(KeyRefusal::Use);
    }
    match key.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|one| one == "verify") => Ok(()),
        Some(Value::Array(_)) => Err(KeyRefusal::Use),
        Some(_) => Err(KeyRefusal::Malformed),
    }
}

fn rsa(key: &Map<String, Value>) -> Result<Vec<(PublicAlgorithm, ParsedPublicKey)>, KeyRefusal> {
    let (n, e) = (bytes(key, "n")?, bytes(key, "e")?);
    if n.first().is_none_or(|byte| *byte == 0) || e.first().is_none_or(|byte| *byte == 0) {
        return Err(KeyRefusal::Malformed);
    }
    if !weak::rsa_length_is_served(&n) || !weak::exponent_is_served(&e) || weak::is_roca(&n) {
        return Err(KeyRefusal::Weak);
    }
    let parts = RsaPublicKeyComponents { n, e };
    RSA.into_iter()
        .map(|(algorithm, parameters)| {
            let key = parts.to_parsed_public_key(parameters).map_err(|_rejected| KeyRefusal::Weak)?;
            Ok((algorithm, key))
        })
        .collect()
}

fn elliptic(key: &Map<String, Value>) -> Result<(PublicAlgorithm, ParsedPublicKey), KeyRefusal> {
    let curve = text(key, "crv")?.ok_or(KeyRefusal::Malformed)?;
    let (_, algorithm, length, primitive) =
        CURVES.into_iter().find(|known| known.0 == curve).ok_or(KeyRefusal::Curve)?;
    let (x, y) = (bytes(key, "x")?, bytes(key, "y")?);
    if x.len() != length || y.len() != length {
        return Err(KeyRefusal::Point);
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let parsed = ParsedPublicKey::new(primitive, point).map_err(|_off_curve| KeyRefusal::Point)?;
    Ok((algorithm, parsed))
}

fn edwards(key: &Map<String, Value>) -> Result<(PublicAlgorithm, ParsedPublicKey), KeyRefusal> {
    if text(key, "crv")? != Some("Ed25519") {
        return Err(KeyRefusal::Curve);
    }
    let point: [u8; 32] = bytes(key, "x")?.try_into().map_err(|_length| KeyRefusal::Point)?;
    if weak::is_small_order(&point) {
        return Err(KeyRefusal::Weak);
    }
    let parsed = ParsedPublicKey::new(&ED25519, point).map_err(|_rejected| KeyRefusal::Point)?;
    Ok((PublicAlgorithm::EdDsa, parsed))
}

fn text<'k>(key: &'k Map<String, Value>, name: &str) -> Result<Option<&'k str>, KeyRefusal> {
    match key.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KeyRefusal::Malformed),
    }
}

fn bytes(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, KeyRefusal> {
    let text = text(key, name)?.ok_or(KeyRefusal::Malformed)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_respelled| KeyRefusal::Malformed)
}
