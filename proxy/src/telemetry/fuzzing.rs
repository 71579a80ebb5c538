//! Records without a request, for `benches/records.rs`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};
use palisade_identity::SpiffeId;

use super::Telemetry;
use super::record::{Record, Source};
use crate::calls::Calls;
use crate::drain::Drain;
use crate::limit::Limiter;
use crate::listen::ClientRequests;
use crate::settings::limits::Limits;
use crate::settings::{self, DrainSettings, Settings};
use crate::worker::{Activity, Direction, Shared, Worker};

/// A worker that has no connections and writes records.
#[derive(Debug)]
pub struct Scribe {
    worker: Rc<Worker>,
    source: Source,
    id: SpiffeId,
    service: Arc<str>,
    cluster: Arc<str>,
    head: Parts,
}

impl Scribe {
    /// Writes into `log`.
    pub fn new(log: &Path) -> io::Result<Self> {
        let limits = Limits::default();
        let shared = Shared {
            live: Arc::default(),
            settings: Arc::new(settings(log, &limits)),
            drain: Drain::new().1,
            telemetry: Telemetry::start(Some(log))?,
            health: Arc::default(),
            concurrency: Arc::default(),
            calls: Calls::default(),
            keys: Arc::default(),
            certificates: Arc::default(),
            watch: Arc::default(),
            limiter: Arc::new(Limiter::new(1)),
            client_requests: Arc::new(ClientRequests::new(limits.requests_per_address)),
            store_status: Arc::default(),
            upstreams: Arc::default(),
            limits: Arc::new(limits),
        };
        let head = Request::get("/entries/4711?page=2").header("user-agent", "bench/1.0");
        let (head, ()) = head.body(()).map_err(io::Error::other)?.into_parts();
        Ok(Self {
            worker: Rc::new(Worker::new(shared, 0, Activity::of_workers(1))),
            source: Source { address: ([10, 1, 2, 3], 43210).into(), tls: Some("TLSv1.3") },
            id: SpiffeId::parse("spiffe://corp.example/ns/payments/sa/ledger").map_err(io::Error::other)?,
            service: "ledger.payments".into(),
            cluster: "inbound|8080||".into(),
            head,
        })
    }

    /// The record of a request that was allowed and answered, from its opening to its line and its metrics.
    pub fn record(&self) {
        let mut record = Record::open(&self.worker, Direction::Inbound, &self.source);
        record.received(&self.head, false);
        record.source = Some(self.id.clone());
        record.destination = Some(self.id.clone());
        record.service = Some(self.service.clone());
        record.upstream_cluster = Some(self.cluster.clone());
        record.upstream_host = Some(self.source.address);
        record.set_request_id(HeaderValue::from_static("0d9f8a4e-5a0c-4f0a-9d3c-0c2a8a9b7e11"));
        record.answered(StatusCode::OK, &self.head.headers);
        record.sent(1024);
        record.response_ended(None);
    }
}

fn settings(log: &Path, limits: &Limits) -> Settings {
    let nowhere = PathBuf::new;
    Settings {
        source: settings::Source::Files {
            policies: nowhere(),
            svid: nowhere(),
            key: nowhere(),
            roots: nowhere(),
            labels: BTreeMap::new(),
            reload_interval: Duration::from_secs(1),
        },
        serves: Vec::new(),
        health: None,
        adaptive_concurrency: None,
        outbound_proxy: None,
        outbound_ports: Vec::new(),
        edge: None,
        limit_store: None,
        trace: None,
        admin: ([127, 0, 0, 1], 0).into(),
        access_log: Some(log.to_owned()),
        workers: 1,
        drain: DrainSettings { withdraw_delay: Duration::ZERO, deadline: Duration::ZERO },
        limits: limits.clone(),
        ready_file: None,
    }
}
