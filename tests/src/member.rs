//! A workload that joined without a proxy process: a test speaks for it.

use palisade_certs::Svid;
use palisade_certs::csr::PendingKey;
use palisade_proto::v1;
use palisade_proto::v1::control_message::Message as Control;
use palisade_proto::v1::proxy_message::Message as Said;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::grpc::{attest_request, svid_of};
use crate::wait::DEADLINE;
use crate::world::World;

#[expect(missing_debug_implementations, reason = "it holds a key")]
pub struct Member {
    pub svid: Svid,
    pub instance: String,
}

/// A configuration stream that a test drives by hand.
#[derive(Debug)]
pub struct Stream {
    say: mpsc::Sender<v1::ProxyMessage>,
    hear: Streaming<v1::ControlMessage>,
}

/// A served port as Hello tells it.
pub fn http_port(address: &str) -> v1::ServedPort {
    v1::ServedPort {
        number: 8080,
        name: "http".into(),
        protocol: v1::Protocol::Http.into(),
        address: address.into(),
    }
}

impl World {
    /// Joins as `<namespace>/<service account>`.
    pub async fn join(&self, workload: &str) -> Member {
        let key = PendingKey::generate().unwrap();
        let request = attest_request(&self.token(workload, &[]).await, &key.csr_der().unwrap());
        let answer = self.identity(None).await.attest(request).await.unwrap().into_inner();
        Member { instance: answer.instance_id.clone(), svid: svid_of(answer, &key) }
    }

    pub async fn renew(&self, member: &Member) -> Result<v1::IssueResponse, Status> {
        let csr_der = PendingKey::generate().unwrap().csr_der().unwrap();
        let mut identity = self.identity(Some(&member.svid)).await;
        identity.renew(v1::RenewRequest { csr_der }).await.map(tonic::Response::into_inner)
    }

    /// Opens a stream and says what the member serves.
    pub async fn stream(&self, member: &Member, serves: Vec<v1::ServedPort>) -> Result<Stream, Status> {
        let (say, said) = mpsc::channel(8);
        let hello = v1::Hello { binary_version: "test".into(), serves, ..v1::Hello::default() };
        say.send(v1::ProxyMessage { message: Some(Said::Hello(hello)) }).await.unwrap();
        let mut client = self.configuration(Some(&member.svid)).await;
        let hear = client.stream(ReceiverStream::new(said)).await?.into_inner();
        Ok(Stream { say, hear })
    }

    /// Publishes an endpoint, for as long as the stream is kept.
    pub async fn publish(&self, member: &Member, address: &str) -> Stream {
        let mut stream = self.stream(member, vec![http_port(address)]).await.unwrap();
        stream.snapshot().await;
        stream.send(Said::Readiness(v1::Readiness { ready: true, application: None })).await;
        stream
    }
}

impl Stream {
    pub async fn send(&self, message: Said) {
        self.say.send(v1::ProxyMessage { message: Some(message) }).await.unwrap();
    }

    /// The next message, or how the stream ended.
    pub async fn next(&mut self) -> Result<Control, Status> {
        let next = timeout(DEADLINE, self.hear.message()).await.expect("a message in time")?;
        Ok(next.ok_or_else(|| Status::cancelled("the stream ended"))?.message.expect("a known message"))
    }

    /// The next snapshot; acked.
    pub async fn snapshot(&mut self) -> v1::Snapshot {
        loop {
            if let Control::Snapshot(snapshot) = self.next().await.unwrap() {
                let ack = v1::Ack { version: snapshot.version, digest: snapshot.digest.clone() };
                self.send(Said::Ack(ack)).await;
                return snapshot;
            }
        }
    }
}
