//! What a JwtPolicy must be beside well-formed, and its rules made ready. YAML and wire come through here alike.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::access::{AccessPolicy, AccessRule};
use super::{Access, AccessRuleSpec, IssuerSpec, JwtPolicySpec};
use crate::decision::RuleRef;
use crate::finding::code;
use crate::finding::problem::{Problems, did_you_mean};
use crate::kind::Meta;
use crate::kind::request_match::{Effect, RequestMatch};

/// Of RFC 7518 and RFC 8037, those with a public key.
pub(crate) const PUBLIC_ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
/// The one with a shared secret.
pub(crate) const SECRET_ALGORITHM: &str = "HS256";

/// Clocks of hosts with time service are within seconds; ten minutes are a fault to mend there.
const CLOCK_SKEW: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
const TOKEN_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
/// Below, no token fits; above, the request head (64 KiB) is full of it.
const TOKEN_BYTES: RangeInclusive<u64> = 256..=32 * 1024;
/// A look a second is what one proxy may ask of an issuer; a day is how long a removed key may live on.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const REFETCH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Compiles the rules. What does not fit is reported.
pub(crate) fn build(meta: &Meta, spec: &JwtPolicySpec, problems: &mut Problems) -> AccessPolicy {
    if spec.issuers.is_empty() && spec.rules.is_empty() {
        problems.error(code::JWT_POLICY_EMPTY, "spec", "the policy says nothing about tokens");
        problems.help("write issuers, rules, or both");
    }
    let mut seen = BTreeSet::new();
    for (i, issuer) in spec.issuers.iter().enumerate() {
        let path = format!("spec.issuers[{i}]");
        if !seen.insert(&issuer.issuer) {
            let message = format!("the issuer {:?} is here twice", issuer.issuer);
            problems.error(code::JWT_ISSUER_TWICE, format!("{path}.issuer"), message);
        }
        check_issuer(issuer, &path, problems);
    }
    let mut names = BTreeSet::new();
    let mut catch_all: Option<&str> = None;
    let mut rules = Vec::with_capacity(spec.rules.len());
    for (i, rule) in spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{i}]");
        if !names.insert(&rule.name) {
            problems.error(
                code::JWT_RULE,
                format!("{path}.name"),
                format!("the name {:?} is taken", rule.name),
            );
        }
        if let Some(first) = catch_all {
            let message =
                format!("the rule {first:?} above matches every request, so this one never decides");
            problems.error(code::JWT_RULE, &*path, message);
            problems.help("the first rule that matches decides: put the rule for everything last");
        }
        catch_all = catch_all.or(rule.matches.is_empty().then_some(&*rule.name));
        let name = RuleRef { namespace: (&*meta.namespace).into(), policy: (&*meta.name).into(), rule: i };
        rules.push(build_rule(name, rule, &path, problems));
    }
    AccessPolicy { rules: rules.into() }
}

fn build_rule(name: RuleRef, spec: &AccessRuleSpec, path: &str, problems: &mut Problems) -> AccessRule {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if spec.name.is_empty() || spec.name.len() > 63 || !spec.name.chars().all(plain) {
        let message = format!("{:?} is no name: letters, digits, '-', '_', '.', at most 63", spec.name);
        problems.error(code::BAD_NAME, format!("{path}.name"), message);
    }
    let asks = !spec.scopes.is_empty() || !spec.audiences.is_empty();
    if spec.access == Access::Public && asks {
        problems.error(
            code::JWT_RULE,
            path,
            "a public rule asks for nothing, so scopes and audiences mean nothing",
        );
        problems.help("write access: token, or leave them out");
    }
    for (i, scope) in spec.scopes.iter().enumerate() {
        // RFC 6749 section 3.3. Quotes would break the challenge, a space makes two of one.
        let token = |b: u8| b == 0x21 || (0x23..=0x5b).contains(&b) || (0x5d..=0x7e).contains(&b);
        if scope.is_empty() || !scope.bytes().all(token) {
            let message = format!("{scope:?} is no scope");
            problems.error(code::JWT_RULE, format!("{path}.scopes[{i}]"), message);
            problems.help("one scope an item, without spaces, quotes and backslashes");
        }
    }
    for (i, _) in spec.audiences.iter().enumerate().filter(|(_, audience)| audience.is_empty()) {
        problems.error(code::EMPTY_VALUE, format!("{path}.audiences[{i}]"), "the audience is empty");
    }
    let effect = match spec.access {
        Access::Public => Effect::Opens,
        Access::Token => Effect::Restricts,
    };
    let boxed = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    AccessRule {
        name,
        matches: RequestMatch::new(&spec.matches, effect, &format!("{path}.match"), problems),
        access: spec.access,
        scopes: boxed(&spec.scopes),
        scope: Arc::from(spec.scopes.join(" ")),
        audiences: boxed(&spec.audiences),
    }
}

