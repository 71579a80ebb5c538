use std::time::Duration;

use palisade_policy::kind::virtual_service::{
    DestinationRef, DirectResponse, HttpRoute, Mirror, Redirect, RouteDestination,
};
use palisade_policy::kind::{Named, VirtualServiceSpec};

use super::WireError;
use super::scalar::{each, meta, named, optional_port, optional_text, unspecified};
use super::{resilience, virtual_service_parts as parts};
use crate::v1;
use crate::v1::virtual_service as wire;

impl From<&Named<VirtualServiceSpec>> for v1::VirtualService {
    fn from(object: &Named<VirtualServiceSpec>) -> Self {
        Self {
            meta: meta(&object.meta),
            hosts: object.spec.hosts.clone(),
            gateways: object.spec.gateways.clone(),
            http: object.spec.http.iter().map(route_to_wire).collect(),
            export_to: object.spec.export_to.clone(),
        }
    }
}

fn route_to_wire(route: &HttpRoute) -> wire::Route {
    wire::Route {
        name: route.name.clone().unwrap_or_default(),
        r#match: route.matches.iter().map(parts::match_to_wire).collect(),
        route: route.route.iter().map(weighted_to_wire).collect(),
        redirect: route.redirect.as_ref().map(redirect_to_wire),
        direct_response: route
            .direct_response
            .as_ref()
            .map(|d| wire::DirectResponse { status: d.status.into(), body: d.body.clone() }),
        rewrite: route.rewrite.as_ref().map(parts::rewrite_to_wire),
        timeout_ms: route.timeout.map(parts::milliseconds),
        mirrors: route.mirrors.iter().map(mirror_to_wire).collect(),
        cors: route.cors.as_ref().map(parts::cors_to_wire),
        headers: Some(parts::headers_to_wire(&route.headers)),
        retries: route.retries.as_ref().map(resilience::retries_to_wire),
        fault: route.fault.as_ref().map(resilience::fault_to_wire),
    }
}

fn weighted_to_wire(item: &RouteDestination) -> wire::WeightedDestination {
    wire::WeightedDestination {
        destination: Some(destination_to_wire(&item.destination)),
        weight: item.weight,
        headers: Some(parts::headers_to_wire(&item.headers)),
    }
}

fn destination_to_wire(destination: &DestinationRef) -> wire::Destination {
    wire::Destination {
        host: destination.host.clone(),
        port: destination.port.map(Into::into).unwrap_or_default(),
        subset: destination.subset.clone().unwrap_or_default(),
    }
}

fn redirect_to_wire(redirect: &Redirect) -> wire::Redirect {
    wire::Redirect {
        uri: redirect.uri.clone().unwrap_or_default(),
        authority: redirect.authority.clone().unwrap_or_default(),
        scheme: redirect.scheme.clone().unwrap_or_default(),
        port: redirect.port.map(Into::into).unwrap_or_default(),
        code: redirect.code.map(Into::into).unwrap_or_default(),
    }
}

fn mirror_to_wire(mirror: &Mirror) -> wire::Mirror {
    let destination = Some(destination_to_wire(&mirror.destination));
    wire::Mirror { destination, share_ppm: mirror.share_ppm }
}

impl TryFrom<v1::VirtualService> for Named<VirtualServiceSpec> {
    type Error = WireError;

    fn try_from(object: v1::VirtualService) -> Result<Self, WireError> {
        let http = each("http", object.http, route_from_wire)?;
        let v1::VirtualService { meta, hosts, gateways, export_to, .. } = object;
        named(meta, VirtualServiceSpec { hosts, gateways, export_to, http })
    }
}

fn route_from_wire(route: wire::Route) -> Result<HttpRoute, WireError> {
    let redirect = route.redirect.map(redirect_from_wire).transpose();
    let fault = route.fault.map(resilience::fault_from_wire).transpose();
    let direct = route
        .direct_response
        .map(|d| Ok::<_, WireError>(DirectResponse { status: status("status", d.status)?, body: d.body }));
    Ok(HttpRoute {
        name: optional_text(route.name),
        matches: each("match", route.r#match, parts::match_from_wire)?,
        route: each("route", route.route, weighted_from_wire)?,
        redirect: redirect.map_err(|error| error.within("redirect"))?,
        direct_response: direct.transpose().map_err(|error| error.within("direct_response"))?,
        rewrite: route.rewrite.map(parts::rewrite_from_wire),
        timeout: route.timeout_ms.map(Duration::from_millis),
        mirrors: each("mirrors", route.mirrors, |mirror| {
            Ok(Mirror {
                destination: destination_from_wire(mirror.destination)?,
                share_ppm: share(mirror.share_ppm)?,
            })
        })?,
        cors: route.cors.map(parts::cors_from_wire).transpose().map_err(|error| error.within("cors"))?,
        headers: parts::headers_from_wire(route.headers)?,
        retries: route.retries.map(resilience::retries_from_wire),
        fault: fault.map_err(|error| error.within("fault"))?,
    })
}

fn weighted_from_wire(item: wire::WeightedDestination) -> Result<RouteDestination, WireError> {
    Ok(RouteDestination {
        destination: destination_from_wire(item.destination)?,
        weight: item.weight,
        headers: parts::headers_from_wire(item.headers)?,
    })
}

fn destination_from_wire(destination: Option<wire::Destination>) -> Result<DestinationRef, WireError> {
    let destination = destination.ok_or_else(|| unspecified("destination"))?;
    Ok(DestinationRef {
        host: destination.host,
        port: optional_port("port", destination.port)?,
        subset: optional_text(destination.subset),
    })
}

fn redirect_from_wire(redirect: wire::Redirect) -> Result<Redirect, WireError> {
    let code = match redirect.code {
        0 => None,
        code => Some(status("code", code)?),
    };
    Ok(Redirect {
        uri: optional_text(redirect.uri),
        authority: optional_text(redirect.authority),
        scheme: optional_text(redirect.scheme),
        port: optional_port("port", redirect.port)?,
        code,
    })
}

/// Which statuses are taken is the model's to say.
pub(super) fn status(field: &str, number: u32) -> Result<u16, WireError> {
    u16::try_from(number).map_err(|_| WireError::new(field, format!("{number} is no status")))
}

pub(super) fn share(ppm: u32) -> Result<u32, WireError> {
    if ppm <= palisade_policy::kind::virtual_service::WHOLE_PPM {
        Ok(ppm)
    } else {
        Err(WireError::new("share_ppm", format!("{ppm} is more than the whole")))
    }
}
