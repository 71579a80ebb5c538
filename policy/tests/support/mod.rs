//! What the tests of this crate share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code; each test file uses a part of it"
)]

pub mod arbitrary;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use palisade_identity::SpiffeId;
use palisade_policy::document::{SourceFile, parse};
use palisade_policy::kind::service_entry::Protocol;
use palisade_policy::projection::project;
use palisade_policy::request::token::Token;
use palisade_policy::{
    ConnectionView, Decision, Endpoint, Findings, MeshService, PolicySet, RequestView, ServicePort, Snapshot,
    Workload,
};

/// Objects and findings of one text, named `test.yaml`.
pub fn findings(text: &str) -> Findings {
    let (objects, mut findings) = parse(&[file(text)]);
    if !findings.has_errors() {
        match PolicySet::new(objects, &[]) {
            Ok((_, more)) | Err(more) => findings.extend(more),
        }
    }
    findings
}

pub fn file(text: &str) -> SourceFile {
    SourceFile { name: "test.yaml".into(), text: text.into() }
}

#[track_caller]
pub fn parse_ok(text: &str) -> (PolicySet, Findings) {
    let files = [file(text)];
    let (objects, findings) = parse(&files);
    assert!(!findings.has_errors(), "{}", findings.render(&files));
    match PolicySet::new(objects, &[]) {
        Ok((set, more)) => (set, more),
        Err(findings) => panic!("{}", findings.render(&files)),
    }
}

pub fn id(principal: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{principal}")).unwrap()
}

pub fn workload(namespace: &str, account: &str) -> Workload {
    let id = id(&format!("corp.example/ns/{namespace}/sa/{account}"));
    Workload { id, labels: BTreeMap::from([("app".into(), account.into())]) }
}

pub fn service(namespace: &str, name: &str) -> MeshService {
    MeshService {
        name: name.into(),
        namespace: namespace.into(),
        ports: vec![ServicePort { number: 8080, name: "http".into(), protocol: Protocol::Http }],
        identities: BTreeSet::from([workload(namespace, name).id]),
        endpoints: vec![Endpoint {
            instance: format!("{name}-1"),
            labels: workload(namespace, name).labels,
            addresses: BTreeMap::from([(8080, "127.0.0.1:15006".parse().unwrap())]),
        }],
    }
}

#[track_caller]
pub fn snapshot(set: &PolicySet, services: &[MeshService], workload: &Workload) -> Snapshot {
    Snapshot::compile(1, &project(set, services, workload)).unwrap()
}

/// A request in the making: `GET / ` of host `ledger.bank` by payments over mutual TLS.
#[derive(Clone, Debug)]
pub struct Ask {
    pub peer: Option<SpiffeId>,
    pub method: String,
    pub path: String,
    pub host: String,
    pub port: u16,
    pub headers: HeaderMap,
    pub source: IpAddr,
    pub remote: IpAddr,
    pub sni: Option<String>,
    pub token: Option<Token>,
}

impl Ask {
    pub fn new() -> Self {
        Self {
            peer: Some(id("corp.example/ns/bank/sa/payments")),
            method: "GET".into(),
            path: "/".into(),
            host: "ledger.bank".into(),
            port: 8080,
            headers: HeaderMap::new(),
            source: IpAddr::from([10, 1, 2, 3]),
            remote: IpAddr::from([203, 0, 113, 9]),
            sni: None,
            token: None,
        }
    }

    pub fn peer(mut self, principal: &str) -> Self {
        self.peer = Some(id(principal));
        self
    }

    pub fn plaintext(mut self) -> Self {
        self.peer = None;
        self
    }

    pub fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    pub fn path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub fn source(mut self, address: &str) -> Self {
        self.source = address.parse().unwrap();
        self
    }

    pub fn sni(mut self, name: &str) -> Self {
        self.sni = Some(name.into());
        self
    }

    /// With a verified token that says this.
    pub fn token(mut self, claims: &str) -> Self {
        self.token = Some(Token::parse(claims.as_bytes()).unwrap().0);
        self
    }

    pub fn with_view<T>(&self, use_it: impl FnOnce(&RequestView<'_>) -> T) -> T {
        use_it(&RequestView {
            peer: self.peer.as_ref(),
            source_ip: self.source,
            remote_ip: self.remote,
            destination_ip: IpAddr::from([10, 0, 0, 1]),
            destination_port: self.port,
            method: &self.method,
            path: &self.path,
            host: &self.host,
            headers: &self.headers,
            sni: self.sni.as_deref(),
            token: self.token.as_ref(),
        })
    }

    /// The same without what only requests of HTTP have.
    pub fn connection(&self) -> ConnectionView<'_> {
        ConnectionView {
            peer: self.peer.as_ref(),
            source_ip: self.source,
            remote_ip: self.remote,
            destination_ip: IpAddr::from([10, 0, 0, 1]),
            destination_port: self.port,
            sni: self.sni.as_deref(),
        }
    }

    pub fn of(&self, snapshot: &Snapshot) -> Decision {
        self.with_view(|view| snapshot.authorize(view))
    }

    pub fn allowed(&self, snapshot: &Snapshot) -> bool {
        matches!(self.of(snapshot), Decision::Allow { .. })
    }
}
