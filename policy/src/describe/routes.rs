//! The routes that calls to a destination take, in words.

use std::time::Duration;

use serde::Serialize;

use crate::compile::Destination;
use crate::compile::routes::{Action, MirrorTarget, Route, RouteTable, RouteTarget};
use crate::fault::{AbortAnswer, Fault, GRPC_STATUSES};
use crate::kind::destination_rule::values::OfProxy;
use crate::kind::virtual_service::WHOLE_PPM;
use crate::traffic::{Retries, RetryOn};

/// What the caller's sidecar does with calls; the first route that fits is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DescribedRoutes {
    /// The VirtualService that counts for the caller, `namespace/name`.
    pub service: String,
    pub routes: Vec<DescribedRoute>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DescribedRoute {
    /// Its name, or its number in the document, from 0.
    pub name: String,
    /// For every request that comes to it.
    pub takes_all: bool,
    /// What records call the destinations, with their shares; or what the sidecar answers itself.
    pub to: Vec<String>,
    /// `None`: it forwards nothing.
    pub timeout: Option<String>,
    /// `None`: it forwards nothing.
    pub retries: Option<String>,
    pub fault: Option<String>,
    /// Who gets a copy, with the share of requests.
    pub mirrors: Vec<String>,
}

/// What holds where no route says anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unrouted {
    pub timeout: String,
    pub retries: String,
}

pub(super) fn unrouted(proxy: OfProxy) -> Unrouted {
    Unrouted { timeout: timeout(None, proxy), retries: retries(&Retries::default()) }
}

pub(super) fn describe(table: &RouteTable, proxy: OfProxy) -> DescribedRoutes {
    DescribedRoutes {
        service: format!("{}/{}", table.namespace, table.name),
        routes: table.routes().map(|route| one(route, proxy)).collect(),
    }
}

fn one(route: &Route, proxy: OfProxy) -> DescribedRoute {
    let to = match &route.action {
        Action::Redirect(location) => vec![format!("redirect, {}", location.status.as_u16())],
        Action::Direct(answer) => vec![format!("answer, {}", answer.status.as_u16())],
        Action::Forward(forward) => {
            let whole = forward.total_weight();
            let shares = forward.targets().iter().map(|target| (target, target.weight));
            shares
                .filter(|(_, weight)| *weight > 0)
                .map(|(target, weight)| share(target, weight, whole))
                .collect()
        }
    };
    let (defaults, forwards) = (Retries::default(), matches!(route.action, Action::Forward(_)));
    DescribedRoute {
        name: route.id.rsplit('/').next().unwrap_or_default().to_owned(),
        takes_all: route.takes_all(),
        to,
        timeout: forwards.then(|| timeout(route.timeout, proxy)),
        retries: forwards.then(|| retries(route.retries.as_deref().unwrap_or(&defaults))),
        fault: route.fault.as_deref().map(fault),
        mirrors: route.mirrors.iter().map(mirror).collect(),
    }
}

fn share(target: &RouteTarget, weight: u32, whole: u32) -> String {
    let name = name(target.destination.as_deref(), &target.host);
    match weight == whole {
        true => name,
        false => {
            format!("{name} {}%", percent(u64::from(weight) * u64::from(WHOLE_PPM) / u64::from(whole.max(1))))
        }
    }
}

fn mirror(target: &MirrorTarget) -> String {
    let name = name(target.destination.as_deref(), &target.host);
    if target.share_ppm == WHOLE_PPM { name } else { format!("{name} {}%", percent(target.share_ppm.into())) }
}

fn name(destination: Option<&Destination>, host: &str) -> String {
    match destination {
        Some(destination) => destination.cluster.to_string(),
        None => format!("{host}, which the caller was not told of"),
    }
}

/// A route's is for the whole answer, the proxy's own for its head alone.
fn timeout(of_route: Option<Duration>, proxy: OfProxy) -> String {
    match of_route {
        Some(timeout) => written(timeout),
        None => format!("{} to the answer's head, gRPC none", written(proxy.response_timeout)),
    }
}

/// Of a million, as percent with no more decimals than it needs.
pub fn percent(ppm: u64) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn retries(retries: &Retries) -> String {
    if retries.attempts == 0 {
        return "none".into();
    }
    let mut text = format!("{} on {}", retries.attempts, words(&retries.on));
    if let Some(limit) = retries.per_try_timeout {
        text += &format!(", {} each", written(limit));
    }
    let most = retries.backoff.saturating_mul(Retries::BACKOFF_MAX);
    text += &format!(", backoff {}, growing to {}", written(retries.backoff), written(most));
    text + if retries.ignore_previous_hosts { ", other endpoints first" } else { ", any endpoint" }
}

/// As `retryOn` has them.
fn words(on: &RetryOn) -> String {
    let flags = [
        ("connect-failure", on.connect_failure),
        ("refused-stream", on.refused_stream),
        ("reset", on.reset),
        ("5xx", on.five_xx),
        ("gateway-error", on.gateway_error),
        ("retriable-4xx", on.retriable_4xx),
    ];
    let flags = flags.iter().filter(|(_, on)| *on).map(|(word, _)| (*word).to_owned());
    let statuses = on.statuses.iter().map(u16::to_string);
    let grpc = on.grpc.iter().map(|status| grpc_name(*status).to_ascii_lowercase().replace('_', "-"));
    flags.chain(statuses).chain(grpc).collect::<Vec<_>>().join(",")
}

fn fault(fault: &Fault) -> String {
    let delay = fault
        .delay
        .map(|delay| format!("delay {} for {}%", written(delay.length), percent(delay.share_ppm.into())));
    let abort = fault.abort.map(|abort| {
        let status = match abort.answer {
            AbortAnswer::Http(status) => status.to_string(),
            AbortAnswer::Grpc(status) => grpc_name(status).to_owned(),
        };
        format!("abort {status} for {}%", percent(abort.share_ppm.into()))
    });
    [delay, abort].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn grpc_name(status: u16) -> &'static str {
    GRPC_STATUSES.get(usize::from(status)).copied().unwrap_or("UNKNOWN")
}

fn written(duration: Duration) -> String {
    format!("{duration:?}")
}
