//! The form of a RequestGuard.

use super::{GuardRuleSpec, RequestGuardSpec, Underscores};
use crate::document::reader::{At, Reader};
use crate::kind::mesh_config::AMBIGUOUS;
use crate::kind::{read_selector, request_match};

const UNDERSCORES: [(&str, Underscores); 2] = [("REJECT", Underscores::Reject), ("KEEP", Underscores::Keep)];

const RULE_UNSUPPORTED: &[(&str, &str)] = &[
    ("methods", "write allowedMethods, or match: [{methods: [...]}] for what the rule is about"),
    ("deniedMethods", "write allowedMethods: what is not named is refused"),
    ("maxBodySize", "write maxBodyBytes, a number of bytes"),
    ("duplicates", "write forbidDuplicates with the names, or [\"*\"]"),
    ("headers", "write forbidHeaders or stripHeaders"),
];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<RequestGuardSpec> {
    let mut fields = reader.mapping(at)?;
    let selector = read_selector(reader, &mut fields);
    let rules = fields.take("rules").map(|at| reader.items(&at)).unwrap_or_default();
    // An item that cannot be read has left an error: the document is not taken without it.
    let rules = rules.iter().filter_map(|at| read_rule(reader, at)).collect();
    reader.finish(fields, &[("targetRefs", "write a selector")]);
    Some(RequestGuardSpec { selector, rules })
}

fn read_rule(reader: &mut Reader<'_>, at: &At<'_>) -> Option<GuardRuleSpec> {
    let mut fields = reader.mapping(at)?;
    let name = fields.take("name");
    if name.is_none() {
        reader.missing(&fields, "name", "for example: name: transfers");
    }
    let name = name.and_then(|at| reader.text(&at));
    let matches = request_match::read(reader, fields.take("match"));
    let mut texts = |field| reader.texts(fields.take(field));
    let (allowed_methods, content_types) = (texts("allowedMethods"), texts("contentTypes"));
    let (forbid_headers, strip_headers) = (texts("forbidHeaders"), texts("stripHeaders"));
    let forbid_duplicates = texts("forbidDuplicates");
    let mut number = |field| fields.take(field).and_then(|at| reader.number(&at));
    let (max_body_bytes, max_uri_bytes) = (number("maxBodyBytes"), number("maxUriBytes"));
    let (max_headers, max_header_bytes) = (number("maxHeaders"), number("maxHeaderBytes"));
    let underscores = fields.take("underscores").and_then(|at| reader.choice(&at, &UNDERSCORES));
    let ambiguous_paths = fields.take("ambiguousPaths").and_then(|at| reader.choice(&at, AMBIGUOUS));
    reader.finish(fields, RULE_UNSUPPORTED);
    Some(GuardRuleSpec {
        name: name?,
        matches,
        allowed_methods,
        content_types,
        max_body_bytes,
        max_headers,
        max_header_bytes,
        max_uri_bytes,
        forbid_headers,
        strip_headers,
        forbid_duplicates,
        underscores,
        ambiguous_paths,
    })
}
