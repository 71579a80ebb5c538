//! From YAML to the spec. Only the form is looked at here; the meaning is `build`'s.

use super::{Action, AuthorizationPolicySpec, Condition, Operation, Rule, Source};
use crate::document::reader::{At, Fields, Reader};
use crate::finding::code;
use crate::kind::read_selector;

const TARGET_REFS_HELP: &str =
    "select workloads with spec.selector.matchLabels, or leave the selector out for the whole namespace";

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<AuthorizationPolicySpec> {
    let mut fields = reader.mapping(at)?;
    let selector = read_selector(reader, &mut fields);
    for name in ["targetRef", "targetRefs"] {
        if let Some(at) = fields.refused(name) {
            let help = Some(TARGET_REFS_HELP.to_owned());
            reader.error(
                code::TARGET_REFS,
                at.mark(),
                &at.path,
                format!("{name} is not taken by this version"),
                help,
            );
        }
    }
    let action = match fields.take("action") {
        Some(at) => read_action(reader, &at),
        None => Some(Action::Allow),
    };
    // Belongs to CUSTOM, which is reported where it stands.
    let provider = fields.refused("provider");
    if let (Some(at), Some(_)) = (provider, action) {
        let help = Some("leave it out".to_owned());
        reader.error(code::CUSTOM_ACTION, at.mark(), &at.path, "provider belongs to the action CUSTOM", help);
    }
    let rules = match fields.take("rules") {
        Some(at) => reader.items(&at).iter().filter_map(|rule| read_rule(reader, rule)).collect(),
        None => Vec::new(),
    };
    reader.finish(fields, &[]);
    Some(AuthorizationPolicySpec { selector, action: action?, rules })
}

fn read_action(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Action> {
    if reader.text(at).as_deref() == Some("CUSTOM") {
        let help = "external authorizers are not called; write ALLOW or DENY rules".to_owned();
        reader.error(code::CUSTOM_ACTION, at.mark(), &at.path, "the action CUSTOM is not taken", Some(help));
        return None;
    }
    reader.choice(at, &[("ALLOW", Action::Allow), ("DENY", Action::Deny), ("AUDIT", Action::Audit)])
}

fn read_rule(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Rule> {
    let mut fields = reader.mapping(at)?;
    let mut rule = Rule::default();
    if let Some(at) = fields.take("from") {
        for item in not_empty(reader, &at, "from") {
            rule.from.extend(wrapped(reader, &item, "source", read_source));
        }
    }
    if let Some(at) = fields.take("to") {
        for item in not_empty(reader, &at, "to") {
            rule.to.extend(wrapped(reader, &item, "operation", read_operation));
        }
    }
    if let Some(at) = fields.take("when") {
        for item in not_empty(reader, &at, "when") {
            rule.when.extend(read_condition(reader, &item));
        }
    }
    reader.finish(fields, &[]);
    Some(rule)
}

/// An empty list would match everything, which nobody means who wrote the field.
fn not_empty<'n>(reader: &mut Reader<'_>, at: &At<'n>, name: &str) -> Vec<At<'n>> {
    let items = reader.items(at);
    if at.is_empty_list() {
        let help = Some(format!("leave {name} out to match everything, or write an item"));
        reader.error(code::EMPTY_PART, at.mark(), &at.path, format!("{name} has no items"), help);
    }
    items
}

/// Items of `from` and `to` have exactly one field, which names what follows.
fn wrapped<T>(
    reader: &mut Reader<'_>,
    at: &At<'_>,
    name: &'static str,
    read: fn(&mut Reader<'_>, &mut Fields<'_>) -> T,
) -> Option<T> {
    let mut fields = reader.mapping(at)?;
    let Some(inner) = fields.take(name) else {
        reader.missing(&fields, name, &format!("write \"- {name}:\" and indent what follows below it"));
        // Its other fields are most likely the ones that belong inside.
        return None;
    };
    let mut inner_fields = reader.mapping(&inner)?;
    let value = read(reader, &mut inner_fields);
    reader.finish(inner_fields, &[]);
    reader.finish(fields, &[]);
    Some(value)
}

fn read_source(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Source {
    let mut texts = |name| reader.texts(fields.take(name));
    Source {
        principals: texts("principals"),
        not_principals: texts("notPrincipals"),
        request_principals: texts("requestPrincipals"),
        not_request_principals: texts("notRequestPrincipals"),
        namespaces: texts("namespaces"),
        not_namespaces: texts("notNamespaces"),
        service_accounts: texts("serviceAccounts"),
        not_service_accounts: texts("notServiceAccounts"),
        trust_domains: texts("trustDomains"),
        not_trust_domains: texts("notTrustDomains"),
        ip_blocks: texts("ipBlocks"),
        not_ip_blocks: texts("notIpBlocks"),
        remote_ip_blocks: texts("remoteIpBlocks"),
        not_remote_ip_blocks: texts("notRemoteIpBlocks"),
    }
}

fn read_operation(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Operation {
    let mut texts = |name| reader.texts(fields.take(name));
    Operation {
        hosts: texts("hosts"),
        not_hosts: texts("notHosts"),
        ports: texts("ports"),
        not_ports: texts("notPorts"),
        methods: texts("methods"),
        not_methods: texts("notMethods"),
        paths: texts("paths"),
        not_paths: texts("notPaths"),
    }
}

fn read_condition(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Condition> {
    let mut fields = reader.mapping(at)?;
    let key = match fields.take("key") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "key", "for example: key: request.headers[x-tenant]");
            None
        }
    };
    let values = reader.texts(fields.take("values"));
    let not_values = reader.texts(fields.take("notValues"));
    reader.finish(fields, &[]);
    Some(Condition { key: key?, values, not_values })
}
