//! Connections kept between requests: one pool per worker, no locks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hashbrown::HashMap;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connect::{ConnectError, Key, Security, Wire, connect};
use crate::http::body::RequestBody;
use crate::http::coalesce::Coalesced;
use crate::http::codec;
use crate::http::framing::{Guarded, Turn};
use crate::identity::Identity;
use crate::settings::limits::Limits;
use crate::stage::revoked::revoked;
use crate::worker::Worker;

type Request = http::Request<RequestBody>;
type Response = http::Response<Incoming>;

/// One worker's upstream connections.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    sets: RefCell<HashMap<Key, Rc<Set>>>,
}

/// The connections of one key.
#[derive(Debug)]
struct Set {
    key: Key,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Shared>>>,
    /// One HTTP/2 connection attempt at a time; the others wait for its outcome.
    connecting: Mutex<()>,
    /// The last failed attempt, for those who waited for it.
    failed: RefCell<Option<(Instant, ConnectError)>>,
    used: Cell<Instant>,
    idle_connections_max: usize,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    turn: Turn,
    server: Option<Rc<str>>,
    since: Instant,
}

/// An HTTP/2 connection that many requests use.
#[derive(Debug)]
struct Shared {
    sender: RefCell<http2::SendRequest<RequestBody>>,
    streams: Cell<usize>,
    server: Option<Rc<str>>,
}

/// The use of a connection for one request. Lives until the response has ended.
#[derive(Debug)]
pub(crate) struct Lease(Inner);

#[derive(Debug)]
enum Inner {
    Http1 {
        sender: http1::SendRequest<RequestBody>,
        /// Tells the connection's reader of framing when a response may come.
        turn: Turn,
        server: Option<Rc<str>>,
        set: Rc<Set>,
        reused: bool,
    },
    Http2(Stream),
}

/// A stream's place among those of its connection; given back when dropped.
#[derive(Debug)]
struct Stream(Rc<Shared>);

impl Stream {
    fn on(shared: &Rc<Shared>) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        Self(shared.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
    }
}

impl Pool {
    /// A connection for one request: one that is kept, or a new one.
    /// `identity` is ours, for mesh connections.
    pub(crate) async fn lease(
        &self,
        worker: &Rc<Worker>,
        key: Key,
        identity: Option<&Identity>,
    ) -> Result<Lease, ConnectError> {
        let set = self.set(worker, key);
        match set.key.wire {
            Wire::Http1 => set.lease_http1(worker, identity).await,
            Wire::Http2 => set.lease_http2(worker, identity).await,
        }
    }

    fn set(&self, worker: &Worker, key: Key) -> Rc<Set> {
        let mut sets = self.sets.borrow_mut();
        if let Some(set) = sets.get(&key) {
            return set.clone();
        }
        let set = Rc::new(Set {
            key: key.clone(),
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: Mutex::default(),
            failed: RefCell::default(),
            used: Cell::new(Instant::now()),
            idle_connections_max: worker.shared.limits.idle_connections_max,
        });
        sets.insert(key, set.clone());
        set
    }

    /// Lets go of what nobody will ask for again: connections of another generation of our identity, closed ones,
    /// and those idle for too long. Streams in flight end first: hyper closes a connection when its last sender and
    /// its last stream are gone.
    pub(crate) fn tidy(&self, generation: Option<u64>, limits: &Limits) {
        let now = Instant::now();
        self.sets.borrow_mut().retain(|key, set| {
            if let Security::Mesh { generation: of, .. } = &key.security
                && generation != Some(*of)
            {
                return false;
            }
            let fresh = |since: Instant| now.duration_since(since) < limits.idle_timeout;
            set.idle.borrow_mut().retain(|idle| !idle.sender.is_closed() && fresh(idle.since));
            let in_use = fresh(set.used.get());
            set.shared
                .borrow_mut()
                .retain(|shared| !shared.sender.borrow().is_closed() && (in_use || shared.streams.get() > 0));
            in_use || !set.idle.borrow().is_empty() || !set.shared.borrow().is_empty()
        });
    }
}

impl Set {
    async fn lease_http1(
        self: Rc<Self>,
        worker: &Rc<Worker>,
        identity: Option<&Identity>,
    ) -> Result<Lease, ConnectError> {
        self.used.set(Instant::now());
        while let Some(idle) = self.pop_ready() {
            if !idle.sender.is_closed() {
                let Idle { sender, turn, server, .. } = idle;
                return Ok(Lease(Inner::Http1 { sender, turn, server, set: self, reused: true }));
            }
        }
        self.open_http1(worker, identity).await
    }

