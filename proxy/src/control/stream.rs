//! The configuration stream: one connection of it, from Hello to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use palisade_policy::kind::peer_authentication::MtlsMode;
use palisade_policy::{Findings, Projection, Snapshot};
use palisade_proto::v1;
use palisade_proto::v1::configuration_client::ConfigurationClient;
use palisade_proto::v1::control_message::Message as Said;
use palisade_proto::v1::proxy_message::Message as Say;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::calls::{CallsTold, modes};
use super::channel;
use super::issue::{Issue, mesh_config, trust_bundle};
use super::source::Shared;
use super::state_dir::KeptSnapshot;
use crate::config::status::{Applied, Link};
use crate::drain::Phase;
use crate::health::{Health, Standing};
use crate::identity::Identity;

/// What the control plane is told beside what concerns the stream itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) calls: CallsTold<'a>,
    pub(crate) health: &'a Health,
}

/// How a stream ended.
#[derive(Debug)]
pub(super) enum End {
    /// It could not be opened, or broke off: try again later.
    Lost {
        reason: String,
        was_open: bool,
    },
    /// A newer certificate is there: open it again with that one.
    Renewed,
    Evicted(String),
    /// The control plane does not know our certificate: only attesting anew can help.
    Unknown(String),
}

/// Opens a stream with `identity` and follows it to its end.
pub(super) async fn follow<I: Issue>(shared: &Shared<I>, identity: &Identity, told: Told<'_>) -> End {
    let lost = |reason: String| End::Lost { reason, was_open: false };
    let config = match mesh_config(identity) {
        Ok(config) => config,
        Err(error) => return lost(error.to_string()),
    };
    let opening = channel::open(&shared.settings.address, config, &shared.limits, shared.clock.now());
    let (channel, local) = match opening.await {
        Ok(open) => open,
        Err(error) => return lost(format!("the control plane {} {error}", shared.settings.address)),
    };
    let (outbox, messages) = mpsc::channel(shared.limits.outbox_max);
    let hello = Say::Hello(shared.hello(shared.settings.advertise.unwrap_or(local)));
    if outbox.send(message(hello)).await.is_err() {
        return lost("the stream ended before it began".into());
    }
    let mut client =
        ConfigurationClient::new(channel).max_decoding_message_size(shared.limits.message_bytes_max);
    let opening = client.stream(ReceiverStream::new(messages));
    let incoming = match tokio::time::timeout(shared.limits.stream_open_timeout, opening).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return ended(&status, false),
        Err(_elapsed) => return lost("the control plane did not open the stream in time".into()),
    };
    shared.status.set_link(Link::Connected);
    tracing::info!(control_plane = %shared.settings.address, "connected to the control plane");
    let mut session = Session {
        shared,
        outbox,
        last: None,
        told_ready: None,
        told_draining: false,
        told,
        told_modes: Vec::new(),
    };
    let end = session.run(incoming, identity.generation).await;
    shared.live.experiments.set_heard(false);
    shared.status.set_link(Link::Disconnected);
    end
}

struct Session<'s, I> {
    shared: &'s Shared<I>,
    outbox: mpsc::Sender<v1::ProxyMessage>,
    /// The body last received on this stream, for "the same again".
    last: Option<KeptSnapshot>,
    told_ready: Option<v1::Readiness>,
    told_draining: bool,
    told: Told<'s>,
    /// The modes that the control plane was told of last.
    told_modes: Vec<(u16, Option<MtlsMode>)>,
}

