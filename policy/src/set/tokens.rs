//! What objects about tokens must be to each other, as far as selectors tell. Each proxy judges again by what it is.

use super::ROOT_NAMESPACE;
use super::check::{Checker, title};
use crate::compile::authentication::nested;
use crate::finding::code;
use crate::kind::authorization_policy::Rule;
use crate::kind::jwt_policy::{Access, IssuerSpec, JwtPolicySpec};
use crate::kind::request_authentication::RequestAuthenticationSpec;
use crate::kind::{AuthorizationPolicySpec, Object, Selector, Spec, request_authentication};

/// An object and its selector.
pub(super) type Selecting<'o> = (&'o Object, &'o Selector);

/// Whether some workload may be selected by both.
pub(super) fn may_meet((a, a_labels): Selecting<'_>, (b, b_labels): Selecting<'_>) -> bool {
    let (here, there) = (&a.meta.namespace, &b.meta.namespace);
    (here == there || [here, there].into_iter().any(|n| n == ROOT_NAMESPACE))
        && a_labels.iter().all(|(k, v)| b_labels.get(k).is_none_or(|w| w == v))
}

/// Whether every workload that `narrow` selects is selected by `wide` too.
fn covers((wide, wide_labels): Selecting<'_>, (narrow, narrow_labels): Selecting<'_>) -> bool {
    (wide.meta.namespace == narrow.meta.namespace || wide.meta.namespace == ROOT_NAMESPACE)
        && wide_labels.iter().all(|(k, v)| narrow_labels.get(k) == Some(v))
}

/// Whether the two are sure to meet.
fn meet(a: Selecting<'_>, b: Selecting<'_>) -> bool {
    covers(a, b) || covers(b, a)
}

fn readers(objects: &[Object]) -> impl Iterator<Item = (&Object, &RequestAuthenticationSpec)> {
    objects.iter().filter_map(|object| match &object.spec {
        Spec::RequestAuthentication(spec) => Some((object, spec)),
        _ => None,
    })
}

fn policies(objects: &[Object]) -> impl Iterator<Item = (&Object, &JwtPolicySpec)> {
    objects.iter().filter_map(|object| match &object.spec {
        Spec::JwtPolicy(spec) => Some((object, spec)),
        _ => None,
    })
}

impl<'o> Checker<'o> {
    /// A rule about tokens where nothing reads them does not mean what it says.
    pub(super) fn tokens(&mut self, object: &Object, spec: &AuthorizationPolicySpec, objects: &[Object]) {
        let asked = (object, &spec.selector);
        let read = readers(objects).any(|(other, reader)| may_meet((other, &reader.selector), asked));
        let asking = spec.rules.iter().position(Rule::asks_for_token).filter(|_| !read);
        if let Some(i) = asking {
            self.report(object, |p| {
                let message = "no RequestAuthentication reads tokens where this policy holds";
                p.warning(code::NEEDS_TOKEN, format!("spec.rules[{i}]"), message);
                p.help("write a RequestAuthentication for the same workloads, or leave the attribute out");
            });
        }
    }

    /// Where each rule's keys come from, and that no issuer is within another.
    pub(super) fn token_rules(
        &mut self,
        object: &'o Object,
        spec: &'o RequestAuthenticationSpec,
        objects: &'o [Object],
    ) {
        let here = (object, &spec.selector);
        for (i, rule) in spec.rules.iter().enumerate() {
            let path = format!("spec.jwtRules[{i}]");
            let said = |fits: &dyn Fn(Selecting<'o>) -> bool| -> Option<&'o IssuerSpec> {
                let fitting = policies(objects).filter(|(other, policy)| fits((other, &policy.selector)));
                let mut issuers = fitting.flat_map(|(_, policy)| &policy.issuers);
                issuers.find(|issuer| issuer.issuer == rule.issuer)
            };
            // For all of the rule's workloads, or at least for some: a secret beside keys is wrong there.
            let all = said(&|there| covers(there, here));
            let some = said(&|there| covers(here, there)).filter(|issuer| issuer.secret_file.is_some());
            let known = match (all, some) {
                (None, Some(secret)) if rule.jwks.is_some() || rule.jwks_uri.is_some() => Some(secret),
                (all, _) => all,
            };
            self.report(object, |p| request_authentication::keys(rule, known, &path, p));
            let before = readers(objects).take_while(|(other, _)| !std::ptr::eq(*other, object));
            let before = before.filter(|(other, reader)| meet((other, &reader.selector), here));
            let issuers = before.flat_map(|(_, reader)| &reader.rules).chain(spec.rules.iter().take(i));
            if let Some(message) = nested(issuers.map(|rule| &*rule.issuer), &rule.issuer) {
                self.report(object, |p| {
                    p.error(code::JWT_ISSUERS_NESTED, format!("{path}.issuer"), message);
                    p.help("take the tokens of the two at workloads of their own");
                });
            }
        }
    }

    /// That what is asked for can be had, and that nobody else speaks of the same issuer.
    pub(super) fn token_policy(
        &mut self,
        object: &'o Object,
        spec: &'o JwtPolicySpec,
        objects: &'o [Object],
    ) {
        let here = (object, &spec.selector);
        self.access(here, spec, objects);
        for (i, issuer) in spec.issuers.iter().enumerate() {
            let path = format!("spec.issuers[{i}].issuer");
            let before = policies(objects).take_while(|(other, _)| !std::ptr::eq(*other, object));
            let twice = before
                .filter(|(other, policy)| meet((other, &policy.selector), here))
                .find(|(_, policy)| policy.issuers.iter().any(|other| other.issuer == issuer.issuer));
            if let Some((first, _)) = twice {
                let message = format!("{} speaks of this issuer already", title(first));
                self.report(object, |p| {
                    p.error(code::JWT_ISSUER_TWICE, &*path, message);
                    p.help("write all about an issuer into one policy for a workload");
                });
            }
            let near = readers(objects).filter(|(other, reader)| may_meet((other, &reader.selector), here));
            let taken = near.flat_map(|(_, reader)| &reader.rules).any(|rule| rule.issuer == issuer.issuer);
            if !taken {
                let message = format!("no RequestAuthentication here takes tokens of {:?}", issuer.issuer);
                self.report(object, |p| {
                    p.warning(code::JWT_ISSUER_UNUSED, path, message);
                    p.help("write a RequestAuthentication with this issuer, exactly, for the same workloads");
                });
            }
        }
    }

    fn access(&mut self, here: Selecting<'o>, spec: &JwtPolicySpec, objects: &[Object]) {
        let Some(i) = spec.rules.iter().position(|rule| rule.access == Access::Token) else { return };
        let path = format!("spec.rules[{i}]");
        let mut all: Vec<Selecting<'_>> = Vec::new();
        all.extend(readers(objects).map(|(other, reader)| (other, &reader.selector)));
        all.retain(|there| may_meet(*there, here));
        if all.is_empty() {
            let message =
                "no RequestAuthentication reads tokens where this policy holds, so nothing could ever pass";
            self.report(here.0, |p| {
                p.error(code::JWT_NOTHING_PASSES, path, message);
                p.help("write a RequestAuthentication for the same workloads");
            });
        } else if !all.iter().any(|there| covers(*there, here)) {
            let message = "workloads that this policy selects and no RequestAuthentication does refuse what it asks a \
                           token for";
            self.report(here.0, |p| {
                p.warning(code::JWT_NOTHING_PASSES, path, message);
                p.help("give the policy the selector of the RequestAuthentication");
            });
        }
    }
}
