//! RateLimitPolicy, palisade.mesh/v1: how often.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::request_match::{self, Effect, MatchItem, RequestMatch};
use super::{Meta, Selector, read_selector};
use crate::document::reader::{At, Fields, Reader};
use crate::finding::code;
use crate::finding::problem::Problems;

/// Requests per window and burst. The upper end keeps the time of one request at a nanosecond or more.
const LIMIT: RangeInclusive<u64> = 1..=1_000_000_000;
/// Below a second a limit is load shedding; state beyond a day would be lost to restarts.
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

const ON_STORE_FAILURE: [(&str, OnStoreFailure); 3] =
    [("local", OnStoreFailure::Local), ("deny", OnStoreFailure::Deny), ("allow", OnStoreFailure::Allow)];
const MODES: [(&str, Mode); 3] = [("enforce", Mode::Enforce), ("shadow", Mode::Shadow), ("flag", Mode::Flag)];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimitPolicySpec {
    pub selector: Selector,
    pub limits: Vec<LimitSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    pub name: String,
    pub matches: Vec<MatchItem>,
    /// Requests that agree in all parts share a bucket. Empty: all requests do.
    pub key: Vec<KeyPart>,
    pub limit: u64,
    pub window: Duration,
    /// Present: quota comes back evenly, and this many may come at once. Absent: any window passes at most the limit.
    pub burst: Option<u64>,
    /// Absent: 1.
    pub cost: Option<u64>,
    pub scope: Scope,
    pub mode: Mode,
    /// Whether callers are told of the limit in `RateLimit` headers.
    pub headers: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyPart {
    /// A claim of a verified token. Dots lead into nested claims, unless a claim has the whole text as its name.
    Claim(String),
    /// `iss/sub` of a verified token.
    Principal,
    /// The client's address; IPv6 by /64.
    Address,
    /// All values of a header, as they were sent.
    Header(String),
}

/// Who counts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Every proxy for itself.
    #[default]
    Instance,
    /// All proxies that the policy selects, through the store that they share.
    Mesh(OnStoreFailure),
}

/// What becomes of a request when the store of a mesh limit cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// Each proxy counts for itself until the store is back.
    Local,
    /// As if the limit were exceeded.
    Deny,
    /// As if there were no limit.
    Allow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    #[default]
    Enforce,
    /// Refuses nothing; what would have been refused is counted and recorded.
    Shadow,
    /// Refuses nothing; the application is told in a header which limits the request exceeds.
    Flag,
}

/// A compiled limit.
#[derive(Clone, Debug)]
pub struct Limit {
    /// `namespace/policy/limit` and the numbers that its state is made for: the same across pushes that change
    /// neither.
    pub id: Arc<str>,
    /// `namespace/policy/limit`, for records and metrics.
    pub title: Arc<str>,
    pub name: Arc<str>,
    pub matches: RequestMatch,
    pub key: Box<[KeyPart]>,
    pub limit: u32,
    pub window: Duration,
    /// As in [`LimitSpec`].
    pub burst: Option<u32>,
    pub cost: u32,
    pub scope: Scope,
    pub mode: Mode,
    pub headers: bool,
}

impl Limit {
    /// The headers that quotas are told apart by.
    pub(crate) fn headers_of_key(&self) -> impl Iterator<Item = &str> {
        self.key.iter().filter_map(|part| match part {
            KeyPart::Header(name) => Some(name.as_str()),
            KeyPart::Address | KeyPart::Claim(_) | KeyPart::Principal => None,
        })
    }

    /// Whether it can be asked only when the token was verified and the route chosen.
    pub fn is_late(&self) -> bool {
        let of_token = |part: &KeyPart| matches!(part, KeyPart::Claim(_) | KeyPart::Principal);
        self.key.iter().any(of_token) || self.matches.needs_route()
    }
}

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<RateLimitPolicySpec> {
    let mut fields = reader.mapping(at)?;
    let selector = read_selector(reader, &mut fields);
    let limits = match fields.take("limits") {
        Some(at) => reader.items(&at).iter().filter_map(|item| read_limit(reader, item)).collect(),
        None => Vec::new(),
    };
    reader.finish(fields, &[]);
    Some(RateLimitPolicySpec { selector, limits })
}

fn read_limit(reader: &mut Reader<'_>, at: &At<'_>) -> Option<LimitSpec> {
    let mut fields = reader.mapping(at)?;
    let mut needed =
        [("name", "for example: name: logins"), ("limit", "requests per window"), ("window", "60s")]
            .map(|(name, help)| {
                let at = fields.take(name);
                if at.is_none() {
                    reader.missing(&fields, name, help);
                }
                at
            })
            .into_iter();
    let mut next = || needed.next().flatten();
    let name = next().and_then(|at| reader.text(&at));
    let limit = next().and_then(|at| reader.number(&at));
    let window = next().and_then(|at| reader.duration(&at));
    let matches = request_match::read(reader, fields.take("match"));
    let key = match fields.take("key") {
        Some(at) => reader.items(&at).iter().filter_map(|part| read_part(reader, part)).collect(),
        None => Vec::new(),
    };
    let burst = fields.take("burst").and_then(|at| reader.number(&at));
    let cost = fields.take("cost").and_then(|at| reader.number(&at));
    let scope = read_scope(reader, &mut fields);
    let mode = match fields.take("mode") {
        Some(at) => reader.choice(&at, &MODES),
        None => Some(Mode::Enforce),
    };
    let headers = match fields.take("headers") {
        Some(at) => reader.boolean(&at),
        None => Some(true),
    };
    reader.finish(fields, &[]);
    let (name, limit, window, scope, mode, headers) = (name?, limit?, window?, scope?, mode?, headers?);
    Some(LimitSpec { name, matches, key, limit, window, burst, cost, scope, mode, headers })
}

