//! Connections kept between requests: one pool per worker, no locks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use palisade_policy::traffic::PoolBounds;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::cluster::{Cluster, Held};
use super::connect::{ConnectError, Key, Security, Wire, connect};
use crate::http::body::RequestBody;
use crate::http::coalesce::Coalesced;
use crate::http::codec;
use crate::http::framing::{Guarded, Turn};
use crate::identity::Identity;
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
    idle_timeout: Cell<Duration>,
    /// This worker's connections.
    open: Rc<Cell<usize>>,
    /// Tells whoever waits that a connection is idle, or gone.
    freed: Rc<Notify>,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Instant,
}

/// An HTTP/1.1 connection, for one request at a time.
#[derive(Debug)]
struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    /// Tells the connection's reader of framing when a response may come.
    turn: Turn,
    server: Option<Rc<str>>,
    age: Age,
}

/// How old a connection is, and how many requests it has served.
#[derive(Debug)]
struct Age {
    since: Instant,
    served: Cell<u32>,
}

impl Age {
    fn new() -> Self {
        Self { since: Instant::now(), served: Cell::default() }
    }

    /// One more request; whether it may have it.
    fn serve(&self, bounds: &PoolBounds) -> bool {
        self.served.set(self.served.get().saturating_add(1));
        bounds.max_requests_per_connection.is_none_or(|max| self.served.get() <= max.max(1))
            && bounds.max_connection_duration.is_none_or(|max| self.since.elapsed() < max)
    }
}

/// For whom a connection is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    /// Ours, for mesh connections.
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) bounds: &'a PoolBounds,
    /// Where connections are counted; `None` to the application.
    pub(crate) cluster: Option<&'a Arc<Cluster>>,
    /// When nobody waits for it any more.
    pub(crate) until: Option<Instant>,
}

/// An HTTP/2 connection that many requests use.
#[derive(Debug)]
struct Shared {
    sender: RefCell<http2::SendRequest<RequestBody>>,
    streams: Cell<usize>,
    server: Option<Rc<str>>,
    age: Age,
}

/// The use of a connection for one request. Lives until the response has ended.
#[derive(Debug)]
pub(crate) struct Lease(Inner);

#[derive(Debug)]
enum Inner {
    Http1 { connection: Http1, set: Rc<Set>, reused: bool },
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
    pub(crate) async fn lease(&self, asking: Asking<'_>, key: Key) -> Result<Lease, ConnectError> {
        let set = self.set(asking.worker, key);
        if let Some(timeout) = asking.bounds.idle_timeout {
            set.idle_timeout.set(timeout);
        }
        let leasing = async {
            match set.key.wire {
                Wire::Http1 => set.lease_http1(asking).await,
                Wire::Http2 => set.lease_http2(asking).await,
            }
        };
        match asking.until {
            Some(until) => {
                tokio::time::timeout_at(until, leasing).await.unwrap_or(Err(ConnectError::Timeout))
            }
            None => leasing.await,
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
            idle_timeout: Cell::new(worker.shared.limits.idle_timeout),
            open: Rc::default(),
            freed: Rc::default(),
        });
        sets.insert(key, set.clone());
        set
    }

    /// Lets go of what nobody will ask for again: connections of another generation of our identity, closed ones,
    /// and those idle for too long. Streams in flight end first: hyper closes a connection when its last sender and
    /// its last stream are gone.
    pub(crate) fn tidy(&self, generation: Option<u64>) {
        let now = Instant::now();
        self.sets.borrow_mut().retain(|key, set| {
            if let Security::Mesh { generation: of, .. } = &key.security
                && generation != Some(*of)
            {
                return false;
            }
            let fresh = |since: Instant| now.duration_since(since) < set.idle_timeout.get();
            set.idle.borrow_mut().retain(|idle| !idle.connection.sender.is_closed() && fresh(idle.since));
            let in_use = fresh(set.used.get());
            set.shared
                .borrow_mut()
                .retain(|shared| !shared.sender.borrow().is_closed() && (in_use || shared.streams.get() > 0));
            in_use || !set.idle.borrow().is_empty() || !set.shared.borrow().is_empty()
        });
    }
}

