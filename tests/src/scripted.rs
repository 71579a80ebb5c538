//! A service that answers whatever bytes the test chooses, and leaves its connections open.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

#[derive(Debug, Default)]
struct State {
    answer: Vec<u8>,
    /// What came, for each connection.
    heard: Vec<Vec<u8>>,
    /// Connections that the other side closed.
    ended: usize,
}

/// Answers every request head with the same bytes (at first with none), without reading bodies.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let task = tokio::spawn(accept(listener, state.clone()));
        Self { address, state, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the next requests are answered.
    pub fn answers(&self, bytes: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().answer = bytes.into();
    }

    /// What came on each connection so far.
    pub fn heard(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.heard.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// How many connections were closed or reset by the other side.
    pub fn ended(&self) -> usize {
        self.state.lock().unwrap().ended
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let index = {
            let mut state = state.lock().unwrap();
            state.heard.push(Vec::new());
            state.heard.len() - 1
        };
        connections.spawn(serve(socket, index, state.clone()));
    }
}

async fn serve(mut socket: TcpStream, index: usize, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 4096];
    let mut answered = 0;
    while let Ok(count @ 1..) = socket.read(&mut buffer).await {
        let answer = {
            let mut state = state.lock().unwrap();
            state.heard[index].extend_from_slice(&buffer[..count]);
            let heads = String::from_utf8_lossy(&state.heard[index]).matches("\r\n\r\n").count();
            (heads > answered).then(|| state.answer.clone())
        };
        if let Some(answer) = answer {
            answered += 1;
            let _closed = socket.write_all(&answer).await;
        }
    }
    state.lock().unwrap().ended += 1;
}
