//! CORS (<https://fetch.spec.whatwg.org/#http-cors-protocol>): preflights answered at the edge, and what answers may
//! say to pages of other origins. Nothing of a request is reflected but an origin that is allowed.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap,
    HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response};
use palisade_policy::kind::virtual_service::cors::{AllowedOrigin, Cors, one_origin};

/// All that an upstream could say about other origins. The edge's policy is the only one.
const ANSWERS: [HeaderName; 7] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
    HeaderName::from_static("access-control-allow-private-network"),
];

/// What the answer to one request says. Made of the request, kept until the answer, refusals included: a page that may
/// not read a 401 cannot ask its user to log in.
#[derive(Debug)]
pub struct Leave {
    /// `None`: the origin has none.
    origin: Option<HeaderValue>,
    credentials: bool,
    expose: Option<HeaderValue>,
    /// The answer depends on the origin, and caches must know.
    vary: bool,
}

impl Leave {
    pub fn of(cors: &Cors, headers: &HeaderMap) -> Self {
        let origin = one_origin(headers);
        let (origin, vary) = match origin.map(|origin| (origin, cors.allows(origin))) {
            Some((_, Some(AllowedOrigin::Any))) => (Some(HeaderValue::from_static("*")), false),
            Some((origin, Some(AllowedOrigin::This))) => (Some(origin.clone()), true),
            Some((_, None)) | None => (None, true),
        };
        Self {
            credentials: cors.allow_credentials && origin.is_some(),
            expose: cors.expose_headers.clone().filter(|_| origin.is_some()),
            origin,
            vary,
        }
    }

    /// Writes into an answer in place of all that is there.
    pub fn write(&self, headers: &mut HeaderMap) {
        for name in &ANSWERS {
            headers.remove(name);
        }
        if let Some(origin) = &self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
        if self.vary {
            headers.append(VARY, HeaderValue::from_name(ORIGIN));
        }
    }
}

/// The answer to a preflight, which carries no token and reaches no upstream. `None` where the request is none, or is
/// to be a request like others.
pub fn preflight(cors: &Cors, method: &Method, headers: &HeaderMap) -> Option<Response<Bytes>> {
    if !cors.answers_preflight(method.as_str(), headers) {
        return None;
    }
    let leave = Leave::of(cors, headers);
    let mut response = Response::new(Bytes::new());
    leave.write(response.headers_mut());
    response.headers_mut().remove(ACCESS_CONTROL_EXPOSE_HEADERS);
    if leave.origin.is_some() {
        let lists = [
            (ACCESS_CONTROL_ALLOW_METHODS, &cors.allow_methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers),
            (ACCESS_CONTROL_MAX_AGE, &cors.max_age),
        ];
        for (name, value) in lists {
            if let Some(value) = value {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    Some(response)
}