impl Set {
    async fn lease_http1(self: Rc<Self>, asking: Asking<'_>) -> Result<Lease, ConnectError> {
        self.used.set(Instant::now());
        if let Some(connection) = self.pop(asking.bounds) {
            return Ok(Lease(Inner::Http1 { connection, set: self, reused: true }));
        }
        let _waiting = asking.wait()?;
        match self.take_place(asking) {
            Ok(place) => self.open_http1(asking, place).await,
            Err(full) => {
                let waited = tokio::time::timeout_at(asking.patience(), self.freed_http1(asking)).await;
                match waited.map_err(|_elapsed| full)? {
                    Freed::Idle(connection) => {
                        Ok(Lease(Inner::Http1 { connection, set: self, reused: true }))
                    }
                    Freed::Place(place) => self.open_http1(asking, place).await,
                }
            }
        }
    }

    /// Waits until one of this worker's connections is idle, or gone.
    async fn freed_http1(&self, asking: Asking<'_>) -> Freed {
        loop {
            self.freed.notified().await;
            if let Some(connection) = self.pop(asking.bounds) {
                return Freed::Idle(connection);
            }
            if let Ok(place) = self.take_place(asking) {
                return Freed::Place(place);
            }
        }
    }

    /// The youngest idle connection that may serve one more request: the one least likely to be closed by its peer.
    fn pop(&self, bounds: &PoolBounds) -> Option<Http1> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let index = idle.iter().rposition(|idle| idle.connection.sender.is_ready())?;
            let Idle { connection, .. } = idle.swap_remove(index);
            if !connection.sender.is_closed() && connection.age.serve(bounds) {
                return Some(connection);
            }
        }
    }

    fn take_place(&self, asking: Asking<'_>) -> Result<Open, ConnectError> {
        let only = self.open.get() == 0;
        let held = asking.cluster.map(|cluster| cluster.enter_connection(asking.bounds, only));
        let held = held.transpose().map_err(ConnectError::Overflow)?;
        Ok(Open::count(asking.worker, held, self))
    }

    async fn open_http1(self: Rc<Self>, asking: Asking<'_>, place: Open) -> Result<Lease, ConnectError> {
        let transport = connect(asking.worker, &self.key, asking.identity, asking.bounds).await?;
        let server = transport.peer_serial();
        let turn = Turn::default();
        let (mut sender, connection) = codec::client_http1(&asking.worker.shared.limits)
            .handshake(TokioIo::new(Guarded::responses(transport, turn.clone())))
            .await
            .map_err(|error| ConnectError::Protocol(error.into()))?;
        // Upgrades need hyper to keep the socket after a 101.
        place.run(connection.with_upgrades(), server.clone());
        sender.ready().await.map_err(|error| ConnectError::Protocol(error.into()))?;
        let age = Age::new();
        age.serve(asking.bounds);
        let connection = Http1 { sender, turn, server, age };
        Ok(Lease(Inner::Http1 { connection, set: self, reused: false }))
    }

    async fn lease_http2(&self, asking: Asking<'_>) -> Result<Lease, ConnectError> {
        let asked = Instant::now();
        self.used.set(asked);
        if let Some(stream) = self.stream(asking) {
            return Ok(Lease(Inner::Http2(stream)));
        }
        let _waiting = asking.wait()?;
        let _only_one = self.connecting.lock().await;
        if let Some(stream) = self.stream(asking) {
            return Ok(Lease(Inner::Http2(stream)));
        }
        if let Some((at, error)) = &*self.failed.borrow()
            && *at > asked
        {
            return Err(error.clone());
        }
        match self.open_http2(asking).await {
            Ok(stream) => Ok(Lease(Inner::Http2(stream))),
            // The connections that there are have to do.
            Err(ConnectError::Overflow(overflow)) => {
                let least =
                    self.shared.borrow().iter().min_by_key(|shared| shared.streams.get()).map(Stream::on);
                least.map(|stream| Lease(Inner::Http2(stream))).ok_or(ConnectError::Overflow(overflow))
            }
            Err(error) => {
                *self.failed.borrow_mut() = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// A place on the connection with the fewest streams. A full one is used only when no more may be opened: the
    /// codec queues then, as many as the destination's bound on requests allows.
    fn stream(&self, asking: Asking<'_>) -> Option<Stream> {
        let limits = &asking.worker.shared.limits;
        let streams_max = asking.bounds.max_concurrent_streams.unwrap_or(limits.streams_max);
        let streams_max = usize::try_from(streams_max).unwrap_or(usize::MAX);
        let mut shared = self.shared.borrow_mut();
        loop {
            shared.retain(|shared| !shared.sender.borrow().is_closed());
            let least = shared.iter().min_by_key(|shared| shared.streams.get())?;
            if least.streams.get() >= streams_max && shared.len() < limits.http2_connections_max {
                return None;
            }
            if least.age.serve(asking.bounds) {
                return Some(Stream::on(least));
            }
            // It ends after its last stream.
            let spent = least.clone();
            shared.retain(|shared| !Rc::ptr_eq(shared, &spent));
        }
    }

    async fn open_http2(&self, asking: Asking<'_>) -> Result<Stream, ConnectError> {
        let place = self.take_place(asking)?;
        let transport = connect(asking.worker, &self.key, asking.identity, asking.bounds).await?;
        let server = transport.peer_serial();
        let (sender, connection) = codec::client_http2(&asking.worker.shared.limits)
            .handshake(TokioIo::new(Coalesced::new(transport)))
            .await
            .map_err(|error| ConnectError::Protocol(error.into()))?;
        place.run(connection, server.clone());
        let age = Age::new();
        age.serve(asking.bounds);
        let shared = Rc::new(Shared { sender: RefCell::new(sender), streams: Cell::new(0), server, age });
        let stream = Stream::on(&shared);
        self.shared.borrow_mut().push(shared);
        Ok(stream)
    }
}

/// What somebody who waited got.
enum Freed {
    Idle(Http1),
    Place(Open),
}

impl Asking<'_> {
    /// A place among those who wait for a connection.
    fn wait(&self) -> Result<Option<Held>, ConnectError> {
        let waiting = self.cluster.map(|cluster| cluster.enter_pending(self.bounds));
        waiting.transpose().map_err(ConnectError::Overflow)
    }

    /// Until when it waits for a place to open a connection in.
    fn patience(&self) -> Instant {
        let timeout = self.bounds.connect_timeout.unwrap_or(self.worker.shared.limits.connect_timeout);
        let connecting = Instant::now() + timeout;
        self.until.map_or(connecting, |until| until.min(connecting))
    }
}

impl Lease {
    /// Sends the request. On an error before its first byte left, the error holds it, and it may be sent elsewhere.
    pub(crate) async fn send(&mut self, request: Request) -> Result<Response, TrySendError<Request>> {
        match &mut self.0 {
            Inner::Http1 { connection, .. } => {
                connection.turn.ask(request.method() == http::Method::HEAD);
                connection.sender.try_send_request(request).await
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

    /// It waits a while for its request: from now on its peer may close it as it may any that is kept.
    pub(crate) fn rests(&mut self) {
        if let Inner::Http1 { reused, .. } = &mut self.0 {
            *reused = true;
        }
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.0 {
            Inner::Http1 { connection, .. } => connection.sender.is_closed(),
            Inner::Http2(stream) => stream.0.sender.borrow().is_closed(),
        }
    }

    /// The serial number of the certificate that the server showed, in the mesh.
    pub(crate) fn server(&self) -> Option<Rc<str>> {
        match &self.0 {
            Inner::Http1 { connection, .. } => connection.server.clone(),
            Inner::Http2(stream) => stream.0.server.clone(),
        }
    }

    /// After the response has ended: keeps the connection for the next request.
    pub(crate) fn give_back(self) {
        if let Inner::Http1 { connection, set, .. } = self.0
            && !connection.sender.is_closed()
        {
            let mut idle = set.idle.borrow_mut();
            if idle.len() < set.idle_connections_max {
                idle.push(Idle { connection, since: Instant::now() });
                set.freed.notify_one();
            }
        }
    }
}

/// An upstream connection in the metrics, and among those that its destination and its worker have.
struct Open {
    worker: Rc<Worker>,
    _held: Option<Held>,
    of_worker: Rc<Cell<usize>>,
    freed: Rc<Notify>,
    made: bool,
}

impl Open {
    fn count(worker: &Rc<Worker>, held: Option<Held>, set: &Set) -> Self {
        set.open.set(set.open.get().saturating_add(1));
        let (of_worker, freed) = (set.open.clone(), set.freed.clone());
        Self { worker: worker.clone(), _held: held, of_worker, freed, made: false }
    }

    /// Keeps the connection going until it ends, or its server's certificate is void. Requests under way on it are ended by
    /// their leashes, and HTTP/2 closes it after the last of them.
    fn run(mut self, connection: impl Future<Output = hyper::Result<()>> + 'static, server: Option<Rc<str>>) {
        self.worker.telemetry.count(|shard| shard.upstream_connections += 1);
        self.made = true;
        tokio::task::spawn_local(async move {
            tokio::select! {
                _closed = connection => {}
                () = revoked(&self.worker, server.as_deref()) => {}
            }
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.made {
            self.worker.telemetry.count(|shard| shard.upstream_connections_closed += 1);
        }
        self.of_worker.set(self.of_worker.get().saturating_sub(1));
        self.freed.notify_one();
    }
}
