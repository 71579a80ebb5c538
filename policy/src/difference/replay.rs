//! Recorded requests, judged again: which real ones would be judged otherwise by another set.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use palisade_identity::{SpiffeId, TrustDomain};
use serde::Serialize;
use serde_json::Value;

use super::{DifferenceError, meshes, target};
use crate::compile::Snapshot;
use crate::explain::{Attribute, Mesh, Target, Verdict, verdict};
use crate::kind::request_match::MatchView;
use crate::record::{Direction, Outcome, Record, claims_of};
use crate::request::RequestView;
use crate::request::path::normalize;
use crate::request::token::Token;
use crate::set::PolicySet;

/// Different requests that are kept; records beyond them are counted only.
const DISTINCT_MAX: usize = 500_000;

/// What came of the records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    pub records: u64,
    /// Judged by both sets as they were judged then.
    pub unchanged: u64,
    /// The most frequent first.
    pub changes: Vec<ReplayedChange>,
    /// What the new set says depends on headers or claims, which records do not hold.
    pub unknown: u64,
    /// The old set does not say what the record says: it was made under other policies.
    pub of_other_policies: u64,
    /// Outbound and edge records, and requests that ended before or after rules of access were asked.
    pub not_judged: u64,
    /// Beyond the bound on different requests.
    pub left_out: u64,
}

/// Requests that are alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ReplayedChange {
    pub gains: bool,
    pub caller: Option<String>,
    pub service: String,
    pub method: String,
    pub path: String,
    pub count: u64,
    /// Of the first of them.
    pub decision_id: String,
}

/// All that a record tells of what policy looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    caller: Option<SpiffeId>,
    service: SpiffeId,
    method: String,
    path: String,
    host: String,
    port: u16,
    source_ip: IpAddr,
    request_principal: Option<String>,
    allowed: bool,
}

/// Gathers records, then judges each kind of request once.
#[derive(Debug)]
pub struct Replayer<'s> {
    old: Mesh<'s>,
    new: Mesh<'s>,
    /// With the number of records and the first one's id.
    asked: HashMap<Asked, (u64, String)>,
    out: Replay,
}

impl<'s> Replayer<'s> {
    /// `domain`: the mesh's own, where documents do not tell it.
    pub fn new(
        old: &'s PolicySet,
        new: &'s PolicySet,
        domain: Option<&TrustDomain>,
    ) -> Result<Self, DifferenceError> {
        let (old, new) = meshes(old, new, domain)?;
        Ok(Self { old, new, asked: HashMap::new(), out: Replay::default() })
    }

    pub fn add(&mut self, record: Record) {
        self.out.records += 1;
        let id = record.decision_id.clone();
        let Some(asked) = Asked::of(record) else {
            self.out.not_judged += 1;
            return;
        };
        if self.asked.len() >= DISTINCT_MAX && !self.asked.contains_key(&asked) {
            self.out.left_out += 1;
            return;
        }
        self.asked.entry(asked).or_insert((0, id)).0 += 1;
    }

    /// Judges everything that was gathered.
    pub fn finish(mut self) -> Result<Replay, DifferenceError> {
        let mut targets: HashMap<SpiffeId, (Target, Target)> = HashMap::new();
        let mut changes: BTreeMap<ReplayedChange, (u64, String)> = BTreeMap::new();
        for (asked, (count, id)) in std::mem::take(&mut self.asked) {
            if !targets.contains_key(&asked.service) {
                let workload = self.new.workload(asked.service.clone(), BTreeMap::new());
                let pair = (target(&self.old, &workload, "old")?, target(&self.new, &workload, "new")?);
                targets.insert(asked.service.clone(), pair);
            }
            let Some((before, after)) = targets.get(&asked.service) else { continue };
            let recorded = if asked.allowed { Verdict::Allowed } else { Verdict::Refused };
            let (was, is) = (asked.verdict(&before.snapshot), asked.verdict(&after.snapshot));
            if is == Verdict::Unknown {
                self.out.unknown += count;
            } else if is == recorded {
                self.out.unchanged += count;
            } else if was != recorded && was != Verdict::Unknown {
                self.out.of_other_policies += count;
            } else {
                changes.entry(asked.change()).or_insert((0, id)).0 += count;
            }
        }
        self.out.changes = changes
            .into_iter()
            .map(|(key, (count, id))| ReplayedChange { count, decision_id: id, ..key })
            .collect();
        self.out.changes.sort_by_key(|change| std::cmp::Reverse(change.count));
        Ok(self.out)
    }
}

impl Asked {
    /// `None`: rules of access were not what decided, or the record does not tell what they looked at.
    fn of(record: Record) -> Option<Self> {
        if record.direction != Direction::Inbound || record.outcome == Outcome::NotTold {
            return None;
        }
        record.service.as_ref()?.workload()?;
        Some(Self {
            caller: record.caller,
            service: record.service?,
            method: record.method?,
            path: record.path?,
            host: record.authority?,
            port: record.port?,
            source_ip: record.source_ip?,
            request_principal: record.request_principal,
            allowed: record.outcome == Outcome::Allowed,
        })
    }

    /// What it is shown as, without a number.
    fn change(&self) -> ReplayedChange {
        ReplayedChange {
            gains: !self.allowed,
            caller: self.caller.as_ref().map(|id| id.principal().to_owned()),
            service: self.service.principal().to_owned(),
            method: self.method.clone(),
            path: self.path.clone(),
            count: 0,
            decision_id: String::new(),
        }
    }

    fn verdict(&self, snapshot: &Snapshot) -> Verdict {
        let mesh = &snapshot.mesh;
        let Ok(path) = normalize(&self.path, mesh.path_normalization, mesh.ambiguous_paths) else {
            return Verdict::Refused;
        };
        let token = self.request_principal.as_deref().and_then(token);
        let headers = HeaderMap::new();
        let view = RequestView {
            peer: self.caller.as_ref(),
            source_ip: self.source_ip,
            remote_ip: self.source_ip,
            destination_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            destination_port: self.port,
            method: &self.method,
            path: &path,
            host: &self.host,
            headers: &headers,
            sni: None,
            token: token.as_ref(),
        };
        if snapshot.refuses_plaintext(&view) {
            return Verdict::Refused;
        }
        let matched = MatchView { host: &self.host, method: &self.method, path: &path, route: None };
        let demanded = snapshot.authentication().demand(&matched, token.as_ref());
        // Without a subject a token has no principal, so that none recorded is not none sent.
        let may_have_token = !snapshot.authentication().rules.is_empty();
        let access =
            verdict(&snapshot.trace(&view), snapshot.has_allow_policy(), |attribute| match attribute {
                Attribute::Header(_) | Attribute::Sni | Attribute::DestinationIp => false,
                Attribute::Token(_) => !may_have_token,
                Attribute::RequestPrincipal => self.request_principal.is_none() || token.is_some(),
                _ => true,
            });
        match (access, demanded) {
            (Verdict::Refused, _) => Verdict::Refused,
            (access, Ok(())) => access,
            (_, Err(_)) if may_have_token => Verdict::Unknown,
            (_, Err(_)) => Verdict::Refused,
        }
    }
}

/// A token of this principal, of which nothing else is known.
fn token(principal: &str) -> Option<Token> {
    let claims = Value::Object(claims_of(principal)?).to_string();
    Token::parse(claims.as_bytes()).ok().map(|(token, _)| token)
}
