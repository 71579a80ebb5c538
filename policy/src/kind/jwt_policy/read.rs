//! From YAML to the spec.

use super::{Access, AccessRuleSpec, IssuerSpec, JwtPolicySpec, KeysSpec};
use crate::document::reader::{At, Fields, Reader};
use crate::kind::{read_selector, request_match};

const ACCESS: [(&str, Access); 2] = [("public", Access::Public), ("token", Access::Token)];

const RULE_UNSUPPORTED: &[(&str, &str)] = &[
    ("requireToken", "write access: token"),
    ("public", "write access: public"),
    ("claims", "write an AuthorizationPolicy with the condition request.auth.claims[NAME]"),
];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<JwtPolicySpec> {
    let mut fields = reader.mapping(at)?;
    let selector = read_selector(reader, &mut fields);
    let issuers = fields.take("issuers").map(|at| reader.items(&at)).unwrap_or_default();
    // An item that cannot be read has left an error: the document is not taken without it.
    let issuers = issuers.iter().filter_map(|at| read_issuer(reader, at)).collect();
    let rules = fields.take("rules").map(|at| reader.items(&at)).unwrap_or_default();
    let rules = rules.iter().filter_map(|at| read_rule(reader, at)).collect();
    reader.finish(fields, &[("targetRefs", "write a selector")]);
    Some(JwtPolicySpec { selector, issuers, rules })
}

fn read_issuer(reader: &mut Reader<'_>, at: &At<'_>) -> Option<IssuerSpec> {
    let mut fields = reader.mapping(at)?;
    let issuer =
        needed(reader, &mut fields, "issuer", "the iss of the tokens, for example https://auth.example");
    let issuer = issuer.and_then(|at| reader.text(&at));
    let algorithms = reader.texts(fields.take("algorithms"));
    let secret_file = fields.take("secretFile").and_then(|at| reader.text(&at));
    let clock_skew = fields.take("clockSkew").and_then(|at| reader.duration(&at));
    let max_token_age = fields.take("maxTokenAge").and_then(|at| reader.duration(&at));
    let required_claims = reader.texts(fields.take("requiredClaims"));
    let max_token_bytes = fields.take("maxTokenBytes").and_then(|at| reader.number(&at));
    let keys = fields.take("keys").and_then(|at| read_keys(reader, &at)).unwrap_or_default();
    reader.finish(fields, &[("audiences", "write them into the RequestAuthentication, or into a rule here")]);
    Some(IssuerSpec {
        issuer: issuer?,
        algorithms,
        secret_file,
        clock_skew,
        max_token_age,
        required_claims,
        max_token_bytes,
        keys,
    })
}

fn read_keys(reader: &mut Reader<'_>, at: &At<'_>) -> Option<KeysSpec> {
    let mut fields = reader.mapping(at)?;
    let refresh_interval = fields.take("refreshInterval").and_then(|at| reader.duration(&at));
    let refetch_interval_min = fields.take("refetchIntervalMin").and_then(|at| reader.duration(&at));
    let allow_private_addresses =
        fields.take("allowPrivateAddresses").and_then(|at| reader.boolean(&at)).unwrap_or_default();
    let ca_certificates = fields.take("caCertificates").and_then(|at| reader.text(&at));
    reader.finish(fields, &[]);
    Some(KeysSpec { refresh_interval, refetch_interval_min, allow_private_addresses, ca_certificates })
}

fn read_rule(reader: &mut Reader<'_>, at: &At<'_>) -> Option<AccessRuleSpec> {
    let mut fields = reader.mapping(at)?;
    let name = needed(reader, &mut fields, "name", "for example: name: transfers");
    let name = name.and_then(|at| reader.text(&at));
    let matches = request_match::read(reader, fields.take("match"));
    let access = needed(reader, &mut fields, "access", "token, or public where none is needed");
    let access = access.and_then(|at| reader.choice(&at, &ACCESS));
    let scopes = reader.texts(fields.take("scopes"));
    let audiences = reader.texts(fields.take("audiences"));
    reader.finish(fields, RULE_UNSUPPORTED);
    Some(AccessRuleSpec { name: name?, matches, access: access?, scopes, audiences })
}

fn needed<'n>(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'n>,
    name: &'static str,
    help: &str,
) -> Option<At<'n>> {
    let at = fields.take(name);
    if at.is_none() {
        reader.missing(fields, name, help);
    }
    at
}
