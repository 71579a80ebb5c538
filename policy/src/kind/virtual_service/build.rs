//! What a VirtualService must be beside well-formed, and its routes ready to be bound to destinations. YAML and wire come
//! through here alike.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use palisade_identity::Namespace;

use super::cors::Cors;
use super::header_operations::{HeaderOperations, Side};
use super::matcher::Matcher;
use super::redirect::{Answer, Location};
use super::rewrite::PathRewrite;
use super::{DestinationRef, Headers, HttpRoute, Mirror, RouteDestination, VirtualServiceSpec};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::Meta;
use crate::kind::gateway::HostPattern;
use crate::kind::service_entry::valid_host;

/// Routes are tried one after the other; more of them are tables that belong into a service.
const ROUTES_MAX: usize = 1000;
/// Each costs memory in every edge that the object is sent to.
const REGEXES_MAX: usize = 200;
/// No deadline at all is not offered.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// A route that does not know its destinations yet.
#[derive(Debug)]
pub(crate) struct Built {
    /// `namespace/virtualservice/name-or-index`.
    pub(crate) id: Arc<str>,
    pub(crate) matches: Box<[Matcher]>,
    pub(crate) action: BuiltAction,
    pub(crate) rewrite: PathRewrite,
    pub(crate) request_headers: HeaderOperations,
    pub(crate) response_headers: HeaderOperations,
    pub(crate) timeout: Option<Duration>,
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) cors: Option<Arc<Cors>>,
}

#[derive(Debug)]
pub(crate) enum BuiltAction {
    Forward(Vec<Weighted>),
    Redirect(Location),
    Direct(Answer),
}

#[derive(Debug)]
pub(crate) struct Weighted {
    pub(crate) destination: DestinationRef,
    pub(crate) weight: u32,
    pub(crate) request_headers: HeaderOperations,
    pub(crate) response_headers: HeaderOperations,
}

/// The Gateways of a VirtualService, as namespace and name.
pub(crate) fn gateways<'a>(
    meta: &'a Meta,
    spec: &'a VirtualServiceSpec,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    spec.gateways.iter().map(|text| text.split_once('/').unwrap_or((&meta.namespace, text)))
}

/// Compiles the routes. What does not fit is reported; a route that cannot be made is not among the result.
pub(crate) fn build(meta: &Meta, spec: &VirtualServiceSpec, problems: &mut Problems) -> Vec<Built> {
    check_hosts(spec, problems);
    check_gateways(spec, problems);
    if spec.http.is_empty() || spec.http.len() > ROUTES_MAX {
        let message =
            format!("a VirtualService has 1 to {ROUTES_MAX} routes, this one has {}", spec.http.len());
        problems.error(code::ROUTE_RANGE, "spec.http", message);
    }
    let regexes = spec.http.iter().map(HttpRoute::regexes).sum::<usize>();
    if regexes > REGEXES_MAX {
        let message = format!("a VirtualService has {REGEXES_MAX} regexes at most, this one has {regexes}");
        problems.error(code::ROUTE_RANGE, "spec.http", message);
        problems.help("most of them can be a prefix; or write several objects for different hosts");
        return Vec::new();
    }
    let mut ids = BTreeSet::new();
    let mut routes = Vec::with_capacity(spec.http.len());
    for (i, route) in spec.http.iter().enumerate() {
        let path = format!("spec.http[{i}]");
        let name = route.name.clone().unwrap_or_else(|| i.to_string());
        // Ids have three parts, and go into policies and records.
        if Namespace::parse(&name).is_err() {
            let message = format!("{name:?} is no name: letters, digits, '.', '-' and '_', at most 253");
            problems.error(code::BAD_NAME, format!("{path}.name"), message);
        }
        if !ids.insert(name.clone()) {
            let message = format!("another route of this VirtualService goes by {name:?}");
            problems.error(code::ROUTE_NAME, format!("{path}.name"), message);
            problems.help("policies and records name routes: give each a name of its own");
        }
        let id = format!("{}/{}/{name}", meta.namespace, meta.name).into();
        routes.extend(build_route(route, id, &path, problems));
    }
    routes
}

