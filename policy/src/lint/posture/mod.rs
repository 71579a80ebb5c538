//! What every route of an edge asks for, and who is let in behind it: one row for each route and item of its match.
//!
//! Reads the same set in the same way as [`lint`](super::lint): what is a hole here is a finding there.

mod access;
mod caller;
mod guard;
mod hole;
mod limit;
mod route;
mod upstream;

use serde::Serialize;

use super::edge::EdgeRoute;
use super::in_order;
use super::world::World;
use crate::finding::Position;
use crate::kind::Object;
pub use access::{AccessRule, Authentication, Issuer};
pub use guard::Guard;
pub use hole::Hole;
pub use limit::Limit;
pub use upstream::{EdgeAccess, Mtls, Upstream};

/// All rows, by namespace, VirtualService, route and Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Posture {
    pub routes: Vec<RoutePosture>,
}

/// One item of the match of one route at one Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoutePosture {
    /// `namespace/virtualservice/name-or-index`.
    pub route: String,
    /// `namespace/name`.
    pub gateway: String,
    /// Port, protocol, and the mode of TLS where clients bring certificates: `443 HTTPS`.
    pub servers: Vec<String>,
    pub hosts: Vec<String>,
    /// `*`: every method.
    pub methods: Vec<String>,
    /// `/a` exactly, `/a*` by prefix, `~/a.*` by regex.
    pub paths: Vec<String>,
    /// What else the item asks for: `header x-version`.
    pub conditions: Vec<String>,
    pub position: Option<Position>,
    pub authentication: Authentication,
    /// Whose tokens the edge takes.
    pub issuers: Vec<Issuer>,
    /// Rules of JwtPolicies that decide about these requests.
    pub rules: Vec<AccessRule>,
    /// What AuthorizationPolicies of the edge ask of a token: `scope: a | b`.
    pub claims: Vec<String>,
    pub limits: Vec<Limit>,
    pub guards: Vec<Guard>,
    pub cors: Option<CorsPosture>,
    /// What the edge answers itself; absent where it forwards.
    pub answer: Option<String>,
    pub upstreams: Vec<Upstream>,
    pub holes: Vec<Hole>,
}

/// Whose pages may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CorsPosture {
    /// As paths are: `https://a` exactly, `~...` by regex.
    pub origins: Vec<String>,
    pub credentials: bool,
}

impl Posture {
    /// Holes that nobody has accepted.
    pub fn open_holes(&self) -> usize {
        self.routes.iter().filter(|route| route.is_open()).map(|route| route.open().count()).sum()
    }
}

impl RoutePosture {
    /// Holes that nobody has accepted.
    pub fn open(&self) -> impl Iterator<Item = &Hole> {
        self.holes.iter().filter(|hole| hole.accepted.is_none())
    }

    /// Whether there is one.
    pub fn is_open(&self) -> bool {
        self.open().next().is_some()
    }
}

/// Looks at all objects together. They are those of one [`crate::PolicySet`].
pub fn posture(objects: &[Object]) -> Posture {
    let objects = in_order(objects);
    let world = World::new(&objects);
    let mut routes: Vec<_> = world.edge_routes();
    routes.sort_by(|a, b| {
        let key = |r: &EdgeRoute<'_>| {
            let (service, gateway) = (&r.service.object.meta, &r.gateway.object.meta);
            [&service.namespace, &service.name, &gateway.namespace, &gateway.name].map(Clone::clone)
        };
        key(a).cmp(&key(b)).then(a.number.cmp(&b.number))
    });
    let limits = limit::all(&world);
    Posture { routes: routes.iter().flat_map(|route| route::rows(&world, &limits, route)).collect() }
}

/// The services behind all items of a route.
pub(super) fn upstreams_of(world: &World<'_>, route: &EdgeRoute<'_>) -> Vec<Upstream> {
    let anything = [crate::kind::virtual_service::HttpMatch::default()];
    let items = if route.route.matches.is_empty() { &anything[..] } else { &route.route.matches };
    items.iter().flat_map(|item| upstream::look_at(world, route, item)).collect()
}
