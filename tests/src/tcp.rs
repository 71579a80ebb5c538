//! A service that speaks no HTTP: greets first, echoes, says goodbye, and remembers what it heard.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::wait::until;

/// What every caller hears before it has said a word.
pub const GREETING: &[u8] = b"220 ready\n";
/// What it hears last, after it has ended its own side.
pub const GOODBYE: &[u8] = b"221 bye\n";

/// One connection, as the service saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub bytes: Vec<u8>,
    pub end: Option<Ending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The caller said that it was its end.
    Whole,
    /// The connection was reset.
    Broken,
}

/// The service, on a loopback port of its own.
#[derive(Debug)]
pub struct TcpService {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl TcpService {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let all = heard.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = {
                    let mut heard = all.lock().unwrap();
                    heard.push(Heard::default());
                    heard.len() - 1
                };
                let all = all.clone();
                tokio::spawn(async move {
                    let result = talk(stream, |bytes| all.lock().unwrap()[index].bytes.extend(bytes)).await;
                    let end = if result.is_ok() { Ending::Whole } else { Ending::Broken };
                    all.lock().unwrap()[index].end = Some(end);
                });
            }
        });
        Self { address, heard, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection that reached it, oldest first.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Asserts that nobody has connected.
    pub fn assert_untouched(&self) {
        assert_eq!(self.heard(), [], "somebody reached the service");
    }

    /// Waits until its only connection has ended, and tells how.
    pub async fn ended(&self) -> Heard {
        until("the service's only connection to end", || async {
            match &self.heard()[..] {
                [heard] if heard.end.is_some() => Ok(heard.clone()),
                other => Err(other.to_vec()),
            }
        })
        .await
    }
}

async fn talk(mut stream: TcpStream, mut note: impl FnMut(&[u8])) -> io::Result<()> {
    stream.write_all(GREETING).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        note(&buffer[..read]);
        stream.write_all(&buffer[..read]).await?;
    }
    stream.write_all(GOODBYE).await?;
    stream.shutdown().await
}

impl Drop for TcpService {
    fn drop(&mut self) {
        self.task.abort();
    }
}
