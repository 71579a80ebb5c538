//! One proxy's stream: sends the newest snapshot whenever it differs and there is room, takes acks and nacks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use palisade_certs::tls::Peer as PeerCertificate;
use palisade_policy::Workload;
use palisade_proto::v1;
use palisade_proto::v1::control_message::Message as Control;
use palisade_proto::v1::proxy_message::Message as Said;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Status, Streaming};

use super::calls::{self, Allowance};
use super::hello::{self, bounded};
use crate::context::Context;
use crate::peer::expired;
use crate::registry::{Answer, StopReason, StreamId};
use crate::world::World;

pub(crate) type Outgoing = Result<v1::ControlMessage, Status>;

pub(super) struct Session {
    pub(super) context: Arc<Context>,
    pub(super) instance: String,
    pub(super) workload: Workload,
    /// End of the certificate last issued to the instance; the one of this stream may end earlier.
    pub(super) svid_not_after: SystemTime,
    pub(super) certificate: PeerCertificate,
    pub(super) address: SocketAddr,
    pub(super) incoming: Streaming<v1::ProxyMessage>,
    pub(super) outgoing: mpsc::Sender<Outgoing>,
    /// What it serves, as Hello says.
    pub(super) ports: Vec<u16>,
}

/// How a stream ends.
enum End {
    /// The proxy went, or its connection broke.
    Gone,
    Status(Status),
    Evicted(String),
}

/// What was sent on this stream.
#[derive(Default)]
struct Sent {
    version: u64,
    /// Digest of the last body; none: the next snapshot carries its body.
    digest: Option<Bytes>,
    /// Since when the world that was sent last has been in force; none: measured already, or not a push (the first
    /// snapshot answers a connect).
    pending_since: Option<Instant>,
    any: bool,
}

impl Session {
    pub(super) async fn run(mut self) {
        let patience = self.context.limits.request_timeout;
        let end = self.serve().await;
        let outgoing = self.outgoing;
        let last_words = async {
            match end {
                End::Gone => {}
                End::Status(status) => drop(outgoing.send(Err(status)).await),
                End::Evicted(reason) => say_evicted(outgoing, reason).await,
            }
        };
        // A proxy that reads nothing does not keep its stream.
        let _ = tokio::time::timeout(patience, last_words).await;
    }

    async fn serve(&mut self) -> End {
        let stop = self.context.stop.clone();
        let about = tokio::select! {
            () = stop.cancelled() => return End::Status(stopping()),
            about = self.hello() => match about {
                Ok(about) => about,
                Err(status) => return End::Status(status),
            },
        };
        self.ports = about.serves.iter().map(|served| served.number).collect();
        let context = Arc::clone(&self.context);
        let now = context.clock.now();
        tracing::info!(
            peer.addr = %self.address, peer.id = %self.workload.id, instance = self.instance,
            binary.version = about.binary_version, "proxy connected"
        );
        let (stream, stopped) =
            context.registry.connect(&self.instance, &self.workload, self.svid_not_after, about, now);
        // An eviction between the look into the store and the registration left no mark in the registry.
        let end = match context.store.instance_of(&self.certificate.serial).await {
            Ok(Some(row)) if row.evicted_reason.is_some() => {
                let reason = row.evicted_reason.unwrap_or_default();
                context.registry.evict(&self.instance, &reason);
                End::Evicted(reason)
            }
            _ => self.follow(stream, stopped).await,
        };
        context.registry.disconnect(&self.instance, stream);
        tracing::info!(peer.id = %self.workload.id, instance = self.instance, "proxy disconnected");
        end
    }

