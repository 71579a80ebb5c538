//! Every field and every condition key, each with its negation, alone and beside it.

use super::check;
use super::support::Ask;

/// One attribute: where a rule looks at it, values that fit the request below, values that do not.
struct Attribute {
    /// A field of `source` or `operation`, or a condition key.
    place: Place,
    fits: &'static [&'static str],
    others: &'static [&'static str],
}

enum Place {
    Source(&'static str),
    Operation(&'static str),
    Condition(&'static str),
}

use Place::{Condition, Operation, Source};

const ID: &[&str] = &[
    "corp.example/ns/bank/sa/payments",
    "corp.example/*",
    "*/sa/payments",
    "*",
    "cluster.local/ns/bank/sa/payments",
];
const NOT_ID: &[&str] = &["corp.example/ns/bank/sa/payment", "corp.example/ns/shop/*", "*/sa/ledger"];
const ADDRESS: &[&str] = &["10.1.2.3", "10.0.0.0/8", "0.0.0.0/0"];
const NOT_ADDRESS: &[&str] = &["10.1.2.4", "192.168.0.0/16", "::/0"];
const CLIENT: &[&str] = &["203.0.113.9", "203.0.113.0/24"];
const NOT_CLIENT: &[&str] = &["10.1.2.3", "203.0.114.0/24"];
const USER: &[&str] = &["https://auth.example/alice", "https://auth.example/*", "*/alice", "*"];
const NOT_USER: &[&str] = &["https://auth.example/bob", "https://other.example/*", "*/bob"];
const HOST: &[&str] = &["ledger.bank", "LEDGER.bank", "ledger.*", "*.bank", "*"];
const NOT_HOST: &[&str] = &["ledger", "*.shop", "bank.*"];

const ATTRIBUTES: &[Attribute] = &[
    Attribute { place: Source("principals"), fits: ID, others: NOT_ID },
    Attribute { place: Condition("source.principal"), fits: ID, others: NOT_ID },
    Attribute {
        place: Source("namespaces"),
        fits: &["bank", "b*", "*nk", "b*k", "*"],
        others: &["ban", "shop", "*s"],
    },
    Attribute { place: Condition("source.namespace"), fits: &["bank", "b*k"], others: &["ban", "payments"] },
    Attribute {
        place: Source("serviceAccounts"),
        fits: &["payments", "bank/payments"],
        others: &["pay", "shop/payments"],
    },
    Attribute {
        place: Condition("source.serviceAccount"),
        fits: &["payments", "bank/payments"],
        others: &["ledger", "shop/payments"],
    },
    Attribute {
        place: Source("trustDomains"),
        fits: &["corp.example", "corp.*", "*"],
        others: &["corp", "*.other"],
    },
    Attribute { place: Condition("source.trustDomain"), fits: &["corp.example"], others: &["evil.example"] },
    Attribute { place: Source("ipBlocks"), fits: ADDRESS, others: NOT_ADDRESS },
    Attribute { place: Condition("source.ip"), fits: ADDRESS, others: NOT_ADDRESS },
    Attribute { place: Source("remoteIpBlocks"), fits: CLIENT, others: NOT_CLIENT },
    Attribute { place: Condition("remote.ip"), fits: CLIENT, others: NOT_CLIENT },
    Attribute { place: Source("requestPrincipals"), fits: USER, others: NOT_USER },
    Attribute { place: Condition("request.auth.principal"), fits: USER, others: NOT_USER },
    Attribute {
        place: Condition("request.auth.audiences"),
        fits: &["api", "web", "*"],
        others: &["ap", "API"],
    },
    Attribute { place: Condition("request.auth.presenter"), fits: &["app", "a*"], others: &["web"] },
    Attribute { place: Condition("request.auth.claims[groups]"), fits: &["staff", "op*"], others: &["root"] },
    Attribute {
        place: Condition("request.auth.claims[scope]"),
        fits: &["read", "write"],
        others: &["read write"],
    },
    Attribute { place: Condition("request.auth.claims[realm][role]"), fits: &["clerk"], others: &["chief"] },
    Attribute { place: Operation("hosts"), fits: HOST, others: NOT_HOST },
    Attribute { place: Condition("request.headers[:authority]"), fits: HOST, others: NOT_HOST },
    Attribute { place: Operation("ports"), fits: &["8080"], others: &["80", "808"] },
    Attribute { place: Condition("destination.port"), fits: &["8080"], others: &["1"] },
    Attribute { place: Operation("methods"), fits: &["POST", "P*", "*"], others: &["post", "GET", "PUT"] },
    Attribute { place: Condition("request.headers[:method]"), fits: &["POST", "*ST"], others: &["GET"] },
    Attribute {
        place: Operation("paths"),
        fits: &["/v1/entries/7", "/v1/*", "*/7", "*", "/v1/{*}/7", "/v1/{**}", "/{**}/7"],
        others: &["/v1/entries", "/v2/*", "*/8", "/v1/{*}", "/{*}/7"],
    },
    Attribute {
        place: Condition("request.headers[x-tenant]"),
        fits: &["blue", "b*", "*ue", "*"],
        others: &["Blue", "red"],
    },
    Attribute {
        place: Condition("destination.ip"),
        fits: &["10.0.0.1", "10.0.0.0/30"],
        others: &["10.0.0.2"],
    },
    Attribute {
        place: Condition("connection.sni"),
        fits: &["ledger.bank", "*.bank", "*"],
        others: &["ledger.shop"],
    },
];

fn request() -> Ask {
    let ask = Ask::new().method("POST").path("/v1/entries/7").header("x-tenant", "blue").sni("ledger.bank");
    ask.token(
        r#"{"iss":"https://auth.example","sub":"alice","aud":["api","web"],"azp":"app","groups":["staff","ops"],
            "scope":"read write","realm":{"role":"clerk"}}"#,
    )
}

/// The rule that names these values, and these as those that must not be.
fn rule(place: &Place, values: &[&str], not_values: &[&str]) -> String {
    let list = |name: &str, values: &[&str]| match values {
        [] => String::new(),
        values => format!("{name}: ['{}'], ", values.join("', '")),
    };
    let negated = |field: &str| {
        let (first, rest) = field.split_at(1);
        format!("not{}{rest}", first.to_uppercase())
    };
    let both = |field: &str| list(field, values) + &list(&negated(field), not_values);
    match place {
        Source(field) => format!("{{from: [{{source: {{{}}}}}]}}", both(field)),
        Operation(field) => format!("{{to: [{{operation: {{{}}}}}]}}", both(field)),
        Condition(key) => {
            let lists = list("values", values) + &list("notValues", not_values);
            format!("{{when: [{{key: '{key}', {lists}}}]}}")
        }
    }
}

#[test]
fn every_field_and_condition_holds_for_one_of_its_values_and_none_of_those_it_negates() {
    let ask = request();
    for Attribute { place, fits, others } in ATTRIBUTES {
        for value in *fits {
            check(&rule(place, &[value], &[]), &ask, true);
            check(&rule(place, &[], &[value]), &ask, false);
            // Of the values one is enough; one that must not be spoils the rest.
            check(&rule(place, &[others[0], value], &[]), &ask, true);
            check(&rule(place, &[], &[others[0], value]), &ask, false);
            check(&rule(place, &[value], &[value]), &ask, false);
            check(&rule(place, &[value], &[others[0]]), &ask, true);
        }
        for value in *others {
            check(&rule(place, &[value], &[]), &ask, false);
            check(&rule(place, &[], &[value]), &ask, true);
            check(&rule(place, &[value], &[value]), &ask, false);
        }
    }
}
