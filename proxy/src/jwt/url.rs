//! The address of a key set.

use http::Uri;
use http::uri::{Authority, Scheme};

use super::fetch::FetchError;

/// A URL that may be asked, in the parts that asking takes.
#[derive(Clone, Debug)]
pub(super) struct KeysUrl {
    pub(super) tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: Authority,
    /// Path and query.
    pub(super) target: String,
}

impl KeysUrl {
    /// `https://` everywhere; `http://` only where private addresses are allowed too, since whoever sits between
    /// could answer with keys of their own.
    pub(super) fn parse(text: &str, allow_private: bool) -> Result<Self, FetchError> {
        let uri: Uri = text.parse().map_err(|_invalid| FetchError::Url)?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP && allow_private => false,
            Some(scheme) if *scheme == Scheme::HTTP => return Err(FetchError::Plaintext),
            _ => return Err(FetchError::Url),
        };
        let authority = uri.authority().ok_or(FetchError::Url)?.clone();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(FetchError::Url);
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { tls, host, port, authority, target })
    }
}
