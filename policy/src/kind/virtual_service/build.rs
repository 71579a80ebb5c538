//! What a VirtualService must be beside well-formed, and its routes ready to be bound to destinations. YAML and wire come
//! through here alike.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use palisade_identity::Namespace;

use super::cors::Cors;
use super::header_operations::{HeaderOperations, Side};
use super::matcher::Matcher;
use super::redirect::{Answer, Location};
use super::rewrite::PathRewrite;
use super::{
    DestinationRef, Headers, HttpRoute, Mirror, RouteDestination, VirtualServiceSpec, binding, fault, retries,
};
use crate::fault::Fault;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::Meta;
use crate::kind::service_entry::valid_host;
use crate::traffic::Retries;

/// Routes are tried one after the other; more of them are tables that belong into a service.
const ROUTES_MAX: usize = 1000;
/// Each costs memory in every edge that the object is sent to.
const REGEXES_MAX: usize = 200;
/// No deadline at all is not offered.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// A route that does not know its destinations yet.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// `namespace/virtualservice/name-or-index`.
    pub(crate) id: Arc<str>,
    /// In the document, from 0.
    pub(crate) position: usize,
    pub(crate) matches: Box<[Matcher]>,
    pub(crate) action: BuiltAction,
    pub(crate) rewrite: PathRewrite,
    pub(crate) request_headers: HeaderOperations,
    pub(crate) response_headers: HeaderOperations,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<Arc<Retries>>,
    pub(crate) fault: Option<Arc<Fault>>,
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) cors: Option<Arc<Cors>>,
}

#[derive(Clone, Debug)]
pub(crate) enum BuiltAction {
    Forward(Vec<Weighted>),
    Redirect(Location),
    Direct(Answer),
}

#[derive(Clone, Debug)]
pub(crate) struct Weighted {
    pub(crate) destination: DestinationRef,
    pub(crate) weight: u32,
    pub(crate) request_headers: HeaderOperations,
    pub(crate) response_headers: HeaderOperations,
}

impl Built {
    /// Takes out what cannot match requests of a workload, and says whether anything is left.
    pub(crate) fn is_for(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        if self.matches.iter().all(|item| item.is_for(namespace, labels)) {
            return true;
        }
        let left =
            std::mem::take(&mut self.matches).into_iter().filter(|item| item.is_for(namespace, labels));
        self.matches = left.collect();
        // Without an item it would be for every request.
        !self.matches.is_empty()
    }
}

/// Compiles the routes. What does not fit is reported; a route that cannot be made is not among the result.
pub(crate) fn build(meta: &Meta, spec: &VirtualServiceSpec, problems: &mut Problems) -> Vec<Built> {
    binding::check(meta, spec, problems);
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
        routes.extend(build_route(meta, route, (i, id), &path, problems));
    }
    routes
}

fn build_route(
    meta: &Meta,
    route: &HttpRoute,
    (position, id): (usize, Arc<str>),
    path: &str,
    problems: &mut Problems,
) -> Option<Built> {
    let matches = route.matches.iter().enumerate();
    let matches =
        matches.map(|(i, item)| Matcher::new(item, meta, &format!("{path}.match[{i}]"), problems)).collect();
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
    let retries = route.retries.as_ref().map(|retries| {
        Arc::new(retries::build(retries, route.timeout, &format!("{path}.retries"), problems))
    });
    let fault = route.fault.as_ref();
    let fault = fault.and_then(|fault| fault::build(fault, &id, &format!("{path}.fault"), problems));
    Some(Built {
        id,
        position,
        matches,
        action: build_action(route, &request_headers, &response_headers, path, problems)?,
        rewrite,
        request_headers,
        response_headers,
        timeout: route.timeout,
        retries,
        fault: fault.map(Arc::new),
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
            ("retries", route.retries.is_some()),
            ("fault", route.fault.is_some()),
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
