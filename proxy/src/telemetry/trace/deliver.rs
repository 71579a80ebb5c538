//! Spans that wait for the collector, and their way there: in order, again after a failure that may pass.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use tokio::sync::Notify;

use super::export::Task;
use super::resource::resource;
use super::span::Span;
use super::transport::{Fault, Transport};
use crate::settings::limits::Limits;

/// The conventions that our attributes are named by.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// Spans between the workers and the collector.
pub(super) struct Waiting {
    spans: RefCell<VecDeque<Span>>,
    max: usize,
    closed: Cell<bool>,
    changed: Notify,
}

impl Waiting {
    pub(super) fn new(max: usize) -> Self {
        Self { spans: RefCell::default(), max, closed: Cell::default(), changed: Notify::new() }
    }

    /// Returns how many had no room. Those that came first stay: what follows a failure is more of the same.
    pub(super) fn add(&self, new: Vec<Span>) -> u64 {
        let mut spans = self.spans.borrow_mut();
        let room = self.max.saturating_sub(spans.len());
        let lost = new.len().saturating_sub(room);
        spans.extend(new.into_iter().take(room));
        self.changed.notify_one();
        u64::try_from(lost).unwrap_or(u64::MAX)
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
    }

    pub(super) fn len(&self) -> usize {
        self.spans.borrow().len()
    }

    fn take(&self, max: usize) -> Vec<Span> {
        let mut spans = self.spans.borrow_mut();
        let count = spans.len().min(max);
        spans.drain(..count).collect()
    }

    async fn until(&self, fits: impl Fn(&Self) -> bool) {
        while !self.closed.get() && !fits(self) {
            self.changed.notified().await;
        }
    }
}

/// Brings spans to the collector.
pub(super) struct Delivery<'t> {
    task: &'t Task,
    limits: Arc<Limits>,
    waiting: Rc<Waiting>,
    transport: Transport,
    /// So that a collector that is away is one line in the log, and not one a second.
    healthy: bool,
    resource: Option<Resource>,
}

impl<'t> Delivery<'t> {
    pub(super) fn new(task: &'t Task, waiting: Rc<Waiting>, transport: Transport) -> Self {
        let limits = task.limits.clone();
        Self { task, limits, waiting, transport, healthy: true, resource: None }
    }

    /// Until nothing waits and nothing more will come.
    pub(super) async fn run(&mut self) {
        let together = self.limits.spans_exported_max;
        loop {
            self.waiting.until(|waiting| waiting.len() > 0).await;
            let full = self.waiting.until(|waiting| waiting.len() >= together);
            let _not_full = tokio::time::timeout(self.limits.span_export_delay, full).await;
            let spans = self.waiting.take(together);
            if spans.is_empty() && self.waiting.closed.get() {
                return;
            }
            self.deliver(spans).await;
        }
    }

    async fn deliver(&mut self, spans: Vec<Span>) {
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let request = self.request(spans);
        let mut pause = self.limits.span_backoff_min;
        loop {
            match self.transport.send(&request).await {
                Ok(rejected) => return self.accepted(count, rejected.min(count)),
                Err(fault) => {
                    self.failed(&fault);
                    if !fault.may_pass || self.waiting.closed.get() {
                        return self.dropped(if fault.may_pass { "shutdown" } else { "refused" }, count);
                    }
                    self.pause(fault.retry_after.unwrap_or(pause)).await;
                    pause = pause.saturating_mul(2).min(self.limits.span_backoff_max);
                }
            }
        }
    }

    /// Waits, but not at the end: then there is one more try.
    async fn pause(&self, pause: Duration) {
        let pause = pause.min(self.limits.span_backoff_max);
        let _no_end_yet = tokio::time::timeout(pause, self.waiting.until(|_| false)).await;
    }

    fn accepted(&mut self, count: u64, rejected: u64) {
        if !self.healthy {
            self.healthy = true;
            tracing::info!("the collector takes traces again");
        }
        self.task.counters.count(|shard| shard.spans_exported += count - rejected);
        if rejected > 0 {
            self.dropped("rejected", rejected);
        }
    }

    fn failed(&mut self, fault: &Fault) {
        if self.healthy {
            self.healthy = false;
            let endpoint = &self.task.settings.collector.endpoint;
            tracing::warn!(%endpoint, error = %fault, "the collector takes no traces; requests go on without");
        } else {
            tracing::debug!(error = %fault, "the collector takes no traces");
        }
    }

    fn dropped(&self, reason: &'static str, count: u64) {
        self.task.counters.count(|shard| shard.spans_dropped(reason, count));
    }

    fn request(&mut self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "palisade".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = ScopeSpans { scope: Some(scope), spans, schema_url: SCHEMA_URL.to_owned() };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource()),
            scope_spans: vec![scope_spans],
            schema_url: SCHEMA_URL.to_owned(),
        };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
    }

    /// An identity that was taken away leaves its name.
    fn resource(&mut self) -> Resource {
        if let Some(resource) = &self.resource {
            return resource.clone();
        }
        let identity = self.task.live.identity();
        let identity = identity.as_ref().map(|identity| &identity.svid.id);
        let resource = resource(&self.task.settings, identity);
        if identity.is_some() {
            self.resource = Some(resource.clone());
        }
        resource
    }
}
