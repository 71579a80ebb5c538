//! VirtualService: which route a request takes, what is made of it, and what is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "../support/mod.rs"]
mod support;

mod actions;
mod binding;
mod cors;
mod describe;
mod matching;
mod mesh;
mod properties;
mod refusals;
mod resilience;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use palisade_policy::Snapshot;
use palisade_policy::compile::routes::{Action, Forward, Route, RouteView};
use palisade_policy::kind::virtual_service::Binding;
use support::{parse_ok, service, snapshot, workload};

/// Ports 80 and 443 of an edge in the namespace bank, for every host.
pub(crate) const GATEWAY: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: bank}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: api}}
";

/// A VirtualService of the namespace bank for every host of that Gateway. `http`: its routes, in flow style.
pub(crate) fn routes(http: &str) -> String {
    virtual_service("bank", "v", &format!("{{hosts: ['*'], gateways: [public], http: [{http}]}}"))
}

pub(crate) fn virtual_service(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// What the edge is told: services accounts and ledger of bank, cards of shop.
#[track_caller]
pub(crate) fn edge(text: &str) -> Snapshot {
    let services = [service("bank", "accounts"), service("bank", "ledger"), service("shop", "cards")];
    snapshot(&parse_ok(text).0, &services, &workload("bank", "edge"))
}

/// A snapshot with these routes on every host.
#[track_caller]
pub(crate) fn edge_with(http: &str) -> Snapshot {
    edge(&format!("{GATEWAY}{}", routes(http)))
}

/// A request in the making: `GET https://api.bank.example/`.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    method: &'static str,
    target: String,
    authority: String,
    headers: HeaderMap,
    port: u16,
    binding: Binding<'static>,
}

pub(crate) fn get(target: &str) -> Asked {
    Asked {
        method: "GET",
        target: target.into(),
        authority: "api.bank.example".into(),
        headers: HeaderMap::new(),
        port: 443,
        binding: Some(("bank", "public")),
    }
}

impl Asked {
    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn authority(mut self, authority: &str) -> Self {
        self.authority = authority.into();
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        self
    }

    /// From the application of a sidecar.
    pub(crate) fn by_application(mut self) -> Self {
        (self.port, self.binding) = (8080, None);
        self
    }

    pub(crate) fn plaintext(mut self) -> Self {
        self.port = 80;
        self
    }

    pub(crate) fn view<T>(&self, use_it: impl FnOnce(&RouteView<'_>) -> T) -> T {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        use_it(&RouteView {
            path,
            query,
            method: self.method,
            headers: &self.headers,
            authority: &self.authority,
            scheme: if self.port == 443 { "https" } else { "http" },
            port: self.port,
            binding: self.binding,
        })
    }

    pub(crate) fn route(&self, snapshot: &Snapshot) -> Option<Arc<Route>> {
        let server = snapshot.edge().port(self.port)?.server_for_host(&self.authority)?;
        let table = server.routes_for(&self.authority)?;
        self.view(|view| table.find(view).cloned())
    }

    /// The id of the route that a sidecar takes to the destination of this authority, with its port.
    pub(crate) fn called(&self, snapshot: &Snapshot, to: &str) -> Option<String> {
        let destination = snapshot.destination(to, 80)?;
        let table = snapshot.mesh_routes(destination)?;
        let asked = Self { port: destination.port, ..self.clone().authority(to).by_application() };
        asked.view(|view| table.find(view).map(|route| route.id.to_string()))
    }

    /// The name of the route, which stands last in its id.
    pub(crate) fn name(&self, snapshot: &Snapshot) -> Option<String> {
        self.route(snapshot).map(|route| route.id.rsplit('/').next().unwrap().to_owned())
    }
}

pub(crate) fn forward(route: &Route) -> &Forward {
    match &route.action {
        Action::Forward(forward) => forward,
        other => panic!("no forwarding: {other:?}"),
    }
}