    /// The youngest idle connection: the one least likely to be closed by its peer.
    fn pop_ready(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let index = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.swap_remove(index))
    }

    async fn open_http1(
        self: Rc<Self>,
        worker: &Rc<Worker>,
        identity: Option<&Identity>,
    ) -> Result<Lease, ConnectError> {
        let transport = connect(worker, &self.key, identity).await?;
        let server = transport.peer_serial();
        let turn = Turn::default();
        let (mut sender, connection) = codec::client_http1(&worker.shared.limits)
            .handshake(TokioIo::new(Guarded::responses(transport, turn.clone())))
            .await
            .map_err(|error| ConnectError::Protocol(error.into()))?;
        // Upgrades need hyper to keep the socket after a 101.
        OpenConnection::count(worker).run(connection.with_upgrades(), server.clone());
        sender.ready().await.map_err(|error| ConnectError::Protocol(error.into()))?;
        Ok(Lease(Inner::Http1 { sender, turn, server, set: self, reused: false }))
    }

    async fn lease_http2(
        &self,
        worker: &Rc<Worker>,
        identity: Option<&Identity>,
    ) -> Result<Lease, ConnectError> {
        let asked = Instant::now();
        self.used.set(asked);
        if let Some(stream) = self.stream(worker) {
            return Ok(Lease(Inner::Http2(stream)));
        }
        let _only_one = self.connecting.lock().await;
        if let Some(stream) = self.stream(worker) {
            return Ok(Lease(Inner::Http2(stream)));
        }
        if let Some((at, error)) = &*self.failed.borrow()
            && *at > asked
        {
            return Err(error.clone());
        }
        match self.open_http2(worker, identity).await {
            Ok(stream) => Ok(Lease(Inner::Http2(stream))),
            Err(error) => {
                *self.failed.borrow_mut() = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// A place on the connection with the fewest streams. A full one is used only when no more may be opened: the
    /// codec queues then.
    fn stream(&self, worker: &Worker) -> Option<Stream> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.sender.borrow().is_closed());
        let least = shared.iter().min_by_key(|shared| shared.streams.get())?;
        let limits = &worker.shared.limits;
        let full = least.streams.get() >= usize::try_from(limits.streams_max).unwrap_or(usize::MAX);
        if full && shared.len() < limits.http2_connections_max {
            return None;
        }
        Some(Stream::on(least))
    }

    async fn open_http2(
        &self,
        worker: &Rc<Worker>,
        identity: Option<&Identity>,
    ) -> Result<Stream, ConnectError> {
        let transport = connect(worker, &self.key, identity).await?;
        let server = transport.peer_serial();
        let (sender, connection) = codec::client_http2(&worker.shared.limits)
            .handshake(TokioIo::new(Coalesced::new(transport)))
            .await
            .map_err(|error| ConnectError::Protocol(error.into()))?;
        OpenConnection::count(worker).run(connection, server.clone());
        let shared = Rc::new(Shared { sender: RefCell::new(sender), streams: Cell::new(0), server });
        let stream = Stream::on(&shared);
        self.shared.borrow_mut().push(shared);
        Ok(stream)
    }
}

impl Lease {
    /// Sends the request. On an error before its first byte left, the error holds it, and it may be sent elsewhere.
    pub(crate) async fn send(&mut self, request: Request) -> Result<Response, TrySendError<Request>> {
        match &mut self.0 {
            Inner::Http1 { sender, turn, .. } => {
                turn.ask(request.method() == http::Method::HEAD);
                sender.try_send_request(request).await
            }
            Inner::Http2(stream) => {
                let sending = stream.0.sender.borrow_mut().try_send_request(request);
                sending.await
            }
        }
    }

    /// Whether the connection had served before: then its peer may have closed it at the very moment of use.
    pub(crate) fn is_reused(&self) -> bool {
        match &self.0 {
            Inner::Http1 { reused, .. } => *reused,
            Inner::Http2(_) => true,
        }
    }

    /// The serial number of the certificate that the server showed, in the mesh.
    pub(crate) fn server(&self) -> Option<Rc<str>> {
        match &self.0 {
            Inner::Http1 { server, .. } => server.clone(),
            Inner::Http2(stream) => stream.0.server.clone(),
        }
    }

    /// After the response has ended: keeps the connection for the next request.
    pub(crate) fn give_back(self) {
        if let Inner::Http1 { sender, turn, server, set, .. } = self.0
            && !sender.is_closed()
        {
            let mut idle = set.idle.borrow_mut();
            if idle.len() < set.idle_connections_max {
                idle.push(Idle { sender, turn, server, since: Instant::now() });
            }
        }
    }
}

/// An upstream connection in the metrics.
struct OpenConnection(Rc<Worker>);

impl OpenConnection {
    fn count(worker: &Rc<Worker>) -> Self {
        worker.telemetry.count(|shard| shard.upstream_connections += 1);
        Self(worker.clone())
    }

    /// Keeps the connection going until it ends, or its server's certificate is void. Requests under way on it are ended by
    /// their leashes, and HTTP/2 closes it after the last of them.
    fn run(self, connection: impl Future<Output = hyper::Result<()>> + 'static, server: Option<Rc<str>>) {
        tokio::task::spawn_local(async move {
            tokio::select! {
                _closed = connection => {}
                () = revoked(&self.0, server.as_deref()) => {}
            }
        });
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.telemetry.count(|shard| shard.upstream_connections_closed += 1);
    }
}
