//! The outer form that all kinds share: apiVersion, kind, metadata, spec.

use palisade_identity::Namespace;

use super::node::{Node, Value};
use super::reader::{At, Fields, Reader};
use crate::finding::code;
use crate::finding::problem::did_you_mean;
use crate::kind::{Kind, Meta};
use crate::{policy_test, rehearsal};

/// Where an object without `metadata.namespace` lives, as with kubectl.
pub const DEFAULT_NAMESPACE: &str = "default";

pub(crate) struct Envelope<'n> {
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
    pub(crate) spec: At<'n>,
}

/// Istio's kinds that this version does not take, with what stands in for them.
const UNSUPPORTED_KINDS: &[(&str, &str)] = &[
    ("WorkloadEntry", "write the endpoint into a ServiceEntry, or let the workload join with a token"),
    ("WorkloadGroup", "labels of a workload come from its join token (palisade token create --label)"),
    ("Sidecar", "leave it out: a proxy is told only of the services that would let it in"),
    ("EnvoyFilter", "there is no Envoy here; use AuthorizationPolicy, DestinationRule or MeshConfig"),
    ("WasmPlugin", "there is no plug-in interface; use AuthorizationPolicy for access rules"),
    ("ProxyConfig", "set the proxy's options on its command line, and mesh-wide ones in MeshConfig"),
    ("Telemetry", "metrics and decision records are always on; set them up on the proxy's command line"),
];

/// Istio's older spellings of a group's version; the objects are the same.
const OLDER_VERSIONS: &[&str] = &["v1beta1", "v1alpha3"];

const METADATA_UNSUPPORTED: &[(&str, &str)] = &[
    ("generateName", "write metadata.name"),
    ("creationTimestamp", "leave it out: the store keeps the time itself"),
    ("resourceVersion", "leave it out: the store counts versions itself"),
    ("uid", "leave it out"),
    ("generation", "leave it out"),
    ("managedFields", "leave it out"),
    ("ownerReferences", "leave it out: objects have no owners here"),
    ("finalizers", "leave it out"),
];

/// What may stand in a document's `apiVersion`, today's first.
pub(crate) fn api_versions(kind: Kind) -> Vec<String> {
    let version = kind.api_version();
    let mut versions = vec![version.to_owned()];
    if let Some((group, _)) = version.split_once('/').filter(|(group, _)| group.ends_with("istio.io")) {
        versions.extend(OLDER_VERSIONS.iter().map(|older| format!("{group}/{older}")));
    }
    versions
}

/// Reads everything but the spec. `None` where the spec could not be read in the right way.
/// `empty` stands in for a spec that is not written.
pub(crate) fn read<'n>(reader: &mut Reader<'_>, root: &'n Node, empty: &'n Node) -> Option<Envelope<'n>> {
    let at = At { node: root, path: String::new() };
    let Value::Mapping(_) = &root.value else {
        let message = format!("a document is a mapping, here stands {}", root.value.describe());
        let help = Some("start with apiVersion, kind, metadata and spec".to_owned());
        reader.error(code::NOT_A_MAPPING, root.mark, "", message, help);
        return None;
    };
    let mut fields = reader.mapping(&at)?;
    let api_version = fields.take("apiVersion").map(|at| (reader.text(&at), at));
    let kind = read_kind(reader, &mut fields);
    reader.object = kind.map(|k| k.name().to_owned());
    let metadata = fields.take("metadata");
    let meta = match metadata {
        Some(at) => read_metadata(reader, &at),
        None => {
            reader.missing(&fields, "metadata", "write metadata: {name: ..., namespace: ...}");
            None
        }
    };
    if let (Some(kind), Some(meta)) = (kind, &meta) {
        reader.object = Some(format!("{} {}/{}", kind.name(), meta.namespace, meta.name));
    }
    if let Some(kind) = kind {
        check_api_version(reader, &fields, kind, api_version);
    }
    let spec = fields.take("spec").unwrap_or(At { node: empty, path: "spec".into() });
    reader.finish(fields, &[("status", "leave it out: the status is not part of the configuration")]);
    let spec = match spec.node.value {
        Value::Null => At { node: empty, path: spec.path },
        _ => spec,
    };
    Some(Envelope { kind: kind?, meta: meta?, spec })
}

/// Documents of tools, which are no objects of a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    PolicyTest,
    Rehearsal,
}

impl Tool {
    const ALL: [Self; 2] = [Self::PolicyTest, Self::Rehearsal];

