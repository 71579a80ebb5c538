//! PolicyTest, palisade.mesh/v1: requests, and what policies are expected to say of them. No part of a mesh's
//! configuration: it stands beside the policies, is checked wherever they are read, and goes no further.

mod coverage;
pub(crate) mod read;
mod run;

use std::collections::BTreeMap;

use palisade_identity::TrustDomain;
use serde_json::{Map, Value};

pub use coverage::Coverage;
pub use run::{CaseResult, Mismatch, Run, TestError, run};

use crate::finding::Position;
use crate::kind::Meta;

/// What a document's `kind` says.
pub const KIND: &str = "PolicyTest";
pub const API_VERSION: &str = "palisade.mesh/v1";
/// The name in `from` for a caller without a certificate.
pub const PLAINTEXT: &str = "plaintext";

/// Requests of one run. Each costs some ten microseconds and more.
pub const REQUESTS_MAX: usize = 200_000;

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyTest {
    pub meta: Meta,
    pub trust_domain: Option<TrustDomain>,
    pub cases: Vec<Case>,
    /// What callers and services are, beyond their names.
    pub workloads: BTreeMap<String, WorkloadSpec>,
    pub position: Option<Position>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// On top of `app`, which is the name unless it stands here.
    pub labels: BTreeMap<String, String>,
    /// The port of requests that name none; 8080 unless it stands here.
    pub port: Option<u16>,
}

/// Every caller with every service, method and path. A matrix is several cases.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub name: String,
    pub from: Vec<String>,
    pub to: Vec<String>,
    pub request: RequestSpec,
    pub expect: Expect,
    pub position: Option<Position>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestSpec {
    /// `protocol: tcp`: a connection of which nothing is read.
    pub tcp: bool,
    /// Empty: GET.
    pub methods: Vec<String>,
    /// Empty: `/`.
    pub paths: Vec<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub headers: BTreeMap<String, String>,
    /// Claims of a token whose signature is good.
    pub token: Option<Map<String, Value>>,
    pub invalid_token: bool,
    pub source_ip: Option<std::net::IpAddr>,
    pub remote_ip: Option<std::net::IpAddr>,
    pub sni: Option<String>,
    pub body_bytes: u64,
}

/// What is expected of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    pub allowed: bool,
    /// As in decision records.
    pub reason: Option<String>,
    /// The policy that decides, `name` or `namespace/name`.
    pub policy: Option<String>,
}
