//! Asks what tests ask, and compares.

use std::collections::{BTreeMap, HashMap, HashSet};

use http::{HeaderName, HeaderValue};
use palisade_identity::{SpiffeId, TrustDomain};
use serde::Serialize;

use super::read::is_plaintext;
use super::{Case, Coverage, Expect, PolicyTest, REQUESTS_MAX, RequestSpec, WorkloadSpec};
use crate::decision::RuleRef;
use crate::explain::{Explanation, GivenToken, Mesh, MeshError, Question, Target, explain_reached};
use crate::finding::{Findings, Position};
use crate::projection::Workload;
use crate::set::PolicySet;

/// What came of all tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    pub requests: usize,
    pub cases: Vec<CaseResult>,
    pub coverage: Coverage,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    /// `namespace/name` of the PolicyTest.
    pub test: String,
    pub case: String,
    pub position: Option<Position>,
    pub requests: usize,
    pub failures: Vec<Mismatch>,
}

/// One request that was not judged as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// `POST /entries of ledger by payments`.
    pub request: String,
    pub expected: String,
    pub got: String,
    pub explanation: Explanation,
}

/// Why tests cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    #[error("{}{source}", at(.position.as_ref()))]
    Name { position: Option<Position>, source: MeshError },
    #[error("the policies do not compile for {workload}")]
    Compile { workload: String, findings: Findings },
    #[error("{}{edge} has several hosts: say which one with host, of {}", at(.position.as_ref()), .hosts.join(", "))]
    Host { position: Option<Position>, edge: String, hosts: Vec<String> },
    #[error("the tests have more than {REQUESTS_MAX} requests; split matrices, or run fewer files at once")]
    TooMany,
}

fn at(position: Option<&Position>) -> String {
    position.map(|position| format!("{position}: ")).unwrap_or_default()
}

/// Runs every case of every test. `domain`: the mesh's own, for tests that do not say it. `now` in seconds since 1970.
pub fn run(
    set: &PolicySet,
    tests: &[PolicyTest],
    domain: Option<&TrustDomain>,
    now: i64,
) -> Result<Run, TestError> {
    let mut out = Run { requests: 0, cases: Vec::new(), coverage: Coverage::default() };
    let mut matched = HashSet::new();
    let mut last = None;
    for test in tests {
        let named = test.trust_domain.clone().or_else(|| domain.cloned());
        let mesh = Mesh::new(set, named)
            .map_err(|source| TestError::Name { position: test.position.clone(), source })?;
        let mut bench = Bench { mesh: &mesh, test, now, targets: HashMap::new(), ways: HashMap::new() };
        for case in &test.cases {
            let result = bench.case(case, REQUESTS_MAX.saturating_sub(out.requests), &mut matched)?;
            out.requests += result.requests;
            out.cases.push(result);
        }
        last = Some(mesh);
    }
    if let Some(mesh) = last {
        out.coverage = Coverage::new(&mesh, &matched);
    }
    Ok(out)
}

impl Run {
    pub fn failed_cases(&self) -> usize {
        self.cases.iter().filter(|case| !case.failures.is_empty()).count()
    }

    /// Cases by the test that they are of.
    pub fn by_test(&self) -> BTreeMap<&str, Vec<&CaseResult>> {
        let mut out: BTreeMap<&str, Vec<&CaseResult>> = BTreeMap::new();
        for case in &self.cases {
            out.entry(case.test.as_str()).or_default().push(case);
        }
        out
    }
}

/// One test with all that its requests share.
struct Bench<'m, 's, 't> {
    mesh: &'m Mesh<'s>,
    test: &'t PolicyTest,
    now: i64,
    targets: HashMap<SpiffeId, Target>,
    /// Whether the caller's sidecar is told of the service.
    ways: HashMap<(SpiffeId, SpiffeId, u16), bool>,
}

