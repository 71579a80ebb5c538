//! Least-privilege AuthorizationPolicies from what was observed, for a person to review.
//!
//! What is suggested lets in exactly the callers, methods and ports that were let in, and their paths; of a path only
//! segments that are ids by their form become `{*}`. What cannot be written so that it means no more is left out, and said.

mod path;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use palisade_identity::SpiffeId;

use crate::record::{Direction, Outcome, Record};
use path::Template;

/// Different endpoints of one caller at one service. More are no interface but texts of users in paths.
const ENDPOINTS_MAX: usize = 200;
/// Different paths that are counted for each template.
const PATHS_COUNTED_MAX: usize = 10_000;

/// Gathers records.
#[derive(Debug, Default)]
pub struct Suggester {
    services: BTreeMap<String, Service>,
    seen: Seen,
}

/// How many records there were, of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub records: u64,
    pub allowed: u64,
    pub refused: u64,
    /// Outbound and edge records, and requests that ended before rules of access were asked.
    pub others: u64,
}

#[derive(Debug)]
struct Service {
    id: SpiffeId,
    callers: BTreeMap<String, Caller>,
    /// Refused, by caller: they stay refused.
    refused: BTreeMap<String, u64>,
    /// Let in without a certificate, which no policy can allow by name.
    plaintext: u64,
}

#[derive(Debug, Default)]
struct Caller {
    endpoints: BTreeMap<Endpoint, Count>,
    /// Requests whose path cannot be written without meaning more, with the first of them.
    unwritten: u64,
    unwritten_example: String,
    /// Requests beyond the bound on endpoints.
    left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Endpoint {
    port: Option<u16>,
    path: Template,
    method: String,
}

#[derive(Debug, Default)]
struct Count {
    requests: u64,
    paths: BTreeSet<String>,
}

impl Suggester {
    pub fn add(&mut self, record: Record) {
        self.seen.records += 1;
        let is_asked = record.direction == Direction::Inbound && record.outcome != Outcome::NotTold;
        let service = record.service.clone().filter(|id| is_asked && id.workload().is_some());
        let (Some(id), Some(method), Some(path)) = (service, record.method, record.path) else {
            self.seen.others += 1;
            return;
        };
        let new =
            || Service { id: id.clone(), callers: BTreeMap::new(), refused: BTreeMap::new(), plaintext: 0 };
        let service = self.services.entry(id.as_str().to_owned()).or_insert_with(new);
        let caller = record.caller.as_ref().map(|caller| caller.principal().to_owned());
        if record.outcome == Outcome::Refused {
            self.seen.refused += 1;
            let name = caller.unwrap_or_else(|| "a caller without a certificate".into());
            *service.refused.entry(name).or_default() += 1;
            return;
        }
        self.seen.allowed += 1;
        match caller {
            Some(caller) => service.callers.entry(caller).or_default().add(record.port, method, path),
            None => service.plaintext += 1,
        }
    }

    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// One policy for each service, as YAML with comments. Empty where nothing was let in.
    pub fn policies(&self) -> String {
        write::policies(&self.services)
    }
}

impl Caller {
    fn add(&mut self, port: Option<u16>, method: String, path: String) {
        let template = Template::of(&path).filter(|_| is_plain(&method));
        let Some(template) = template else {
            if self.unwritten == 0 {
                self.unwritten_example = format!("{method} {path}");
            }
            self.unwritten += 1;
            return;
        };
        let endpoint = Endpoint { port, path: template, method };
        if self.endpoints.len() >= ENDPOINTS_MAX && !self.endpoints.contains_key(&endpoint) {
            self.left_out += 1;
            return;
        }
        let count = self.endpoints.entry(endpoint).or_default();
        count.requests += 1;
        if count.paths.len() < PATHS_COUNTED_MAX {
            count.paths.insert(path);
        }
    }
}

/// Whether a method means itself in a policy, and nothing else in YAML.
fn is_plain(method: &str) -> bool {
    !method.is_empty() && method.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
