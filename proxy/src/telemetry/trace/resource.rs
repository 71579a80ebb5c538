//! Who the spans are of.

use opentelemetry_proto::tonic::resource::v1::Resource;
use palisade_identity::SpiffeId;

use super::span::Attributes;
use crate::settings::trace::TraceSettings;

/// What OpenTelemetry has services be called that do not know their name.
const UNKNOWN: &str = "unknown_service:palisade";

/// The workload, by its identity once it has one; what the operator says goes first. `service.version` is not among
/// it: that is the service's, which we do not know; ours is that of the scope.
pub(super) fn resource(settings: &TraceSettings, identity: Option<&SpiffeId>) -> Resource {
    let workload = identity.and_then(SpiffeId::workload);
    let name = workload.map(|workload| format!("{}.{}", workload.service_account, workload.namespace));
    let namespace = workload.map(|workload| ("service.namespace", workload.namespace.to_string()));
    let mut attributes = Attributes::default();
    attributes.optional("service.name", settings.service_name.as_deref());
    for (key, value) in &settings.attributes {
        attributes.text_unless_there(key, value);
    }
    attributes.text_unless_there("service.name", name.as_deref().unwrap_or(UNKNOWN));
    let ours = [
        ("telemetry.sdk.name", "palisade".to_owned()),
        ("telemetry.sdk.language", "rust".to_owned()),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    for (key, value) in namespace.into_iter().chain(ours) {
        attributes.text_unless_there(key, &value);
    }
    Resource { attributes: attributes.into_inner(), ..Resource::default() }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;

    fn named(
        service_name: Option<&str>,
        attributes: &[(&str, &str)],
        id: Option<&str>,
    ) -> Vec<(String, String)> {
        let settings = TraceSettings {
            service_name: service_name.map(Into::into),
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..TraceSettings::to("http://127.0.0.1:1".parse().unwrap())
        };
        let id = id.map(|id| SpiffeId::parse(id).unwrap());
        let all = resource(&settings, id.as_ref()).attributes.into_iter().map(|attribute| {
            match attribute.value.unwrap().value.unwrap() {
                Value::StringValue(text) => (attribute.key, text),
                other => panic!("{other:?}"),
            }
        });
        all.filter(|(key, _)| !key.starts_with("telemetry.sdk.")).collect()
    }

    #[test]
    fn a_service_is_called_by_its_identity_unless_the_operator_says_otherwise() {
        let id = Some("spiffe://corp/ns/payments/sa/ledger");
        let pairs = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
            rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        assert_eq!(
            named(None, &[], id),
            pairs(&[("service.name", "ledger.payments"), ("service.namespace", "payments")])
        );
        assert_eq!(named(None, &[], None), pairs(&[("service.name", UNKNOWN)]));
        assert_eq!(
            named(Some("books"), &[("service.name", "other"), ("service.namespace", "bank")], id),
            pairs(&[("service.name", "books"), ("service.namespace", "bank")])
        );
        assert_eq!(
            named(None, &[("service.name", "other"), ("service.version", "7")], None),
            pairs(&[("service.name", "other"), ("service.version", "7")])
        );
    }
}
