//! A service that works at so many requests at once, and has the others wait: what too much does to most of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// HTTP/1.1; every request is answered with 200 once it was worked at. It goes on with those whose callers have gone.
#[derive(Debug)]
pub struct Narrow {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    workers: Semaphore,
    work: Duration,
    under_way: AtomicUsize,
    /// How many were under way, itself among them, when each request came.
    seen: Mutex<Vec<usize>>,
}

impl Narrow {
    pub async fn start(workers: usize, work: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            workers: Semaphore::new(workers),
            work,
            under_way: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, state.clone()));
        Self { address, state, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of each request since the last call, how many were under way when it came.
    pub fn take_seen(&self) -> Vec<usize> {
        std::mem::take(&mut self.state.seen.lock().unwrap())
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| work(request, state.clone()));
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn work(_: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let before = state.under_way.fetch_add(1, Ordering::SeqCst);
    state.seen.lock().unwrap().push(before + 1);
    let task = tokio::spawn(async move {
        let worker = state.workers.acquire().await.unwrap();
        tokio::time::sleep(state.work).await;
        drop(worker);
        state.under_way.fetch_sub(1, Ordering::SeqCst);
    });
    task.await.unwrap();
    Ok(Response::new(Full::new(Bytes::from_static(b"done"))))
}
