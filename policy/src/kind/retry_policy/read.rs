//! The form of a RetryPolicy.

use super::{Because, DuplicatesSpec, OnDuplicate, RepeatRuleSpec, RetryPolicySpec};
use crate::document::reader::{At, Reader};
use crate::finding::code;
use crate::kind::request_match;

const ON_DUPLICATE: [(&str, OnDuplicate); 2] =
    [("Record", OnDuplicate::Record), ("Refuse", OnDuplicate::Refuse)];

const UNSUPPORTED: &[(&str, &str)] = &[
    ("retries", "when and how often is said by retries of a VirtualService"),
    ("selector", "write host: the service that is called"),
    ("targetRefs", "write host: the service that is called"),
];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<RetryPolicySpec> {
    let mut fields = reader.mapping(at)?;
    let host = match fields.take("host") {
        Some(at) => reader.text(&at),
        None => {
            reader.missing(&fields, "host", "name the host that the policy is for");
            None
        }
    };
    let rules = fields.take("rules").map(|at| reader.items(&at)).unwrap_or_default();
    // An item that cannot be read has left an error: the document is not taken without it.
    let rules = rules.iter().filter_map(|at| read_rule(reader, at)).collect();
    let duplicates = fields.take("duplicates").and_then(|at| read_duplicates(reader, &at));
    reader.finish(fields, UNSUPPORTED);
    Some(RetryPolicySpec { host: host?, rules, duplicates })
}

fn read_rule(reader: &mut Reader<'_>, at: &At<'_>) -> Option<RepeatRuleSpec> {
    let mut fields = reader.mapping(at)?;
    let matches = request_match::read(reader, fields.take("match"));
    let (key, idempotent) = (fields.take("idempotencyKey"), fields.take("idempotent"));
    let because = match (&key, &idempotent) {
        (Some(at), None) => reader.text(at).map(Because::Key),
        (None, Some(at)) => match reader.boolean(at) {
            Some(false) => {
                let help = Some("leave the rule out: without one, the method decides".to_owned());
                let message = "a rule does not take back what a method or another rule allows";
                reader.error(code::RETRY_RULE, at.mark(), &at.path, message, help);
                None
            }
            said => said.map(|_| Because::Idempotent),
        },
        (Some(_), Some(at)) => {
            let help = Some("keep idempotencyKey, unless the requests change nothing".to_owned());
            let message = "a rule has idempotencyKey or idempotent: true, not both";
            reader.error(code::RETRY_RULE, at.mark(), &at.path, message, help);
            None
        }
        (None, None) => {
            reader.missing(&fields, "idempotencyKey", "the header with the key, or idempotent: true");
            None
        }
    };
    reader.finish(fields, &[]);
    Some(RepeatRuleSpec { matches, because: because? })
}

fn read_duplicates(reader: &mut Reader<'_>, at: &At<'_>) -> Option<DuplicatesSpec> {
    let mut fields = reader.mapping(at)?;
    let window = fields.take("window").and_then(|at| reader.duration(&at));
    let max_keys = fields.take("maxKeys").and_then(|at| reader.number(&at));
    let on_duplicate = fields.take("onDuplicate").and_then(|at| reader.choice(&at, &ON_DUPLICATE));
    reader.finish(fields, &[]);
    Some(DuplicatesSpec { window, max_keys, on_duplicate: on_duplicate.unwrap_or_default() })
}
