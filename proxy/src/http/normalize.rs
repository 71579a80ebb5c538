//! One spelling for a request before anybody judges it. What leaves here is what will be forwarded.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, StatusCode, Version, request};
use palisade_policy::kind::MeshConfigSpec;
use palisade_policy::kind::mesh_config::{AmbiguousPaths, PathNormalization};
use palisade_policy::request::path::{self, PathError};

use super::authority::is_plain;
use super::framing::content_length;
use super::headers;

/// Why a request is refused before any policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No authority, two, two different ones, or one with user information.
    Authority,
    /// A target of another scheme than `http` and `https`.
    Scheme,
    /// Not origin-form, or an escape or byte that is refused.
    Path(PathError),
    /// A framing or syntax error seen by a codec.
    Framing,
    /// A head over the limits on bytes or lines.
    HeadTooLarge,
    /// A stream over the limit on concurrent ones of a connection.
    TooManyStreams,
    /// HTTP/2 frames that broke the rules for all of the connection.
    Connection,
}

impl Malformed {
    /// Machine-readable, stable.
    pub fn code(self) -> &'static str {
        match self {
            Self::Authority => "authority_malformed",
            Self::Scheme => "scheme_unknown",
            Self::Path(PathError::NotAbsolute) => "path_not_absolute",
            Self::Path(PathError::Ambiguous) => "path_ambiguous",
            Self::Path(PathError::Malformed) => "path_malformed",
            Self::Framing => "request_malformed",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyStreams => "too_many_streams",
            Self::Connection => "connection_malformed",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooManyStreams => StatusCode::SERVICE_UNAVAILABLE,
            Self::Authority | Self::Scheme | Self::Path(_) | Self::Framing | Self::Connection => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

/// The parts that are judged and forwarded.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) authority: Authority,
    /// Normalized path and the query as it came.
    pub(crate) path: PathAndQuery,
    /// The path is ambiguous, and passes only if a guard keeps such paths on the route that is chosen.
    pub(crate) kept: bool,
}

/// Takes authority and path out of a request head, and removes from it what ends at this hop.
pub(crate) fn normalize(head: &mut request::Parts, mesh: &MeshConfigSpec) -> Result<Target, Malformed> {
    normalize_keeping(head, mesh, |_, _| false)
}

/// The same; an ambiguous path that MeshConfig rejects goes on when `may_keep` says so, for host and method, and is then
/// marked as such: whether it really is kept is to be judged once the route is known.
pub(crate) fn normalize_keeping(
    head: &mut request::Parts,
    mesh: &MeshConfigSpec,
    may_keep: impl FnOnce(&str, &str) -> bool,
) -> Result<Target, Malformed> {
    check_framing(head)?;
    check_scheme(head)?;
    let authority = authority(head)?;
    let mut kept = false;
    let path = match head.uri.path_and_query() {
        Some(path) => {
            let path = rooted(path, head)?;
            match normalize_path(&path, mesh.path_normalization, mesh.ambiguous_paths) {
                Err(Malformed::Path(PathError::Ambiguous))
                    if may_keep(authority.as_str(), head.method.as_str()) =>
                {
                    kept = true;
                    normalize_path(&path, mesh.path_normalization, AmbiguousPaths::Keep)?
                }
                path => path?,
            }
        }
        // Absolute form without a path (RFC 9112 section 3.2.2) means "/".
        None if head.uri.scheme().is_some() && head.version <= Version::HTTP_11 => {
            PathAndQuery::from_static("/")
        }
        None => return Err(Malformed::Path(PathError::NotAbsolute)),
    };
    headers::strip_hop_by_hop(&mut head.headers);
    headers::strip_ours(&mut head.headers);
    if head.version == Version::HTTP_2 {
        headers::join_cookies(&mut head.headers);
    }
    // hyper has answered it towards the caller, and upstream bodies are streamed without waiting.
    head.headers.remove(http::header::EXPECT);
    Ok(Target { authority, path, kept })
}

/// hyper looks at the last transfer coding only. Another one before it, `chunked` twice, or a second line would be
/// read differently elsewhere (RFC 9112 sections 6.1 and 7.1), and no caller of ours needs them. Of lengths over HTTP/2 it
/// takes what an HTTP/1.1 server would not: they go upstream as they came.
fn check_framing(head: &request::Parts) -> Result<(), Malformed> {
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let plain = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let one_each = codings.next().is_none() && has_plain_length(&head.headers);
    if plain && one_each { Ok(()) } else { Err(Malformed::Framing) }
}

/// Whether there is one length, which is a plain number, or none.
pub(crate) fn has_plain_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let number = lengths.next().is_none_or(|length| content_length(length.as_bytes()).is_ok());
    number && lengths.next().is_none()
}

