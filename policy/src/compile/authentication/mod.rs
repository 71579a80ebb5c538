//! Whose tokens a workload takes, and which of its requests need one.

mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report;
use crate::finding::{Findings, code};
use crate::kind::jwt_policy::access::{AccessPolicy, Unmet};
use crate::kind::jwt_policy::{self, IssuerSpec};
use crate::kind::request_guard::names::HeaderNames;
use crate::kind::request_match::MatchView;
use crate::kind::{Kind, Meta, Named, request_authentication};
use crate::projection::Projection;
use crate::request::token::Token;
pub use rule::{JwtRule, KeyOrigin, KeySource, Locations, TokenRefusal};

/// The token rules of one workload.
#[derive(Debug, Default)]
pub struct Authentication {
    pub rules: Vec<Arc<JwtRule>>,
    access: Vec<AccessPolicy>,
    /// Headers that rules write what tokens say into.
    pub outputs: HeaderNames,
}

impl Authentication {
    pub(crate) fn new(projection: &Projection, findings: &mut Findings) -> Self {
        let access = access(projection, findings);
        let issuers = issuers(projection, findings);
        let mut rules: Vec<Arc<JwtRule>> = Vec::new();
        for Named { meta, spec } in &projection.request_authentication {
            report(findings, &title(Kind::RequestAuthentication, meta), |p| {
                for (index, rule) in spec.rules.iter().enumerate() {
                    let path = format!("spec.jwtRules[{index}]");
                    let issuer = issuers.get(&*rule.issuer).map(|(_, issuer)| *issuer);
                    request_authentication::keys(rule, issuer, &path, p);
                    let others = rules.iter().map(|rule| &*rule.issuer);
                    if let Some(message) = nested(others, &rule.issuer) {
                        p.error(code::JWT_ISSUERS_NESTED, format!("{path}.issuer"), message);
                    }
                    let id = Arc::from(format!("{}/{}/{index}", meta.namespace, meta.name));
                    rules.push(Arc::new(JwtRule::new(id, rule, issuer)));
                }
            });
        }
        let outputs = HeaderNames::new(rules.iter().flat_map(|rule| rule.outputs()));
        Self { rules, access, outputs }
    }

    /// Whether a rule writes into this header, under any spelling.
    pub(super) fn writes(&self, header: &str) -> bool {
        self.outputs.has(header)
    }

    /// Judges what a request brings by every JwtPolicy; `token` was verified. The first that lacks something refuses.
    pub fn demand(&self, view: &MatchView<'_>, token: Option<&Token>) -> Result<(), Unmet> {
        self.access.iter().try_for_each(|policy| policy.judge(view, token))
    }
}

fn title(kind: Kind, meta: &Meta) -> String {
    format!("{} {}/{}", kind.name(), meta.namespace, meta.name)
}

fn access(projection: &Projection, findings: &mut Findings) -> Vec<AccessPolicy> {
    let mut access = Vec::with_capacity(projection.jwt_policies.len());
    for Named { meta, spec } in &projection.jwt_policies {
        report(findings, &title(Kind::JwtPolicy, meta), |p| {
            let policy = jwt_policy::build(meta, spec, p);
            if policy.asks_for_token() {
                access.push(policy);
            }
        });
    }
    access
}

/// What is said of each issuer. Two policies that speak of one have no order: neither may win by luck.
fn issuers<'p>(
    projection: &'p Projection,
    findings: &mut Findings,
) -> BTreeMap<&'p str, (&'p Meta, &'p IssuerSpec)> {
    let mut issuers: BTreeMap<&str, (&Meta, &IssuerSpec)> = BTreeMap::new();
    for Named { meta, spec } in &projection.jwt_policies {
        for (i, issuer) in spec.issuers.iter().enumerate() {
            let Some((first, _)) = issuers.insert(&issuer.issuer, (meta, issuer)) else { continue };
            if first == meta {
                continue; // `build` has said so.
            }
            report(findings, &title(Kind::JwtPolicy, meta), |p| {
                let message = format!("{} speaks of this issuer already", title(Kind::JwtPolicy, first));
                p.error(code::JWT_ISSUER_TWICE, format!("spec.issuers[{i}].issuer"), message);
                p.help("write all about an issuer into one policy for a workload");
            });
        }
    }
    issuers
}

/// Why an issuer cannot stand beside these: `https://a/b` with the subject `c` reads like `https://a` with `b/c`, and a
/// pattern such as `https://a/*` takes both.
pub(crate) fn nested<'o>(others: impl IntoIterator<Item = &'o str>, issuer: &str) -> Option<String> {
    let within = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('/'));
    others
        .into_iter()
        .find(|other| within(other, issuer) || within(issuer, other))
        .map(|other| format!("principals of {issuer:?} can be taken for principals of {other:?}"))
}