    /// What a document is, by its `kind`.
    pub(crate) fn of(root: &Node) -> Option<Self> {
        let Value::Mapping(entries) = &root.value else { return None };
        let kind = entries.iter().find(|entry| entry.key == "kind")?;
        let Value::Text(text) = &kind.value.value else { return None };
        Self::ALL.into_iter().find(|tool| tool.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Self::PolicyTest => policy_test::KIND,
            Self::Rehearsal => rehearsal::KIND,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::PolicyTest => policy_test::API_VERSION,
            Self::Rehearsal => rehearsal::API_VERSION,
        }
    }
}

/// Name and spec of a tool's document.
pub(crate) fn read_tool<'n>(
    reader: &mut Reader<'_>,
    tool: Tool,
    root: &'n Node,
    empty: &'n Node,
) -> Option<(Meta, At<'n>)> {
    let mut fields = reader.mapping(&At { node: root, path: String::new() })?;
    let _known = fields.take("kind");
    reader.object = Some(tool.name().to_owned());
    match fields.take("apiVersion") {
        None => reader.missing(&fields, "apiVersion", &format!("write apiVersion: {}", tool.api_version())),
        Some(at) => {
            reader.choice(&at, &[(tool.api_version(), ())]);
        }
    }
    let meta = match fields.take("metadata") {
        Some(at) => read_metadata(reader, &at),
        None => {
            reader.missing(&fields, "metadata", "write metadata: {name: ..., namespace: ...}");
            None
        }
    };
    if let Some(meta) = &meta {
        reader.object = Some(format!("{} {}/{}", tool.name(), meta.namespace, meta.name));
    }
    let spec = fields.take("spec").unwrap_or(At { node: empty, path: "spec".into() });
    reader.finish(fields, &[]);
    Some((meta?, spec))
}

fn read_kind(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Kind> {
    let Some(at) = fields.take("kind") else {
        reader.missing(fields, "kind", "for example: kind: AuthorizationPolicy");
        return None;
    };
    let text = reader.text(&at)?;
    if let Some(kind) = Kind::ALL.into_iter().find(|k| k.name() == text) {
        return Some(kind);
    }
    if let Some((name, help)) = UNSUPPORTED_KINDS.iter().find(|(name, _)| *name == text) {
        let message = format!("the kind {name} is not taken by this version");
        reader.error(code::UNSUPPORTED_KIND, at.mark(), &at.path, message, Some((*help).to_owned()));
        return None;
    }
    let known = || Kind::ALL.into_iter().map(Kind::name).chain(Tool::ALL.map(Tool::name));
    let help = match did_you_mean(&text, known()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("one of {}", known().collect::<Vec<_>>().join(", ")),
    };
    reader.error(code::UNKNOWN_KIND, at.mark(), &at.path, format!("there is no kind {text:?}"), Some(help));
    None
}

fn check_api_version(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    kind: Kind,
    given: Option<(Option<String>, At<'_>)>,
) {
    let expected = kind.api_version();
    let Some((text, at)) = given else {
        reader.missing(fields, "apiVersion", &format!("write apiVersion: {expected}"));
        return;
    };
    let Some(text) = text else { return };
    if !api_versions(kind).contains(&text) {
        let message = format!("{text:?} is not the apiVersion of {}", kind.name());
        let help = Some(format!("write apiVersion: {expected}"));
        reader.error(code::UNKNOWN_API_VERSION, at.mark(), &at.path, message, help);
    }
}

fn read_metadata(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Meta> {
    let mut fields = reader.mapping(at)?;
    let name = match fields.take("name") {
        Some(at) => reader.text(&at).and_then(|text| checked_name(reader, text, &at)),
        None => {
            reader.missing(&fields, "name", "every object has a name");
            None
        }
    };
    let namespace = match fields.take("namespace") {
        Some(at) => reader.text(&at).and_then(|text| checked_name(reader, text, &at)),
        None => Some(DEFAULT_NAMESPACE.to_owned()),
    };
    let labels = reader.text_map(fields.take("labels"));
    let annotations = reader.text_map(fields.take("annotations"));
    reader.finish(fields, METADATA_UNSUPPORTED);
    Some(Meta { namespace: namespace?, name: name?, labels, annotations })
}

/// Names go into decisions and log lines, namespaces into SPIFFE ids: the stricter of the two rules holds for both.
fn checked_name(reader: &mut Reader<'_>, text: String, at: &At<'_>) -> Option<String> {
    match Namespace::parse(&text) {
        Ok(_) => Some(text),
        Err(_) => {
            let message = format!("{text:?} is not allowed as a name");
            let help = "use letters, digits, '.', '-' and '_', at most 253 of them".to_owned();
            reader.error(code::BAD_NAME, at.mark(), &at.path, message, Some(help));
            None
        }
    }
}
