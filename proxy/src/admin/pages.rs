//! The text of the admin pages.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

use super::{Admin, page, upstreams};
use crate::concurrency;
use crate::config::status::{Applied, Link};
use crate::health::{self, Standing};
use crate::identity::{Identity, show, unix_seconds};
use crate::limit::mesh;

pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    missing: &'a [&'static str],
    control_plane: &'static str,
    /// Absent: nobody asks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<Application>,
}

#[derive(Serialize)]
struct Application {
    healthy: bool,
    cause: Option<&'static str>,
    details: Option<String>,
}

/// What is to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// This process. Applications are started once it is, so it must not wait for them.
    Proxy,
    /// And the application may be given requests.
    WithApplication,
}

#[derive(Serialize)]
struct Config<'a> {
    /// Absent: nothing was heard yet. That is not the same as no policies.
    configuration: Option<&'a Applied>,
    control_plane: &'static str,
    rejected: u64,
    reload_failures: u64,
    limit_store: mesh::View,
}

#[derive(Serialize)]
struct Certificates {
    identity: Option<Certificate>,
    renewal_failures: u64,
}

#[derive(Serialize)]
struct Certificate {
    id: String,
    serial: String,
    sha256: String,
    not_before: String,
    not_after: String,
    generation: u64,
    trust_domain: String,
    roots_sha256: Vec<String>,
}

pub(super) fn ready(admin: &Admin, whole: Whole) -> Response<Full<Bytes>> {
    let mut missing = admin.live.missing(admin.clock.now(), admin.drain.phase());
    if whole == Whole::WithApplication && admin.health.refusal().is_some() {
        missing.push("a healthy application");
    }
    let ready = missing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let application = Application::of(admin.health.standing());
    json(status, &Ready { ready, missing: &missing, control_plane: link(admin.status.link()), application })
}

impl Application {
    fn of(standing: Standing) -> Option<Self> {
        match standing {
            Standing::Unchecked => None,
            Standing::Healthy => Some(Self { healthy: true, cause: None, details: None }),
            Standing::Unhealthy(failure) => {
                Some(Self { healthy: false, cause: Some(failure.cause.name()), details: Some(failure.words) })
            }
        }
    }
}

pub(super) fn config(admin: &Admin) -> Response<Full<Bytes>> {
    let applied = admin.status.applied();
    let config = Config {
        configuration: applied.as_deref().filter(|_| admin.live.snapshot().is_some()),
        control_plane: link(admin.status.link()),
        rejected: admin.status.rejected.get(),
        reload_failures: admin.status.reload_failures.get(),
        limit_store: admin.store_status.view(admin.store, needs_store(admin)),
    };
    json(StatusCode::OK, &config)
}

fn needs_store(admin: &Admin) -> bool {
    admin.live.snapshot().as_ref().is_some_and(|snapshot| snapshot.has_mesh_limits())
}

fn watches(admin: &Admin) -> bool {
    let snapshot = admin.live.snapshot();
    let watch = snapshot.as_ref().and_then(|snapshot| snapshot.watch());
    watch.is_some_and(|repeats| repeats.duplicates.is_some())
}

pub(super) fn certificates(admin: &Admin) -> Response<Full<Bytes>> {
    let identity = admin.live.identity().as_deref().map(Certificate::of);
    json(StatusCode::OK, &Certificates { identity, renewal_failures: admin.status.renewal_failures.get() })
}

impl Certificate {
    fn of(identity: &Identity) -> Self {
        let roots =
            identity.bundle.roots.iter().map(|root| hex::encode(palisade_certs::bundle::sha256(root)));
        Self {
            id: identity.svid.id.to_string(),
            serial: identity.svid.serial.clone(),
            sha256: hex::encode(identity.svid.leaf_sha256()),
            not_before: show(identity.svid.not_before),
            not_after: show(identity.svid.not_after),
            generation: identity.generation,
            trust_domain: identity.bundle.trust_domain.to_string(),
            roots_sha256: roots.collect(),
        }
    }
}

