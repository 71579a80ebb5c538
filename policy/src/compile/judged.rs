//! Headers that policy goes by. A service must not read another value under such a name than the one that was judged: not
//! from another spelling, which servers in CGI's manner fold into it, and not from trailers.

use std::collections::BTreeSet;

use http::HeaderMap;

use super::authentication::JwtRule;
use crate::kind::rate_limit_policy::KeyPart;
use crate::kind::request_guard::names::{HeaderNames, remove_where};
use crate::kind::virtual_service::HttpRoute;
use crate::projection::Projection;

/// Made once for each snapshot, of all policies of the workload.
#[derive(Debug, Default)]
pub struct JudgedHeaders {
    /// As policies spell them, in lower case.
    spelled: BTreeSet<String>,
    /// Of these, the ones that rules decide and routes are chosen by.
    asked: BTreeSet<String>,
    folded: HeaderNames,
}

impl JudgedHeaders {
    pub(super) fn new<'r>(projection: &Projection, rules: impl IntoIterator<Item = &'r JwtRule>) -> Self {
        let (mut spelled, mut asked) = (BTreeSet::new(), BTreeSet::new());
        for rule in rules {
            spelled.extend(rule.locations.headers.iter().map(|(name, _)| name.clone()));
            spelled.extend(rule.outputs().map(str::to_owned));
        }
        let of_rules = projection.authorization.iter().flat_map(|policy| &policy.spec.rules);
        let conditions = of_rules.flat_map(|rule| &rule.when);
        asked.extend(conditions.filter_map(|condition| condition.header()).map(str::to_ascii_lowercase));
        let limits = projection.rate_limits.iter().flat_map(|policy| &policy.spec.limits);
        spelled.extend(limits.flat_map(|limit| &limit.key).filter_map(|part| match part {
            KeyPart::Header(name) => Some(name.to_ascii_lowercase()),
            KeyPart::Claim(_) | KeyPart::Principal | KeyPart::Address => None,
        }));
        // What the own application asks for is nobody's to get around: routes of sidecars are none of these.
        let services = projection.virtual_services.iter();
        let served = services.filter(|service| projection.serves(&service.meta, &service.spec));
        for route in served.flat_map(|service| &service.spec.http) {
            asked.extend(matched(route).map(str::to_ascii_lowercase));
            spelled.extend(changed(route).map(str::to_ascii_lowercase));
        }
        spelled.extend(asked.iter().cloned());
        Self { folded: HeaderNames::new(&spelled), spelled, asked }
    }

    /// Whether a rule decides or a route is chosen by any header.
    pub fn asks_any(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The headers that rules decide and routes are chosen by.
    pub fn asked_of(&self, headers: &HeaderMap) -> HeaderMap {
        if self.asked.is_empty() {
            return HeaderMap::new();
        }
        let asked = headers.iter().filter(|(name, _)| self.asked.contains(name.as_str()));
        asked.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Whether what `asked_of` another kept is enough for this one. `None`: another that asks for nothing.
    pub fn asks_no_more_than(&self, other: Option<&Self>) -> bool {
        match other {
            Some(other) => self.asked.is_subset(&other.asked),
            None => self.asked.is_empty(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.spelled.is_empty()
    }

    /// Removes headers of a name that some policy goes by in another spelling.
    pub fn strip_respelled(&self, headers: &mut HeaderMap) {
        if !self.is_empty() {
            remove_where(headers, |name| self.folded.has(name) && !self.spelled.contains(name));
        }
    }

    /// Removes from trailers whatever some policy goes by as a header, under every spelling.
    pub fn strip_trailers(&self, trailers: &mut HeaderMap) {
        remove_where(trailers, |name| self.folded.has(name));
    }
}

/// What a route is chosen by.
fn matched(route: &HttpRoute) -> impl Iterator<Item = &str> {
    let names = route.matches.iter().flat_map(|item| item.headers.keys().chain(item.without_headers.keys()));
    names.map(String::as_str)
}

/// What a route writes or removes.
fn changed(route: &HttpRoute) -> impl Iterator<Item = &str> {
    let changes = route.route.iter().map(|target| &target.headers).chain([&route.headers]);
    let changed = changes.flat_map(|headers| {
        let changes = &headers.request;
        changes.set.keys().chain(changes.add.keys()).chain(&changes.remove)
    });
    changed.map(String::as_str)
}