fn check_hosts(spec: &VirtualServiceSpec, problems: &mut Problems) {
    if spec.hosts.is_empty() {
        problems.error(code::MISSING_FIELD, "spec.hosts", "a VirtualService has at least one host");
    }
    let mut seen = BTreeSet::new();
    for (i, host) in spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{i}]");
        match HostPattern::parse(host) {
            None => {
                problems.error(code::BAD_HOST, path, format!("{host:?} is no host of a VirtualService"));
                problems.help("write name, *.name or *, in lower case, as clients ask for it");
            }
            Some(pattern) if !seen.insert(pattern.clone()) => {
                problems.error(code::HOST_TAKEN, path, format!("the host {host:?} is written twice"));
            }
            Some(_) => {}
        }
    }
}

fn check_gateways(spec: &VirtualServiceSpec, problems: &mut Problems) {
    if spec.gateways.is_empty() {
        let message = "without gateways the routes would be for sidecars, which take none yet";
        problems.error(code::ROUTE_GATEWAYS, "spec.gateways", message);
        problems.help("name the Gateway: gateways: [public], or [namespace/name]");
    }
    let mut seen = BTreeSet::new();
    for (i, text) in spec.gateways.iter().enumerate() {
        let path = format!("spec.gateways[{i}]");
        let parts_fit = text.split('/').count() <= 2 && text.split('/').all(|p| Namespace::parse(p).is_ok());
        if text == "mesh" {
            problems.error(code::ROUTE_GATEWAYS, path, "mesh: sidecars take no routes yet");
            problems.help("name a Gateway; sidecars reach a service by its host alone");
        } else if !parts_fit {
            problems.error(code::ROUTE_GATEWAYS, path, format!("{text:?} names no Gateway"));
            problems.help("write name or namespace/name");
        } else if !seen.insert(text) {
            problems.error(code::ROUTE_GATEWAYS, path, format!("the Gateway {text:?} is written twice"));
        }
    }
}

fn build_route(route: &HttpRoute, id: Arc<str>, path: &str, problems: &mut Problems) -> Option<Built> {
    let matches = route.matches.iter().enumerate();
    let matches =
        matches.map(|(i, item)| Matcher::new(item, &format!("{path}.match[{i}]"), problems)).collect();
    let (request_headers, response_headers) = operations(&route.headers, path, problems);
    if let Some(timeout) = route.timeout
        && !TIMEOUT.contains(&timeout)
    {
        let message = format!("{timeout:?} is not within 1ms and 1h");
        problems.error(code::ROUTE_RANGE, format!("{path}.timeout"), message);
        problems.help("0s would wait for ever; leave timeout out for the proxy's own");
    }
    let rewrite = match &route.rewrite {
        Some(rewrite) => PathRewrite::new(rewrite, &format!("{path}.rewrite"), problems),
        None => PathRewrite::default(),
    };
    for (i, mirror) in route.mirrors.iter().enumerate() {
        let host = &mirror.destination.host;
        check_destination(host, &format!("{path}.mirrors[{i}].destination.host"), problems);
    }
    let cors = route.cors.as_ref().map(|cors| {
        let cors_path = format!("{path}.corsPolicy");
        for name in response_headers.names().iter().filter(|n| n.starts_with("access-control-")) {
            problems.error(code::BAD_HEADER, path, format!("{name} is corsPolicy's to write"));
        }
        Arc::new(Cors::new(cors, &cors_path, problems))
    });
    Some(Built {
        id,
        matches,
        action: build_action(route, &request_headers, &response_headers, path, problems)?,
        rewrite,
        request_headers,
        response_headers,
        timeout: route.timeout,
        mirrors: route.mirrors.clone(),
        cors,
    })
}

