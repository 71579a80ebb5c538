//! Which route a request takes, and what is made of the request on it. What was judged is the request as
//! it was asked for; what is made here is what the upstream gets.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use http::uri::{Authority, PathAndQuery};
use http::{Response, request};
use palisade_policy::compile::Destination;
use palisade_policy::compile::edge::Server;
use palisade_policy::compile::routes::{Action, Route, RouteTarget, RouteView};
use palisade_policy::fault::Fault;
use palisade_policy::kind::MeshConfigSpec;
use palisade_policy::kind::virtual_service::{Binding, WHOLE_PPM};
use palisade_policy::traffic::Retries;

use crate::error::ProxyError;

/// A forwarding route, carried out as far as it can be before the request leaves.
#[derive(Debug)]
pub struct Forwarding {
    pub destination: Arc<Destination>,
    /// What the upstream is asked for.
    pub authority: Authority,
    pub path: PathAndQuery,
    route: Arc<Route>,
    target: Arc<RouteTarget>,
}

/// What routes are chosen by. `scheme`: that of the client's connection; `port`: the Gateway's, or the service's.
pub fn view<'r>(
    head: &'r request::Parts,
    authority: &'r Authority,
    path: &'r PathAndQuery,
    scheme: &'r str,
    port: u16,
    binding: Binding<'r>,
) -> RouteView<'r> {
    RouteView {
        path: path.path(),
        query: path.query(),
        method: head.method.as_str(),
        headers: &head.headers,
        authority: authority.as_str(),
        scheme,
        port,
        binding,
    }
}

/// The first route of the server's that fits.
pub fn find(server: &Server, view: &RouteView<'_>) -> Result<Arc<Route>, ProxyError> {
    let table = server.routes_for(view.authority).ok_or(ProxyError::NoRoute)?;
    table.find(view).cloned().ok_or(ProxyError::NoRoute)
}

/// Chooses a destination and writes the request's new target. `dice`: an even choice of the numbers below its
/// argument. `None` where the route forwards nothing.
pub fn forwarding(
    route: &Arc<Route>,
    view: &RouteView<'_>,
    authority: &Authority,
    path: &PathAndQuery,
    mesh: &MeshConfigSpec,
    dice: impl FnOnce(u32) -> u32,
) -> Result<Option<Forwarding>, ProxyError> {
    let Action::Forward(forward) = &route.action else { return Ok(None) };
    let target = forward.choose(dice(forward.total_weight())).ok_or(ProxyError::UnknownRouteTarget)?;
    let destination = target.destination.clone().ok_or(ProxyError::UnknownRouteTarget)?;
    Ok(Some(Forwarding {
        destination,
        authority: route.rewritten_authority().unwrap_or(authority).clone(),
        path: rewritten(route, view, path, mesh)?,
        route: route.clone(),
        target: target.clone(),
    }))
}

/// The dice of production.
pub fn random(below: u32) -> u32 {
    rand::random_range(0..below.max(1))
}

fn rewritten(
    route: &Route,
    view: &RouteView<'_>,
    path: &PathAndQuery,
    mesh: &MeshConfigSpec,
) -> Result<PathAndQuery, ProxyError> {
    let new = match route.rewritten_path(view, mesh).map_err(|_unclean| ProxyError::UncleanRewrite)? {
        Cow::Borrowed(_) => return Ok(path.clone()),
        Cow::Owned(new) => new,
    };
    let spelled = match path.query() {
        Some(query) => format!("{new}?{query}"),
        None => new,
    };
    PathAndQuery::try_from(spelled).map_err(|_invalid| ProxyError::UncleanRewrite)
}

impl Forwarding {
    /// From the request's head to the answer's; `None`: the proxy's own.
    pub fn timeout(&self) -> Option<Duration> {
        self.route.timeout
    }

    /// How it is tried again; `None`: as where nothing is said.
    pub fn retries(&self) -> Option<&Arc<Retries>> {
        self.route.retries.as_ref()
    }

    /// What is done to it on purpose.
    pub fn fault(&self) -> Option<&Arc<Fault>> {
        self.route.fault.as_ref()
    }

    /// Where copies of this request go, besides. `dice` as for the destination.
    pub fn mirrors(&self, dice: impl Fn(u32) -> u32) -> impl Iterator<Item = &Arc<Destination>> {
        let mirrors = self.route.mirrors.iter();
        let drawn = mirrors.filter(move |mirror| dice(WHOLE_PPM) < mirror.share_ppm);
        drawn.filter_map(|mirror| mirror.destination.as_ref())
    }

    /// Before identity headers are set: those are never a route's.
    pub fn change_request(&self, headers: &mut HeaderMap) {
        self.target.request_headers.apply(headers);
        self.route.request_headers.apply(headers);
    }

    pub fn change_response(&self, headers: &mut HeaderMap) {
        self.target.response_headers.apply(headers);
        self.route.response_headers.apply(headers);
    }
}

/// What records call such an answer.
pub fn details(route: &Route) -> &'static str {
    match route.action {
        Action::Redirect(_) => "redirect",
        Action::Forward(_) | Action::Direct(_) => "direct_response",
    }
}

/// The response of a route that forwards nothing. `None` where it does.
pub fn own_answer(
    route: &Route,
    scheme: &str,
    authority: &Authority,
    path: &PathAndQuery,
) -> Option<Response<Bytes>> {
    let mut response = Response::new(Bytes::new());
    match &route.action {
        Action::Forward(_) => return None,
        Action::Redirect(location) => {
            *response.status_mut() = location.status;
            // Made of parts that are valid; without it there would be nowhere to go.
            let value = location.value(scheme, authority, path.path(), path.query())?;
            response.headers_mut().insert(LOCATION, value);
        }
        Action::Direct(answer) => {
            *response.status_mut() = answer.status;
            if let Some(body) = &answer.body {
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                *response.body_mut() = body.clone();
            }
        }
    }
    route.response_headers.apply(response.headers_mut());
    Some(response)
}
