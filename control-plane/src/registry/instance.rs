//! One instance and the states it goes through.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use palisade_policy::Workload;
use palisade_policy::kind::service_entry::Protocol;
use palisade_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Calls, StreamId};
use crate::clock::{rfc3339, to_seconds};

/// What a proxy tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) binary_version: String,
    pub(crate) hostname: String,
    pub(crate) serves: Vec<Served>,
}

/// A port of a service, and where this instance takes mutual TLS for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Served {
    pub(crate) number: u16,
    pub(crate) name: String,
    #[serde(with = "protocol_name")]
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
}

/// Why a stream must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The same instance has opened another one.
    Replaced,
    Evicted(String),
}

/// What a proxy said to a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) version: u64,
    pub(crate) digest: Vec<u8>,
    pub(crate) at: Instant,
    /// Findings of a nack; none: it was an ack.
    pub(crate) refused: Option<Vec<v1::Finding>>,
}

#[derive(Debug)]
pub(super) enum Presence {
    Connected {
        stream: StreamId,
        since: SystemTime,
        stop: watch::Sender<Option<StopReason>>,
    },
    /// Endpoints stay published until then.
    Away {
        until: Option<Instant>,
    },
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(super) workload: Workload,
    /// End of the certificate last issued to it.
    pub(super) not_after: SystemTime,
    pub(super) serves: Vec<Served>,
    pub(super) presence: Presence,
    pub(super) answer: Option<Answer>,
    /// Who called it, as its sidecar said last. Stays when it goes away, until it is forgotten.
    pub(super) calls: Option<Calls>,
    about: About,
    ready: bool,
    /// What its health check says, where it has one; for operators.
    application: Option<v1::Application>,
    draining: bool,
    /// A reconnected instance counts as ready as it was; it must say so again until then.
    confirm_by: Option<Instant>,
    acked: Option<(u64, Vec<u8>)>,
}

impl Instance {
    pub(super) fn new(workload: Workload, not_after: SystemTime) -> Self {
        Self {
            workload,
            not_after,
            serves: Vec::new(),
            presence: Presence::Away { until: None },
            answer: None,
            calls: None,
            about: About::default(),
            ready: false,
            application: None,
            draining: false,
            confirm_by: None,
            acked: None,
        }
    }

    /// One that was published when the control plane stopped.
    pub(super) fn remembered(
        workload: Workload,
        not_after: SystemTime,
        serves: Vec<Served>,
        until: Instant,
    ) -> Self {
        let ready = !serves.is_empty();
        let presence = Presence::Away { until: ready.then_some(until) };
        Self { serves, ready, presence, ..Self::new(workload, not_after) }
    }

    pub(super) fn connect(
        &mut self,
        stream: StreamId,
        about: About,
        now: SystemTime,
        confirm_by: Instant,
    ) -> watch::Receiver<Option<StopReason>> {
        let was_published = self.is_published();
        if let Presence::Connected { stop, .. } = &self.presence {
            stop.send_replace(Some(StopReason::Replaced));
        }
        let (stop, stopped) = watch::channel(None);
        self.presence = Presence::Connected { stream, since: now, stop };
        self.ready = was_published && about.serves == self.serves;
        self.confirm_by = self.ready.then_some(confirm_by);
        self.draining = false;
        self.application = None;
        self.serves.clone_from(&about.serves);
        self.about = about;
        stopped
    }

    pub(super) fn set_ready(&mut self, ready: bool) {
        self.ready = ready && !self.draining;
        self.confirm_by = None;
    }

    /// `true`: its health turned.
    pub(super) fn set_application(&mut self, application: Option<v1::Application>) -> bool {
        let healthy = |of: &Option<v1::Application>| of.as_ref().map(|application| application.healthy);
        let before = std::mem::replace(&mut self.application, application);
        healthy(&before) != healthy(&self.application)
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.set_ready(false);
    }

    /// Applies the deadlines that have passed.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.confirm_by.is_some_and(|by| by <= now) {
            self.set_ready(false);
        }
        if let Presence::Away { until } = &mut self.presence
            && until.is_some_and(|until| until <= now)
        {
            *until = None;
            self.ready = false;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.presence {
            Presence::Connected { .. } => self.confirm_by,
            Presence::Away { until } => *until,
        }
    }

    pub(super) fn take_answer(&mut self, answer: Answer) {
        if answer.refused.is_none() {
            self.acked = Some((answer.version, answer.digest.clone()));
        }
        self.answer = Some(answer);
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.presence, Presence::Connected { .. })
    }

    pub(super) fn is_published(&self) -> bool {
        let here = match &self.presence {
            Presence::Connected { .. } => true,
            Presence::Away { until } => until.is_some(),
        };
        here && self.ready && !self.serves.is_empty()
    }

    /// Its application fails its health check.
    pub(super) fn is_unhealthy(&self) -> bool {
        self.is_connected() && self.application.as_ref().is_some_and(|application| !application.healthy)
    }

    pub(super) fn stream(&self) -> Option<StreamId> {
        match &self.presence {
            Presence::Connected { stream, .. } => Some(*stream),
            Presence::Away { .. } => None,
        }
    }

    pub(super) fn describe(&self, id: &str) -> v1::Proxy {
        let (acked_version, acked_digest) = self.acked.clone().unwrap_or_default();
        let nacked = self.answer.as_ref().and_then(|a| a.refused.clone()).unwrap_or_default();
        let connected_since = match &self.presence {
            Presence::Connected { since, .. } => rfc3339(to_seconds(*since)),
            Presence::Away { .. } => String::new(),
        };
        v1::Proxy {
            instance_id: id.to_owned(),
            spiffe_id: self.workload.id.to_string(),
            labels: self.workload.labels.clone(),
            connected: self.is_connected(),
            ready: self.is_connected() && self.ready,
            acked_version,
            acked_digest: hex::encode(acked_digest),
            nacked,
            serves: self.serves.iter().map(Served::to_wire).collect(),
            binary_version: self.about.binary_version.clone(),
            hostname: self.about.hostname.clone(),
            connected_since,
            svid_not_after: rfc3339(to_seconds(self.not_after)),
            application: self.application.clone().filter(|_| self.is_connected()),
        }
    }

    pub(super) fn addresses(&self) -> BTreeMap<u16, SocketAddr> {
        self.serves.iter().map(|s| (s.number, s.address)).collect()
    }
}

impl Served {
    fn to_wire(&self) -> v1::ServedPort {
        let protocol = match self.protocol {
            Protocol::Http => v1::Protocol::Http,
            Protocol::Http2 => v1::Protocol::Http2,
            Protocol::Grpc => v1::Protocol::Grpc,
            Protocol::Tcp => v1::Protocol::Tcp,
        };
        v1::ServedPort {
            number: u32::from(self.number),
            name: self.name.clone(),
            protocol: protocol.into(),
            address: self.address.to_string(),
        }
    }
}

/// Protocols as the store spells them.
mod protocol_name {
    use palisade_policy::kind::service_entry::Protocol;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match protocol {
            Protocol::Http => "http",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
            Protocol::Tcp => "tcp",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "http" => Ok(Protocol::Http),
            "http2" => Ok(Protocol::Http2),
            "grpc" => Ok(Protocol::Grpc),
            "tcp" => Ok(Protocol::Tcp),
            other => Err(D::Error::custom(format!("unknown protocol {other:?}"))),
        }
    }
}
