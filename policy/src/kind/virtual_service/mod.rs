//! VirtualService, networking.istio.io/v1: which requests of a host go where, at an edge and from
//! the applications of sidecars. The part of it that is for HTTP.

mod binding;
mod build;
mod conflict;
pub mod cors;
pub mod fault;
pub mod header_operations;
pub mod matcher;
pub(super) mod read;
mod read_parts;
pub mod redirect;
pub mod retries;
pub mod rewrite;
pub mod text;

use std::collections::BTreeMap;
use std::time::Duration;

pub use binding::Binding;
pub(crate) use binding::{called_hosts, gateways, is_for_mesh, is_item_for, may_route};
pub(crate) use build::{Built, BuiltAction, build};
pub(crate) use conflict::conflicts;
pub use cors::CorsPolicy;
pub use fault::HttpFault;
pub(crate) use header_operations::is_of_proxy;
pub use header_operations::{HeaderChanges, Headers};
pub use read::percent;
pub(crate) use read::read;
pub use redirect::{DirectResponse, Redirect};
pub use retries::HttpRetry;
pub use rewrite::Rewrite;
pub use text::StringMatch;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualServiceSpec {
    /// At a Gateway `name`, `*.name` or `*`, as clients ask for them; for sidecars the names of services.
    pub hosts: Vec<String>,
    /// `name` or `namespace/name`; `mesh`, or none: the sidecars.
    pub gateways: Vec<String>,
    /// `.`: callers of this namespace only; `*` or absent: all.
    pub export_to: Vec<String>,
    /// The first that matches is taken.
    pub http: Vec<HttpRoute>,
}

/// One item of `http`. It does one of three things: forward to `route`, redirect, or answer itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRoute {
    pub name: Option<String>,
    /// Alternatives; none match every request.
    pub matches: Vec<HttpMatch>,
    pub route: Vec<RouteDestination>,
    pub redirect: Option<Redirect>,
    pub direct_response: Option<DirectResponse>,
    pub rewrite: Option<Rewrite>,
    pub timeout: Option<Duration>,
    pub retries: Option<HttpRetry>,
    pub fault: Option<HttpFault>,
    pub mirrors: Vec<Mirror>,
    pub cors: Option<CorsPolicy>,
    pub headers: Headers,
}

/// All fields that are given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMatch {
    pub uri: Option<StringMatch>,
    pub ignore_uri_case: bool,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    pub scheme: Option<StringMatch>,
    /// The Gateway's port; for sidecars the service's.
    pub port: Option<u16>,
    /// Of those of the VirtualService; none: all of them.
    pub gateways: Vec<String>,
    /// The caller's.
    pub source_labels: BTreeMap<String, String>,
    pub source_namespace: Option<String>,
    /// `None`: the header is there.
    pub headers: BTreeMap<String, Option<StringMatch>>,
    /// `None`: the header is not there.
    pub without_headers: BTreeMap<String, Option<StringMatch>>,
    /// `None`: the parameter is there.
    pub query_params: BTreeMap<String, Option<StringMatch>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteDestination {
    pub destination: DestinationRef,
    /// Share of the requests, of the sum of all weights. Absent: 0, or all of them for an only destination.
    pub weight: Option<u32>,
    pub headers: Headers,
}

/// A service by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationRef {
    /// A short name is one of the VirtualService's namespace.
    pub host: String,
    /// Absent: the only port that the service has.
    pub port: Option<u16>,
    /// One that a DestinationRule for the host defines. Absent: all endpoints.
    pub subset: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub destination: DestinationRef,
    /// Of a million requests.
    pub share_ppm: u32,
}

impl HttpRoute {
    /// How many patterns are programs.
    fn regexes(&self) -> usize {
        let texts = self.matches.iter().flat_map(|item| {
            let named = [&item.headers, &item.without_headers, &item.query_params].into_iter();
            let named = named.flat_map(|by_name| by_name.values().flatten());
            [&item.uri, &item.method, &item.authority, &item.scheme].into_iter().flatten().chain(named)
        });
        let origins = self.cors.iter().flat_map(|cors| &cors.allow_origins);
        let matched = texts.chain(origins).filter(|text| matches!(text, StringMatch::Regex(_))).count();
        matched + usize::from(self.rewrite.as_ref().is_some_and(|r| r.uri_regex.is_some()))
    }
}

/// A whole, in parts per million.
pub const WHOLE_PPM: u32 = 1_000_000;
