//! From YAML to the spec.

use super::{ClaimToHeader, FromHeader, JwtRuleSpec, RequestAuthenticationSpec};
use crate::document::reader::{At, Reader};
use crate::kind::read_selector;

const UNSUPPORTED: &[(&str, &str)] = &[("targetRef", "write a selector"), ("targetRefs", "write a selector")];

const RULE_UNSUPPORTED: &[(&str, &str)] = &[("jwks_uri", "write jwksUri")];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<RequestAuthenticationSpec> {
    let mut fields = reader.mapping(at)?;
    let selector = read_selector(reader, &mut fields);
    let rules = fields.take("jwtRules").map(|at| reader.items(&at)).unwrap_or_default();
    // A rule that cannot be read has left an error: the document is not taken without it.
    let rules = rules.iter().filter_map(|at| read_rule(reader, at)).collect();
    reader.finish(fields, UNSUPPORTED);
    Some(RequestAuthenticationSpec { selector, rules })
}

fn read_rule(reader: &mut Reader<'_>, at: &At<'_>) -> Option<JwtRuleSpec> {
    let mut fields = reader.mapping(at)?;
    let issuer = match fields.take("issuer") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "issuer", "the iss of the tokens, for example https://auth.example");
            None
        }
    };
    let mut text = |name| fields.take(name).and_then(|at| reader.text(&at));
    let (jwks_uri, jwks) = (text("jwksUri"), text("jwks"));
    let output_payload_to_header = text("outputPayloadToHeader");
    let audiences = reader.texts(fields.take("audiences"));
    let from_params = reader.texts(fields.take("fromParams"));
    let from_cookies = reader.texts(fields.take("fromCookies"));
    let from_headers = fields.take("fromHeaders").map(|at| reader.items(&at)).unwrap_or_default();
    let from_headers = from_headers.iter().filter_map(|at| read_header(reader, at)).collect();
    let claims = fields.take("outputClaimToHeaders").map(|at| reader.items(&at)).unwrap_or_default();
    let output_claim_to_headers = claims.iter().filter_map(|at| read_claim(reader, at)).collect();
    let forward_original_token =
        fields.take("forwardOriginalToken").and_then(|at| reader.boolean(&at)).unwrap_or_default();
    let space_delimited_claims = reader.texts(fields.take("spaceDelimitedClaims"));
    let timeout = fields.take("timeout").and_then(|at| reader.duration(&at));
    reader.finish(fields, RULE_UNSUPPORTED);
    Some(JwtRuleSpec {
        issuer: issuer?,
        audiences,
        jwks_uri,
        jwks,
        from_headers,
        from_params,
        from_cookies,
        output_payload_to_header,
        output_claim_to_headers,
        forward_original_token,
        space_delimited_claims,
        timeout,
    })
}

fn read_header(reader: &mut Reader<'_>, at: &At<'_>) -> Option<FromHeader> {
    let mut fields = reader.mapping(at)?;
    let name = required(reader, &mut fields, "name", "the name of the header");
    let prefix = fields.take("prefix").map(|at| reader.text(&at));
    reader.finish(fields, &[]);
    Some(FromHeader { name: name?, prefix: prefix.unwrap_or_else(|| Some(String::new()))? })
}

fn read_claim(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ClaimToHeader> {
    let mut fields = reader.mapping(at)?;
    let header = required(reader, &mut fields, "header", "the header that gets the claim");
    let claim = required(reader, &mut fields, "claim", "the name of the claim");
    reader.finish(fields, &[]);
    Some(ClaimToHeader { header: header?, claim: claim? })
}

fn required(
    reader: &mut Reader<'_>,
    fields: &mut crate::document::reader::Fields<'_>,
    name: &'static str,
    help: &str,
) -> Option<String> {
    match fields.take(name) {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(fields, name, help);
            None
        }
    }
}