    async fn hello(&mut self) -> Result<crate::registry::About, Status> {
        let first = tokio::time::timeout(self.context.limits.hello_timeout, self.incoming.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no Hello came"))??;
        match first.and_then(|m| m.message) {
            Some(Said::Hello(hello)) => hello::read(hello, &self.context.limits),
            _ => Err(Status::invalid_argument("the first message is Hello")),
        }
    }

    async fn follow(&mut self, stream: StreamId, mut stopped: watch::Receiver<Option<StopReason>>) -> End {
        let context = Arc::clone(&self.context);
        let outgoing = self.outgoing.clone();
        let mut worlds = context.hub.watch();
        let mut tick = tokio::time::interval(context.limits.certificate_check_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sent, mut due, mut reports) = (Sent::default(), true, Allowance::new());
        loop {
            tokio::select! {
                () = context.stop.cancelled() => return End::Status(stopping()),
                _ = stopped.changed() => return stop_reason(stopped.borrow().clone()),
                message = self.incoming.message() => match message {
                    Ok(Some(message)) => if let Err(status) = self.take(stream, message, &mut sent, &mut reports) {
                        return End::Status(status);
                    },
                    Ok(None) | Err(_) => return End::Gone,
                },
                changed = worlds.changed() => match changed {
                    Ok(()) => due = true,
                    Err(_) => return End::Status(stopping()),
                },
                room = outgoing.reserve(), if due => {
                    let Ok(room) = room else { return End::Gone };
                    due = false;
                    let world = Arc::clone(&worlds.borrow_and_update());
                    if let Some(message) = self.next(&world, &mut sent) {
                        context.metrics.pushes.increment();
                        room.send(Ok(message));
                    }
                }
                _ = tick.tick() => if self.certificate.not_after <= context.clock.now() {
                    return End::Status(expired());
                },
            }
        }
    }

    /// The snapshot to send for `world`; none: the proxy was sent exactly this already.
    fn next(&self, world: &World, sent: &mut Sent) -> Option<v1::ControlMessage> {
        let encoded = world.encoded(&self.workload);
        let same_body = sent.digest.as_ref() == Some(&encoded.digest);
        if sent.any && same_body && sent.version == world.version {
            return None;
        }
        let body = if same_body { Bytes::new() } else { encoded.body };
        sent.pending_since = sent.any.then_some(world.since);
        sent.any = true;
        sent.version = world.version;
        sent.digest = Some(encoded.digest.clone());
        let snapshot = v1::Snapshot { version: world.version, digest: encoded.digest.to_vec(), body };
        Some(v1::ControlMessage { message: Some(Control::Snapshot(snapshot)) })
    }

    fn take(
        &self,
        stream: StreamId,
        message: v1::ProxyMessage,
        sent: &mut Sent,
        reports: &mut Allowance,
    ) -> Result<(), Status> {
        let registry = &self.context.registry;
        match message.message {
            Some(Said::Ack(ack)) => self.answered(stream, sent, ack.version, &ack.digest, None),
            Some(Said::Nack(nack)) => {
                self.answered(stream, sent, nack.version, &nack.digest, Some(nack.findings))
            }
            Some(Said::Readiness(v1::Readiness { ready, application })) => {
                let text_max = self.context.limits.proxy_text_bytes_max;
                let application =
                    application.map(|a| v1::Application { cause: bounded(a.cause, text_max), ..a });
                let about = application.clone().unwrap_or_default();
                if registry.set_ready(&self.instance, stream, ready, application) {
                    let v1::Application { healthy, cause } = about;
                    tracing::info!(
                        peer.id = %self.workload.id, instance = self.instance, healthy, cause, "application's health"
                    );
                }
                Ok(())
            }
            Some(Said::Draining(_)) => {
                registry.drain(&self.instance, stream);
                Ok(())
            }
            Some(Said::Calls(calls)) => {
                if reports.take(&self.context.limits) {
                    let calls = calls::read(calls, &self.ports, &self.context.limits)?;
                    registry.called(&self.instance, stream, calls);
                }
                Ok(())
            }
            Some(Said::Hello(_)) => Err(Status::invalid_argument("Hello is sent once")),
            // A newer proxy may say more than we know.
            None => Ok(()),
        }
    }

    fn answered(
        &self,
        stream: StreamId,
        sent: &mut Sent,
        version: u64,
        digest: &[u8],
        refused: Option<Vec<v1::Finding>>,
    ) -> Result<(), Status> {
        if !sent.any || version > sent.version {
            return Err(Status::invalid_argument("an answer to a snapshot that was not sent"));
        }
        let newest = version == sent.version && sent.digest.as_deref() == Some(digest);
        let metrics = &self.context.metrics;
        if refused.is_some() {
            metrics.nacks.increment();
            // It may not have kept the body: the next snapshot brings its own.
            sent.digest = None;
            tracing::warn!(peer.id = %self.workload.id, instance = self.instance, policy.version = version, "nack");
        } else {
            metrics.acks.increment();
            if let Some(since) = sent.pending_since.take_if(|_| newest) {
                metrics.observe_push(since.elapsed());
            }
        }
        let limits = &self.context.limits;
        let refused = refused.map(|findings| {
            let kept = findings.into_iter().take(limits.nack_findings_max);
            kept.map(|f| bounded_finding(f, limits.proxy_text_bytes_max)).collect()
        });
        let answer = Answer {
            version,
            digest: digest.iter().copied().take(64).collect(),
            at: Instant::now(),
            refused,
        };
        self.context.registry.answer(&self.instance, stream, answer);
        Ok(())
    }
}

/// Tells a proxy that it was evicted, then ends its stream.
pub(super) async fn say_evicted(outgoing: mpsc::Sender<Outgoing>, reason: String) {
    let message = Control::Evicted(v1::Evicted { reason });
    if outgoing.send(Ok(v1::ControlMessage { message: Some(message) })).await.is_ok() {
        let _ = outgoing.send(Err(Status::permission_denied("this instance was evicted"))).await;
    }
}

fn stop_reason(reason: Option<StopReason>) -> End {
    match reason {
        Some(StopReason::Evicted(reason)) => End::Evicted(reason),
        Some(StopReason::Replaced) | None => {
            End::Status(Status::aborted("the same instance has opened another stream"))
        }
    }
}

fn stopping() -> Status {
    Status::unavailable("the control plane is stopping; connect again")
}

fn bounded_finding(finding: v1::Finding, bytes_max: usize) -> v1::Finding {
    v1::Finding {
        code: bounded(finding.code, bytes_max),
        severity: bounded(finding.severity, bytes_max),
        file: bounded(finding.file, bytes_max),
        object: bounded(finding.object, bytes_max),
        path: bounded(finding.path, bytes_max),
        message: bounded(finding.message, bytes_max),
        help: bounded(finding.help, bytes_max),
        line: finding.line,
        column: finding.column,
    }
}