impl Bench<'_, '_, '_> {
    fn case(
        &mut self,
        case: &Case,
        left: usize,
        matched: &mut HashSet<RuleRef>,
    ) -> Result<CaseResult, TestError> {
        let (mesh, now) = (self.mesh, self.now);
        let test = format!("{}/{}", self.test.meta.namespace, self.test.meta.name);
        let (name, position) = (case.name.clone(), case.position.clone());
        let mut result = CaseResult { test, case: name, position, requests: 0, failures: Vec::new() };
        for from in &case.from {
            let caller = (!is_plaintext(from)).then(|| self.workload(from, case)).transpose()?;
            for to in &case.to {
                let service = self.workload(to, case)?;
                let port = case.request.port.or_else(|| self.spec(to).and_then(|spec| spec.port));
                let target = self.target(&service)?;
                let port = port.unwrap_or_else(|| target.usual_port());
                let base = question(&case.request, caller.as_ref(), port, now);
                let hosts = target.unchosen_hosts(&base);
                if !hosts.is_empty() {
                    let (position, edge) = (case.position.clone(), service.id.principal().to_owned());
                    return Err(TestError::Host { position, edge, hosts });
                }
                let reached = self.is_reached(caller.as_ref(), &service, base.port)?;
                for question in spread(&case.request, &base) {
                    if result.requests >= left {
                        return Err(TestError::TooMany);
                    }
                    result.requests += 1;
                    let target = self.target(&service)?;
                    let told = explain_reached(mesh, target, reached, &question);
                    matched.extend(told.matching.iter().cloned());
                    let request = match question.tcp {
                        true => format!("TCP port {} of {to} by {from}", question.port),
                        false => format!("{} {} of {to} by {from}", question.method, question.path),
                    };
                    result.failures.extend(mismatch(&case.expect, told, request));
                }
            }
        }
        Ok(result)
    }

    fn spec(&self, name: &str) -> Option<&WorkloadSpec> {
        self.test.workloads.get(name)
    }

    fn workload(&self, name: &str, case: &Case) -> Result<Workload, TestError> {
        let id = self.mesh.identity(name, Some(&self.test.meta.namespace));
        let id = id.map_err(|source| TestError::Name { position: case.position.clone(), source })?;
        let labels = self.spec(name).map(|spec| spec.labels.clone()).unwrap_or_default();
        Ok(self.mesh.workload(id, labels))
    }

    fn target(&mut self, service: &Workload) -> Result<&Target, TestError> {
        if !self.targets.contains_key(&service.id) {
            let target = self.mesh.target(service).map_err(|findings| refused(service, findings))?;
            self.targets.insert(service.id.clone(), target);
        }
        self.targets.get(&service.id).ok_or(TestError::TooMany)
    }

    fn is_reached(
        &mut self,
        caller: Option<&Workload>,
        service: &Workload,
        port: u16,
    ) -> Result<bool, TestError> {
        let Some(caller) = caller else { return Ok(true) };
        let key = (caller.id.clone(), service.id.clone(), port);
        if let Some(known) = self.ways.get(&key) {
            return Ok(*known);
        }
        let way = self.mesh.way(caller, service, port).map_err(|findings| refused(caller, findings))?;
        self.ways.insert(key, way.is_some());
        Ok(way.is_some())
    }
}

fn refused(workload: &Workload, findings: Findings) -> TestError {
    TestError::Compile { workload: workload.id.principal().to_owned(), findings }
}

fn question(request: &RequestSpec, caller: Option<&Workload>, port: u16, now: i64) -> Question {
    let mut question = Question::new(caller.map(|caller| caller.id.clone()), port);
    question.tcp = request.tcp;
    question.host.clone_from(&request.host);
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            question.headers.append(name, value);
        }
    }
    question.token = match (&request.token, request.invalid_token) {
        (_, true) => GivenToken::Invalid,
        (Some(claims), false) => GivenToken::Claims(claims.clone()),
        (None, false) => GivenToken::None,
    };
    question.source_ip = request.source_ip.unwrap_or(question.source_ip);
    question.remote_ip = request.remote_ip;
    question.sni.clone_from(&request.sni);
    question.body_bytes = request.body_bytes;
    question.now = now;
    question
}

/// A question for each method and path.
fn spread<'q>(request: &'q RequestSpec, base: &'q Question) -> impl Iterator<Item = Question> + 'q {
    let or = |list: &'q [String], default: &'q str| match list.is_empty() {
        true => vec![default],
        false => list.iter().map(String::as_str).collect(),
    };
    let (methods, paths) = (or(&request.methods, "GET"), or(&request.paths, "/"));
    methods.into_iter().flat_map(move |method| {
        let of = move |path: &&str| Question {
            method: method.to_owned(),
            path: (*path).to_owned(),
            ..base.clone()
        };
        paths.iter().map(of).collect::<Vec<_>>()
    })
}

fn mismatch(expect: &Expect, told: Explanation, request: String) -> Option<Mismatch> {
    let by = told.rule.as_ref().map(|rule| format!("{}/{}", rule.namespace, rule.policy));
    let is_named = |wanted: &String| {
        let of = |by: &String| by == wanted || by.split('/').next_back() == Some(wanted.as_str());
        by.as_ref().is_some_and(of)
    };
    let fits = told.allowed == expect.allowed
        && expect.reason.as_ref().is_none_or(|reason| *reason == told.reason)
        && expect.policy.as_ref().is_none_or(is_named);
    if fits {
        return None;
    }
    let said = |allowed: bool, reason: Option<&str>, policy: Option<&str>| {
        let word = if allowed { "allow" } else { "deny" };
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let policy = policy.map(|policy| format!(" by {policy}")).unwrap_or_default();
        format!("{word}{reason}{policy}")
    };
    Some(Mismatch {
        request,
        expected: said(expect.allowed, expect.reason.as_deref(), expect.policy.as_deref()),
        got: said(told.allowed, Some(&told.reason), by.as_deref()),
        explanation: told,
    })
}