impl<I: Issue> Session<'_, I> {
    async fn run(&mut self, mut incoming: tonic::Streaming<v1::ControlMessage>, generation: u64) -> End {
        let mut changes = self.shared.live.changes();
        let mut health = self.told.health.changes();
        let mut drain = self.shared.drain.clone();
        let mut generations: watch::Receiver<u64> = self.shared.generations.subscribe();
        let mut reports = tokio::time::interval(self.shared.limits.calls_interval);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if *generations.borrow_and_update() != generation {
                return End::Renewed;
            }
            if let Err(end) = self.tell().await {
                return end;
            }
            tokio::select! {
                heard = incoming.message() => match heard {
                    Ok(Some(heard)) => match self.hear(heard).await {
                        Ok(()) => {}
                        Err(end) => return end,
                    },
                    Ok(None) => return gone(),
                    Err(status) => return ended(&status, true),
                },
                _ = changes.changed() => {}
                _ = health.changed() => {}
                _ = reports.tick() => if let Err(end) = self.tell_calls(true).await {
                    return end;
                },
                _ = generations.changed() => {}
                () = drain.reached(Phase::Withdrawn), if !self.told_draining => {}
            }
        }
    }

    /// Says what changed since it was last said.
    async fn tell(&mut self) -> Result<(), End> {
        let phase = self.shared.drain.phase();
        if phase >= Phase::Withdrawn && !self.told_draining {
            self.told_draining = true;
            // The last word on who called.
            self.tell_calls(true).await?;
            return self.say(Say::Draining(v1::Draining {})).await;
        }
        let readiness = self.readiness(phase);
        if !self.told_draining && self.told_ready.as_ref() != Some(&readiness) {
            self.told_ready = Some(readiness.clone());
            self.say(Say::Readiness(readiness)).await?;
        }
        self.tell_calls(false).await
    }

    /// Whether this instance may be given to callers: we are ready, and the application is well.
    fn readiness(&self, phase: Phase) -> v1::Readiness {
        let application = match self.told.health.standing() {
            Standing::Unchecked => None,
            Standing::Healthy => Some(v1::Application { healthy: true, cause: String::new() }),
            Standing::Unhealthy(failure) => Some(v1::Application { healthy: false, cause: failure.words }),
        };
        let missing = self.shared.live.missing(self.shared.clock.now(), phase);
        let well = application.as_ref().is_none_or(|application| application.healthy);
        v1::Readiness { ready: missing.is_empty() && well, application }
    }

    /// Says who called: when it is `due`, and when a mode is another than was said.
    async fn tell_calls(&mut self, due: bool) -> Result<(), End> {
        let ports = self.shared.settings.serves.iter().map(|serve| serve.port);
        let modes = modes(ports, self.shared.live.snapshot().as_deref());
        if modes.is_empty() || !(due || modes != self.told_modes) {
            return Ok(());
        }
        self.say(Say::Calls(self.told.calls.message(&modes))).await?;
        self.told_modes = modes;
        Ok(())
    }

    async fn say(&self, say: Say) -> Result<(), End> {
        self.outbox.send(message(say)).await.map_err(|_closed| gone())
    }

    async fn hear(&mut self, heard: v1::ControlMessage) -> Result<(), End> {
        match heard.message {
            Some(Said::Snapshot(snapshot)) => {
                let (version, digest) = (snapshot.version, snapshot.digest.clone());
                let applied = self.apply(snapshot).await;
                // What is refused may have been the order to stop.
                self.shared.live.experiments.set_heard(applied.is_ok());
                let answer = match applied {
                    Ok(()) => Say::Ack(v1::Ack { version, digest }),
                    Err(findings) => {
                        self.shared.status.rejected.add_one();
                        for finding in &findings {
                            tracing::error!(
                                version, code = %finding.code, at = %finding.path,
                                "snapshot refused, the last good one stays: {}", finding.message
                            );
                        }
                        Say::Nack(v1::Nack { version, digest, findings })
                    }
                };
                self.say(answer).await
            }
            Some(Said::Bundle(bundle)) => {
                match trust_bundle(bundle) {
                    Ok(bundle) => self.shared.take_bundle(bundle),
                    Err(problem) => tracing::error!(problem, "trust bundle refused, the old one stays"),
                }
                Ok(())
            }
            Some(Said::Evicted(evicted)) => Err(End::Evicted(evicted.reason)),
            // A newer control plane may say more than we know; what matters to policy comes in snapshots.
            None => Ok(()),
        }
    }

    async fn apply(&mut self, snapshot: v1::Snapshot) -> Result<(), Vec<v1::Finding>> {
        let kept = self.whole(snapshot).map_err(|problem| vec![finding(problem)])?;
        self.last = Some(kept.clone());
        self.shared.apply(&kept)?;
        // Before the ack: what was acked is there after a restart. In order: no older one overwrites a newer.
        self.shared.keep_snapshot(kept).await;
        Ok(())
    }

    /// The snapshot with its body, which is left out when it is the one last sent.
    fn whole(&self, snapshot: v1::Snapshot) -> Result<KeptSnapshot, String> {
        let digest = <[u8; 32]>::try_from(snapshot.digest.as_slice())
            .map_err(|_length| "the digest is not one of SHA-256".to_owned())?;
        let body = match &self.last {
            Some(last) if snapshot.body.is_empty() && last.digest == digest => last.body.clone(),
            _ => snapshot.body,
        };
        Ok(KeptSnapshot { version: snapshot.version, digest, body })
    }
}