/// What `ftp://` or `wss://` names is nothing that is served here (RFC 9110 section 7.4), though its host and path may look
/// like it.
fn check_scheme(head: &request::Parts) -> Result<(), Malformed> {
    let served = |scheme: &str| ["http", "https"].iter().any(|ours| scheme.eq_ignore_ascii_case(ours));
    if head.uri.scheme_str().is_none_or(served) { Ok(()) } else { Err(Malformed::Scheme) }
}

/// The target's authority wins over Host (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1), and may not contradict it:
/// whoever reads the other one must come to the same host.
fn authority(head: &mut request::Parts) -> Result<Authority, Malformed> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next().map(|host| Authority::try_from(host.as_bytes())).transpose();
    let host = host.map_err(|_invalid| Malformed::Authority)?;
    if hosts.next().is_some() {
        return Err(Malformed::Authority);
    }
    let authority = match (head.uri.authority().cloned(), host) {
        (Some(target), Some(host)) if !target.as_str().eq_ignore_ascii_case(host.as_str()) => {
            return Err(Malformed::Authority);
        }
        (Some(target), _) => target,
        (None, Some(host)) => host,
        (None, None) => return Err(Malformed::Authority),
    };
    if !is_plain(&authority) {
        return Err(Malformed::Authority);
    }
    head.headers.remove(HOST);
    Ok(authority)
}

/// A target that is only a query (`http://a?b`) means the root in absolute form, and nothing in any other. The http
/// crate calls the path of both `/`: what was judged would not be what is sent.
fn rooted<'p>(path: &'p PathAndQuery, head: &request::Parts) -> Result<Cow<'p, PathAndQuery>, Malformed> {
    let not_absolute = Malformed::Path(PathError::NotAbsolute);
    if !path.as_str().starts_with('?') {
        return Ok(Cow::Borrowed(path));
    }
    if head.uri.scheme().is_none() || head.version > Version::HTTP_11 {
        return Err(not_absolute);
    }
    PathAndQuery::try_from(format!("/{}", path.as_str())).map(Cow::Owned).map_err(|_invalid| not_absolute)
}

fn normalize_path(
    target: &PathAndQuery,
    normalization: PathNormalization,
    ambiguous: AmbiguousPaths,
) -> Result<PathAndQuery, Malformed> {
    let path = path::normalize(target.path(), normalization, ambiguous).map_err(Malformed::Path)?;
    match path {
        Cow::Borrowed(path) if path == target.path() => Ok(target.clone()),
        path => {
            let spelled = match target.query() {
                Some(query) => format!("{path}?{query}"),
                None => path.into_owned(),
            };
            PathAndQuery::try_from(spelled).map_err(|_invalid| Malformed::Path(PathError::Malformed))
        }
    }
}

/// TRACE would give back what proxies add to a request (RFC 9110 section 9.3.8).
pub(crate) fn is_trace(head: &request::Parts) -> bool {
    head.method == Method::TRACE
}

/// CONNECT would make a tunnel that no policy looks into.
pub(crate) fn is_connect(head: &request::Parts) -> bool {
    head.method == Method::CONNECT
}
