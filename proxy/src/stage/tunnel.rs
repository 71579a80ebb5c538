//! Upgraded connections (WebSocket): tunnelled only after both sides switched, judged again on every change, and at the edge
//! ended when nobody speaks.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use palisade_policy::Snapshot;
use tokio::io::copy_bidirectional;

use crate::http::headers;
use crate::http::silence::too_long;
use crate::stage::relay::Counted;
use crate::telemetry::record::Record;
use crate::worker::Worker;

/// A caller's wish to switch protocols.
#[derive(Debug)]
pub(crate) struct Wanted {
    protocol: HeaderValue,
    caller: OnUpgrade,
}

/// When a tunnel ends at the latest. Whether it is allowed, its request's leash knows.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) expires: Option<SystemTime>,
    /// `exp` of the token that the tunnel was opened with.
    pub(crate) token_expires: Option<SystemTime>,
}

impl Wanted {
    /// Takes the wish out of a request. Only WebSocket is tunnelled, as in Envoy's default; any other is ignored, as
    /// RFC 9110 section 7.8 allows, and the request goes on without it.
    pub(crate) fn of(request: &mut Request<Incoming>) -> Option<Self> {
        if request.version() != Version::HTTP_11 {
            return None;
        }
        let protocol = headers::upgrade_of(request.headers())?;
        if !protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
            return None;
        }
        Some(Self { protocol, caller: hyper::upgrade::on(request) })
    }

    /// Puts the wish back into the request, after hop-by-hop headers were removed.
    pub(crate) fn ask(&self, headers: &mut http::HeaderMap) {
        headers.insert(UPGRADE, self.protocol.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }

    /// Starts the tunnel. The caller's side becomes ready once the 101 was written to it.
    pub(crate) fn open(self, worker: &Rc<Worker>, upstream: OnUpgrade, record: Box<Record>, ends: Ends) {
        let worker = worker.clone();
        tokio::task::spawn_local(run(worker, self.caller, upstream, record, ends));
    }
}

async fn run(
    worker: Rc<Worker>,
    caller: OnUpgrade,
    upstream: OnUpgrade,
    mut record: Box<Record>,
    ends: Ends,
) {
    let limit = worker.shared.limits.handshake_timeout;
    let switched = async { tokio::try_join!(caller, upstream) };
    let (caller, upstream) = match tokio::time::timeout(limit, switched).await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return tracing::debug!(%error, "upgrade not completed"),
        Err(_elapsed) => return tracing::debug!("upgrade not completed in time"),
    };
    let tally = record.tally.clone();
    if let Some(silence) = &tally.silence {
        silence.broken();
    }
    let mut caller = Counted::new(TokioIo::new(caller), &tally);
    let mut upstream = Counted::new(TokioIo::new(upstream), &tally);
    let (received, sent) = (caller.flow.clone(), upstream.flow.clone());
    let reason = tokio::select! {
        _ended = copy_bidirectional(&mut caller, &mut upstream) => None,
        why = tally.leash.ended() => Some(why.details()),
        () = nameless(&worker) => Some("closed_by_policy_change"),
        () = expired(ends.expires) => Some("closed_at_certificate_expiry"),
        () = expired(ends.token_expires) => Some("closed_at_token_expiry"),
        () = too_long(tally.silence.as_ref()) => {
            // It was never gRPC: nobody can be told.
            let _nothing = record.idle();
            None
        }
    };
    record.tunnel_ended(received.read.get(), sent.read.get(), reason);
}

/// Returns when we have no identity any more.
async fn nameless(worker: &Worker) {
    let mut changes = worker.shared.live.changes();
    while worker.shared.live.identity().is_some() && changes.changed().await.is_ok() {}
}

/// Returns when the policy in force allows no longer what was opened, or there is none.
pub(crate) async fn disallowed(worker: &Worker, allowed: &dyn Fn(&Snapshot) -> bool) {
    let mut changes = worker.shared.live.changes();
    loop {
        let still = worker.shared.live.snapshot().as_ref().is_some_and(|snapshot| allowed(snapshot));
        if !still || worker.shared.live.identity().is_none() || changes.changed().await.is_err() {
            return;
        }
    }
}

/// Returns at `at`; never without one.
pub(crate) async fn expired(at: Option<SystemTime>) {
    match at {
        Some(at) => {
            let left = at.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            tokio::time::sleep(left).await;
        }
        None => std::future::pending().await,
    }
}