/// Checks a snapshot and makes it ready for requests.
pub(super) fn compile(
    kept: &KeptSnapshot,
    identity: &Identity,
) -> Result<(Snapshot, Applied), Vec<v1::Finding>> {
    let wrong = |problem: String| vec![finding(problem)];
    if digest(&SHA256, &kept.body).as_ref() != kept.digest {
        return Err(wrong("the digest does not fit the body".into()));
    }
    let body = v1::SnapshotBody::decode(kept.body.clone()).map_err(|error| wrong(error.to_string()))?;
    let projection = Projection::try_from(body).map_err(|error| wrong(error.to_string()))?;
    if projection.workload.id != identity.svid.id {
        return Err(wrong(format!("it is for {}, not for {}", projection.workload.id, identity.svid.id)));
    }
    let snapshot = Snapshot::compile(kept.version, &projection)
        .map_err(|Findings(findings)| findings.iter().map(v1::Finding::from).collect::<Vec<_>>())?;
    let applied = Applied::new(kept.version, &kept.digest, &projection);
    Ok((snapshot, applied))
}

fn finding(message: String) -> v1::Finding {
    v1::Finding { code: "PAL0000".into(), severity: "error".into(), message, ..v1::Finding::default() }
}

fn message(say: Say) -> v1::ProxyMessage {
    v1::ProxyMessage { message: Some(say) }
}

fn gone() -> End {
    End::Lost { reason: "the control plane ended the stream".into(), was_open: true }
}

fn ended(status: &Status, was_open: bool) -> End {
    let text = status.message().to_owned();
    match status.code() {
        Code::PermissionDenied if text.contains("evicted") => End::Evicted(text),
        Code::PermissionDenied => End::Unknown(text),
        code => End::Lost { reason: format!("the control plane ended the stream: {code}: {text}"), was_open },
    }
}

impl<I: Issue> Shared<I> {
    fn hello(&self, advertise: IpAddr) -> v1::Hello {
        let serves = self.settings.serves.iter().filter_map(|serve| {
            let bound = self.settings.addresses.inbound.get(&serve.port)?;
            let ip = if bound.ip().is_unspecified() { advertise } else { bound.ip() };
            Some(v1::ServedPort {
                number: serve.port.into(),
                name: serve.name.clone(),
                protocol: v1::Protocol::from(serve.protocol).into(),
                address: SocketAddr::new(self.settings.advertise.unwrap_or(ip), bound.port()).to_string(),
            })
        });
        let applied = self.status.applied();
        let applied = applied.as_ref();
        Self::with_names(v1::Hello {
            binary_version: env!("CARGO_PKG_VERSION").into(),
            hostname: String::new(),
            serves: serves.collect(),
            version: applied.map_or(0, |applied| applied.version),
            digest: applied.and_then(|applied| hex::decode(&applied.digest).ok()).unwrap_or_default(),
        })
    }

    /// The host's name, for `palisade proxies`; empty where the system tells none.
    fn with_names(mut hello: v1::Hello) -> v1::Hello {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        hello.hostname = name.trim().to_owned();
        hello
    }

    /// Puts a snapshot in force, or says what is wrong with it.
    pub(super) fn apply(&self, kept: &KeptSnapshot) -> Result<(), Vec<v1::Finding>> {
        let identity = self.live.identity().clone();
        let identity = identity.ok_or_else(|| vec![finding("no certificate is in force".into())])?;
        let (snapshot, applied) = compile(kept, &identity)?;
        self.live.set_snapshot(Arc::new(snapshot));
        self.status.set_applied(applied);
        tracing::info!(version = kept.version, "policy in force");
        Ok(())
    }
}
