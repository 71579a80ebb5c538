//! One route as rows.

use super::super::edge::{EdgeRoute, methods, paths};
use super::super::pattern::Pattern;
use super::super::world::World;
use super::{Authentication, CorsPosture, RoutePosture, access, guard, hole, limit, upstream};
use crate::document::Places;
use crate::kind::gateway::{GatewayProtocol, GatewayServer, GatewayTlsMode};
use crate::kind::virtual_service::{HttpMatch, StringMatch};

pub(super) fn rows(
    world: &World<'_>,
    limits: &[limit::Counting<'_>],
    route: &EdgeRoute<'_>,
) -> Vec<RoutePosture> {
    let anything = [HttpMatch::default()];
    let items = if route.route.matches.is_empty() { &anything[..] } else { &route.route.matches };
    items.iter().map(|item| row(world, limits, route, item)).collect()
}

fn row(
    world: &World<'_>,
    limits: &[limit::Counting<'_>],
    route: &EdgeRoute<'_>,
    item: &HttpMatch,
) -> RoutePosture {
    let pieces = route.requests_of(item);
    let access = access::look_at(world, route, &pieces);
    let upstreams = upstream::look_at(world, route, item);
    let authentication = match access.authentication {
        Authentication::None | Authentication::Optional if !route.forwards() => Authentication::NotNeeded,
        other => other,
    };
    let name = |p: &Pattern| p.shown();
    let any_path = |p: &Pattern| if p.is_any() { "/*".to_owned() } else { p.shown() };
    let gateway = &route.gateway.object.meta;
    RoutePosture {
        route: route.id.clone(),
        gateway: format!("{}/{}", gateway.namespace, gateway.name),
        servers: route.servers().map(server).collect(),
        hosts: route.hosts.iter().map(name).collect(),
        methods: methods(item).iter().map(name).collect(),
        paths: paths(item).iter().map(any_path).collect(),
        conditions: conditions(item),
        position: Places::new(route.service.object).find(&route.path()),
        holes: hole::find(world, route, &pieces, authentication, &upstreams),
        authentication,
        issuers: access.issuers,
        rules: access.rules,
        claims: access.claims,
        limits: limit::look_at(limits, route, &pieces),
        guards: guard::look_at(world, route, &pieces),
        cors: route.route.cors.as_ref().map(|cors| CorsPosture {
            origins: cors.allow_origins.iter().map(shown).collect(),
            credentials: cors.allow_credentials,
        }),
        answer: answer(route),
        upstreams,
    }
}

fn server(server: &GatewayServer) -> String {
    let protocol = match server.port.protocol {
        GatewayProtocol::Http => "HTTP",
        GatewayProtocol::Http2 => "HTTP2",
        GatewayProtocol::Https => "HTTPS",
    };
    let certificates = match server.tls.as_ref().and_then(|tls| tls.mode) {
        Some(GatewayTlsMode::Mutual) => " MUTUAL",
        Some(GatewayTlsMode::OptionalMutual) => " OPTIONAL_MUTUAL",
        Some(GatewayTlsMode::Simple) | None => "",
    };
    format!("{} {protocol}{certificates}", server.port.number)
}

fn answer(route: &EdgeRoute<'_>) -> Option<String> {
    match (&route.route.redirect, &route.route.direct_response) {
        (Some(_), _) => Some("redirect".to_owned()),
        (None, Some(response)) => Some(format!("direct response {}", response.status)),
        (None, None) => None,
    }
}

fn shown(matching: &StringMatch) -> String {
    match matching {
        StringMatch::Exact(text) => text.clone(),
        StringMatch::Prefix(text) => format!("{text}*"),
        StringMatch::Regex(text) => format!("~{text}"),
    }
}

/// What is not among hosts, methods and paths.
fn conditions(item: &HttpMatch) -> Vec<String> {
    let value =
        |wanted: &Option<StringMatch>| wanted.as_ref().map_or(String::new(), |v| format!(": {}", shown(v)));
    let mut out = Vec::new();
    out.extend(item.authority.as_ref().map(|v| format!("authority {}", shown(v))));
    out.extend(item.scheme.as_ref().map(|v| format!("scheme {}", shown(v))));
    out.extend(item.port.map(|port| format!("port {port}")));
    out.extend(item.headers.iter().map(|(name, v)| format!("header {name}{}", value(v))));
    out.extend(item.without_headers.iter().map(|(name, v)| format!("no header {name}{}", value(v))));
    out.extend(item.query_params.iter().map(|(name, v)| format!("query {name}{}", value(v))));
    out
}
