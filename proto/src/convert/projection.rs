use palisade_policy::{Endpoint, MeshService, Projection, ServicePort, Workload};

use super::WireError;
use super::scalar::{address, each, each_port, port, protocol, spiffe_id, unspecified};
use crate::v1;

impl From<&Projection> for v1::SnapshotBody {
    /// Lists keep the order of the projection, maps are sorted: equal projections have equal encodings.
    fn from(projection: &Projection) -> Self {
        Self {
            root_namespace: projection.root_namespace.clone(),
            workload: Some(v1::Workload {
                spiffe_id: projection.workload.id.as_str().to_owned(),
                labels: projection.workload.labels.clone(),
            }),
            mesh: Some((&projection.mesh).into()),
            authorization_policies: projection.authorization.iter().map(Into::into).collect(),
            peer_authentications: projection.peer_authentication.iter().map(Into::into).collect(),
            service_entries: projection.service_entries.iter().map(Into::into).collect(),
            destination_rules: projection.destination_rules.iter().map(Into::into).collect(),
            services: projection.services.iter().map(service_to_wire).collect(),
            gateways: projection.gateways.iter().map(Into::into).collect(),
            virtual_services: projection.virtual_services.iter().map(Into::into).collect(),
            request_authentication: projection.request_authentication.iter().map(Into::into).collect(),
            jwt_policies: projection.jwt_policies.iter().map(Into::into).collect(),
            rate_limit_policies: projection.rate_limits.iter().map(Into::into).collect(),
            request_guards: projection.request_guards.iter().map(Into::into).collect(),
            retry_policies: projection.retry_policies.iter().map(Into::into).collect(),
            fault_experiments: projection.fault_experiments.iter().map(Into::into).collect(),
            revoked_serials: projection.revoked.iter().cloned().collect(),
        }
    }
}

fn service_to_wire(service: &MeshService) -> v1::MeshService {
    let port = |port: &ServicePort| v1::ServicePort {
        number: port.number.into(),
        name: port.name.clone(),
        protocol: v1::Protocol::from(port.protocol).into(),
    };
    let endpoint = |endpoint: &Endpoint| v1::Endpoint {
        instance: endpoint.instance.clone(),
        labels: endpoint.labels.clone(),
        addresses: endpoint.addresses.iter().map(|(port, at)| (u32::from(*port), at.to_string())).collect(),
    };
    v1::MeshService {
        name: service.name.clone(),
        namespace: service.namespace.clone(),
        ports: service.ports.iter().map(port).collect(),
        identities: service.identities.iter().map(|id| id.as_str().to_owned()).collect(),
        endpoints: service.endpoints.iter().map(endpoint).collect(),
    }
}

impl TryFrom<v1::SnapshotBody> for Projection {
    type Error = WireError;

    fn try_from(body: v1::SnapshotBody) -> Result<Self, WireError> {
        if body.root_namespace.is_empty() {
            return Err(unspecified("root_namespace"));
        }
        let workload = body.workload.ok_or_else(|| unspecified("workload"))?;
        let id = spiffe_id("workload.spiffe_id", &workload.spiffe_id)?;
        if id.workload().is_none() {
            return Err(WireError::new("workload.spiffe_id", format!("{id} is no workload's id")));
        }
        Ok(Self {
            root_namespace: body.root_namespace,
            workload: Workload { id, labels: workload.labels },
            mesh: body.mesh.ok_or_else(|| unspecified("mesh"))?.try_into().map_err(in_mesh)?,
            authorization: each("authorization_policies", body.authorization_policies, TryInto::try_into)?,
            peer_authentication: each("peer_authentications", body.peer_authentications, TryInto::try_into)?,
            service_entries: each("service_entries", body.service_entries, TryInto::try_into)?,
            destination_rules: each("destination_rules", body.destination_rules, TryInto::try_into)?,
            services: each("services", body.services, service_from_wire)?,
            gateways: each("gateways", body.gateways, TryInto::try_into)?,
            virtual_services: each("virtual_services", body.virtual_services, TryInto::try_into)?,
            request_authentication: each(
                "request_authentication",
                body.request_authentication,
                TryInto::try_into,
            )?,
            jwt_policies: each("jwt_policies", body.jwt_policies, TryInto::try_into)?,
            rate_limits: each("rate_limit_policies", body.rate_limit_policies, TryInto::try_into)?,
            request_guards: each("request_guards", body.request_guards, TryInto::try_into)?,
            retry_policies: each("retry_policies", body.retry_policies, TryInto::try_into)?,
            fault_experiments: each("fault_experiments", body.fault_experiments, TryInto::try_into)?,
            revoked: each("revoked_serials", body.revoked_serials, serial)?.into_iter().collect(),
        })
    }
}

/// At most 20 octets (RFC 5280 section 4.1.2.2), and one more for a sign. One in another spelling would match nothing.
fn serial(text: String) -> Result<String, WireError> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    if is_hex && (1..=42).contains(&text.len()) {
        Ok(text)
    } else {
        Err(WireError::new("", format!("{text:?} is no serial number in upper-case hex")))
    }
}

fn in_mesh(error: WireError) -> WireError {
    error.within("mesh")
}

fn service_from_wire(service: v1::MeshService) -> Result<MeshService, WireError> {
    if service.name.is_empty() || service.namespace.is_empty() {
        return Err(WireError::new("name", "a service needs a namespace and a name"));
    }
    let identities =
        service.identities.iter().map(|id| spiffe_id("identities", id)).collect::<Result<_, _>>()?;
    Ok(MeshService {
        name: service.name,
        namespace: service.namespace,
        ports: each("ports", service.ports, |wire| {
            Ok(ServicePort {
                number: port("number", wire.number)?,
                name: wire.name,
                protocol: protocol(wire.protocol)?,
            })
        })?,
        identities,
        endpoints: each("endpoints", service.endpoints, |wire| {
            Ok(Endpoint {
                instance: wire.instance,
                labels: wire.labels,
                addresses: each_port("addresses", wire.addresses, |text| address("address", &text))?,
            })
        })?,
    })
}