pub(super) fn upstreams(admin: &Admin) -> Response<Full<Bytes>> {
    let views: Vec<_> = admin.upstreams.all().iter().map(|cluster| upstreams::view(cluster)).collect();
    json(StatusCode::OK, &views)
}

/// The data plane's metrics, then those of the control thread.
pub(super) fn metrics(admin: &Admin) -> String {
    let mut text = admin.telemetry.render_prometheus();
    let now = admin.clock.now();
    if let Some(identity) = admin.live.identity().as_deref() {
        let expiry = identity.svid.not_after;
        gauge(
            &mut text,
            "palisade_certificate_expiration_timestamp_seconds",
            "When the certificate in use expires.",
            unix_seconds(expiry),
        );
        gauge(
            &mut text,
            "palisade_certificate_outage_budget_seconds",
            "How long the issuer of certificates may be away from now on before this proxy refuses.",
            left(expiry, now).as_secs(),
        );
    }
    if let Some(end) = admin.certificates.earliest_end() {
        gauge(
            &mut text,
            "palisade_edge_certificate_expiration_timestamp_seconds",
            "When the first of the certificates that clients are shown expires.",
            unix_seconds(end),
        );
    }
    if let Some(applied) = admin.status.applied().as_deref() {
        gauge(&mut text, "palisade_config_version", "Version of the policies in force.", applied.version);
    }
    if admin.store || needs_store(admin) {
        gauge(
            &mut text,
            "palisade_limit_store_connected",
            "Workers with a connection to the store of rate limits that works.",
            admin.store_status.connected(),
        );
        sample(
            &mut text,
            "palisade_limit_store_connections_total",
            "Connections to the store of rate limits that worked.",
            "counter",
            admin.store_status.connections(),
        );
    }
    upstreams::metrics(&mut text, &admin.upstreams.all());
    health::metrics(&mut text, &admin.health);
    concurrency::metrics(&mut text, &admin.concurrency);
    gauge(
        &mut text,
        "palisade_duplicate_watch",
        "1 while a RetryPolicy has this proxy watch for deliveries that come twice.",
        u64::from(watches(admin)),
    );
    let missing = admin.live.missing(now, admin.drain.phase());
    gauge(&mut text, "palisade_ready", "1 when /ready says yes.", u64::from(missing.is_empty()));
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let tasks = u64::try_from(tasks).unwrap_or(u64::MAX);
    gauge(&mut text, "palisade_control_tasks", "Tasks alive on the control thread.", tasks);
    if admin.status.link() != Link::None {
        let connected = u64::from(admin.status.link() == Link::Connected);
        gauge(
            &mut text,
            "palisade_control_plane_connected",
            "1 while the stream of configuration is open.",
            connected,
        );
    }
    let counters = [
        ("palisade_config_rejected_total", "Snapshots refused.", &admin.status.rejected),
        (
            "palisade_config_reload_failures_total",
            "Changed files that could not be used.",
            &admin.status.reload_failures,
        ),
        (
            "palisade_certificate_renewal_failures_total",
            "Certificates that could not be had or used.",
            &admin.status.renewal_failures,
        ),
    ];
    for (name, help, counter) in counters {
        sample(&mut text, name, help, "counter", counter.get());
    }
    text
}

fn left(expiry: SystemTime, now: SystemTime) -> Duration {
    expiry.duration_since(now).unwrap_or_default()
}

fn gauge(text: &mut String, name: &str, help: &str, value: u64) {
    sample(text, name, help, "gauge", value);
}

fn sample(text: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

fn link(link: Link) -> &'static str {
    match link {
        Link::None => "none",
        Link::Disconnected => "disconnected",
        Link::Connected => "connected",
    }
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Full<Bytes>> {
    match serde_json::to_string(value) {
        Ok(text) => page(status, JSON, text + "\n"),
        Err(_not_json) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "cannot be shown\n".into()),
    }
}