fn read_scope(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Scope> {
    let is_mesh = match fields.take("scope") {
        Some(at) => reader.choice(&at, &[("instance", false), ("mesh", true)])?,
        None => false,
    };
    match (is_mesh, fields.take("onStoreFailure")) {
        (true, Some(at)) => reader.choice(&at, &ON_STORE_FAILURE).map(Scope::Mesh),
        (true, None) => {
            let help = "what becomes of requests while the store is away: local (each proxy counts for itself), \
                        deny (503) or allow (no limit)";
            reader.missing(fields, "onStoreFailure", help);
            None
        }
        (false, Some(at)) => {
            let help = Some("write scope: mesh, or leave onStoreFailure out".to_owned());
            let message = "only a limit of scope mesh has a store";
            reader.error(code::NO_LIMIT_STORE, at.mark(), &at.path, message, help);
            None
        }
        (false, None) => Some(Scope::Instance),
    }
}

fn read_part(reader: &mut Reader<'_>, at: &At<'_>) -> Option<KeyPart> {
    let mut fields = reader.mapping(at)?;
    let mut parts = Vec::new();
    if let Some(at) = fields.take("claim") {
        parts.extend(reader.text(&at).map(KeyPart::Claim));
    }
    if let Some(at) = fields.take("header") {
        parts.extend(reader.text(&at).map(KeyPart::Header));
    }
    for (name, part) in [("principal", KeyPart::Principal), ("address", KeyPart::Address)] {
        let Some(inner) = fields.take(name).and_then(|at| reader.mapping(&at)) else { continue };
        reader.finish(inner, &[]);
        parts.push(part);
    }
    reader.finish(fields, &[]);
    if parts.len() != 1 {
        let help = "one of claim: NAME, principal: {}, address: {}, header: NAME".to_owned();
        reader.error(code::BAD_LIMIT_KEY, at.mark(), &at.path, "an item is one part of the key", Some(help));
    }
    parts.pop()
}

/// Compiles the limits. What does not fit is reported; a limit with an error is not among the result.
pub(crate) fn build(meta: &Meta, spec: &RateLimitPolicySpec, problems: &mut Problems) -> Vec<Limit> {
    if spec.limits.is_empty() {
        problems.error(code::NO_LIMITS, "spec.limits", "the policy limits nothing");
        problems.help("write at least one limit, or delete the policy");
    }
    let mut names = BTreeSet::new();
    let mut limits = Vec::with_capacity(spec.limits.len());
    for (i, limit) in spec.limits.iter().enumerate() {
        let path = format!("spec.limits[{i}]");
        if !names.insert(&limit.name) {
            let message = format!("the name {:?} is taken", limit.name);
            problems.error(code::LIMIT_NAME, format!("{path}.name"), message);
        }
        limits.extend(build_limit(meta, limit, &path, problems));
    }
    limits
}

fn build_limit(meta: &Meta, spec: &LimitSpec, path: &str, problems: &mut Problems) -> Option<Limit> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let named = !spec.name.is_empty() && spec.name.len() <= 63 && spec.name.chars().all(plain);
    if !named {
        let message = format!("{:?} is no name: letters, digits, '-', '_', '.', at most 63", spec.name);
        problems.error(code::BAD_NAME, format!("{path}.name"), message);
    }
    let mut number = |field: &str, value: u64, range: RangeInclusive<u64>| {
        let fits = range.contains(&value);
        if !fits {
            let message = format!("{value} is not within {} and {}", range.start(), range.end());
            problems.error(code::LIMIT_RANGE, format!("{path}.{field}"), message);
        }
        u32::try_from(value).ok().filter(|_| fits)
    };
    let limit = number("limit", spec.limit, LIMIT);
    let most = spec.burst.unwrap_or(spec.limit);
    let burst = spec.burst.map(|burst| number("burst", burst, LIMIT));
    let cost = number("cost", spec.cost.unwrap_or(1), 1..=most.max(1));
    if !WINDOW.contains(&spec.window) {
        let message = format!("{:?} is not within 1s and 24h", spec.window);
        problems.error(code::LIMIT_RANGE, format!("{path}.window"), message);
    }
    for (i, part) in spec.key.iter().enumerate() {
        let wrong = match part {
            KeyPart::Claim(name) => name.is_empty().then_some("a claim has a name"),
            KeyPart::Header(name) => {
                HeaderName::from_bytes(name.as_bytes()).is_err().then_some("this is no name of a header")
            }
            KeyPart::Principal | KeyPart::Address => None,
        };
        if let Some(wrong) = wrong {
            problems.error(code::BAD_LIMIT_KEY, format!("{path}.key[{i}]"), wrong);
        }
    }
    let matches = RequestMatch::new(&spec.matches, Effect::Restricts, &format!("{path}.match"), problems);
    let (limit, cost) = (limit?, cost?);
    let burst = match burst {
        Some(burst) => Some(burst?),
        None => None,
    };
    let title = format!("{}/{}/{}", meta.namespace, meta.name, spec.name);
    let window = spec.window;
    Some(Limit {
        id: format!("{title} {limit}/{}ms/{burst:?} {:?}", window.as_millis(), spec.key).into(),
        title: title.into(),
        name: spec.name.as_str().into(),
        matches,
        key: spec.key.clone().into(),
        limit,
        window,
        burst,
        cost,
        scope: spec.scope,
        mode: spec.mode,
        headers: spec.headers,
    })
}