fn check_issuer(spec: &IssuerSpec, path: &str, problems: &mut Problems) {
    if spec.issuer.is_empty() {
        problems.error(code::EMPTY_VALUE, format!("{path}.issuer"), "the issuer is empty");
    }
    check_algorithms(spec, path, problems);
    check_files(spec, path, problems);
    let keys = &spec.keys;
    let durations = [
        ("clockSkew", spec.clock_skew, CLOCK_SKEW, "0s and 10m"),
        ("maxTokenAge", spec.max_token_age, TOKEN_AGE, "1s and 720h"),
        ("keys.refreshInterval", keys.refresh_interval, REFRESH, "1s and 24h"),
        ("keys.refetchIntervalMin", keys.refetch_interval_min, REFETCH, "1s and 1h"),
    ];
    for (field, value, range, words) in durations {
        // Times in tokens are whole seconds; a fraction would be cut off without a word.
        if value.is_some_and(|value| !range.contains(&value) || value.subsec_nanos() != 0) {
            let message = format!("the duration is not in whole seconds within {words}");
            problems.error(code::JWT_RANGE, format!("{path}.{field}"), message);
        }
    }
    if spec.max_token_bytes.is_some_and(|bytes| !TOKEN_BYTES.contains(&bytes)) {
        let message = format!("the number is not within {} and {}", TOKEN_BYTES.start(), TOKEN_BYTES.end());
        problems.error(code::JWT_RANGE, format!("{path}.maxTokenBytes"), message);
    }
    for (i, _) in spec.required_claims.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        problems.error(code::EMPTY_VALUE, format!("{path}.requiredClaims[{i}]"), "a claim has a name");
    }
}

fn check_algorithms(spec: &IssuerSpec, path: &str, problems: &mut Problems) {
    for (i, name) in spec.algorithms.iter().enumerate() {
        let at = format!("{path}.algorithms[{i}]");
        let served = || PUBLIC_ALGORITHMS.iter().copied().chain([SECRET_ALGORITHM]);
        if !served().any(|known| known == name) {
            problems.error(code::JWT_ALGORITHM, at, format!("the algorithm {name:?} is not served"));
            problems.help(match did_you_mean(name, served()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("one of {}", served().collect::<Vec<_>>().join(", ")),
            });
        } else if (name == SECRET_ALGORITHM) != spec.secret_file.is_some() {
            // One key, two algorithms: whoever may read the public half could sign with it.
            let message = if spec.secret_file.is_some() {
                format!(
                    "{name} is verified with a public key, and secretFile is for {SECRET_ALGORITHM} alone"
                )
            } else {
                format!("{SECRET_ALGORITHM} needs a secret of its own")
            };
            problems.error(code::JWT_ALGORITHM, at, message);
            problems
                .help("write secretFile and HS256 alone, or algorithms with a public key and no secretFile");
        }
    }
}

fn check_files(spec: &IssuerSpec, path: &str, problems: &mut Problems) {
    let keys = &spec.keys;
    if let Some(file) = spec.secret_file.as_deref().filter(|file| !is_plain_path(file)) {
        let message = format!("{file:?} is no path from the root");
        problems.error(code::JWT_SECRET, format!("{path}.secretFile"), message);
        problems.help("for example /run/secrets/jwt, a file on the host of each proxy that is selected");
    }
    if spec.secret_file.is_some() && (keys.allow_private_addresses || keys.ca_certificates.is_some()) {
        problems.error(code::JWT_SECRET, format!("{path}.keys"), "a secret is read from a file, not fetched");
        problems.help("keep refreshInterval alone: the file is read again that often");
    }
    if let Some(file) = keys.ca_certificates.as_deref().filter(|file| !is_plain_path(file)) {
        let message = format!("{file:?} is no path from the root");
        problems.error(code::JWT_KEYS, format!("{path}.keys.caCertificates"), message);
    }
}

fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains('\0')
        && !path.split('/').any(|part| part == "..")
}