fn operations(
    headers: &Headers,
    path: &str,
    problems: &mut Problems,
) -> (HeaderOperations, HeaderOperations) {
    let mut side = |side, name, changes| {
        HeaderOperations::new(changes, side, &format!("{path}.headers.{name}"), problems)
    };
    (side(Side::Request, "request", &headers.request), side(Side::Response, "response", &headers.response))
}

fn build_action(
    route: &HttpRoute,
    request: &HeaderOperations,
    response: &HeaderOperations,
    path: &str,
    problems: &mut Problems,
) -> Option<BuiltAction> {
    let actions = [!route.route.is_empty(), route.redirect.is_some(), route.direct_response.is_some()];
    if actions.iter().filter(|there| **there).count() != 1 {
        problems.error(code::ROUTE_ACTION, path, "a route forwards, redirects or answers: one of the three");
        problems.help("write one of route, redirect, directResponse");
        return None;
    }
    if route.route.is_empty() {
        let idle = [
            ("rewrite", route.rewrite.is_some()),
            ("timeout", route.timeout.is_some()),
            ("mirror", !route.mirrors.is_empty()),
            ("headers.request", !request.is_empty()),
        ];
        for (field, _) in idle.iter().filter(|(_, there)| *there) {
            let message = format!("{field} is about forwarding, and this route forwards nothing");
            problems.error(code::ROUTE_ACTION, format!("{path}.{field}"), message);
        }
    }
    if let Some(redirect) = &route.redirect {
        return Location::new(redirect, &format!("{path}.redirect"), problems).map(BuiltAction::Redirect);
    }
    if let Some(answer) = &route.direct_response {
        return Answer::new(answer, &format!("{path}.directResponse"), problems).map(BuiltAction::Direct);
    }
    Some(BuiltAction::Forward(destinations(&route.route, (request, response), path, problems)))
}

fn destinations(
    written: &[RouteDestination],
    (request, response): (&HeaderOperations, &HeaderOperations),
    path: &str,
    problems: &mut Problems,
) -> Vec<Weighted> {
    let only = written.len() == 1;
    let sum = written.iter().try_fold(0u32, |sum, d| sum.checked_add(d.weight.unwrap_or(0)));
    if !only && matches!(sum, None | Some(0)) {
        problems.error(
            code::BAD_WEIGHT,
            format!("{path}.route"),
            "the weights add up to nothing, or to too much",
        );
        problems.help("give each destination a weight, for example 90 and 10");
    }
    let mut out = Vec::with_capacity(written.len());
    for (i, item) in written.iter().enumerate() {
        let path = format!("{path}.route[{i}]");
        check_destination(&item.destination.host, &format!("{path}.destination.host"), problems);
        if !only && item.weight.is_none() {
            let message = "without a weight this destination gets no requests, as in Istio";
            problems.warning(code::BAD_WEIGHT, path.as_str(), message);
            problems.help("write weight; 0 to mean none");
        }
        let (request_headers, response_headers) = operations(&item.headers, &path, problems);
        for (own, routes) in [(&request_headers, request), (&response_headers, response)] {
            for name in own.names().intersection(&routes.names()) {
                let message = format!("{name} is changed by the route and by its destination");
                problems.error(code::BAD_HEADER, format!("{path}.headers"), message);
                problems.help("keep one of the two: which comes last is not for readers to guess");
            }
        }
        // An only destination gets everything, whatever its weight says (Istio too).
        let weight = if only { 1 } else { item.weight.unwrap_or(0) };
        out.push(Weighted {
            destination: item.destination.clone(),
            weight,
            request_headers,
            response_headers,
        });
    }
    out
}

fn check_destination(host: &str, path: &str, problems: &mut Problems) {
    if !valid_host(host) {
        problems.error(code::BAD_HOST, path, format!("{host:?} is no host of a service"));
        problems.help("write the service's name, or name.namespace");
    }
}
