//! Where something listens, and the way there.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::docker::{Container, Pipe};

/// An address as seen from some network namespace: of this host, or of a container.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    inside: Option<Container>,
}

impl From<SocketAddr> for Door {
    fn from(address: SocketAddr) -> Self {
        Self { address, inside: None }
    }
}

impl Door {
    /// An address as this container sees it: loopback is its own.
    pub(crate) fn inside(container: &Container, address: SocketAddr) -> Self {
        Self { address, inside: Some(container.clone()) }
    }

    pub(crate) async fn connect(&self) -> Result<Stream> {
        Ok(self.connect_and_tell().await?.0)
    }

    /// Also where the connection comes from, as its other side sees it.
    pub(crate) async fn connect_and_tell(&self) -> Result<(Stream, SocketAddr)> {
        if let Some(container) = &self.inside {
            let pipe = Pipe::open(container, self.address).await?;
            let from = pipe.from;
            return Ok((Box::new(pipe), from));
        }
        let stream = TcpStream::connect(self.address).await;
        let stream = stream.with_context(|| format!("cannot connect to {}", self.address))?;
        let from = stream.local_addr()?;
        Ok((Box::new(stream), from))
    }
}

/// A connection, whatever it goes through.
pub(crate) type Stream = Box<dyn Duplex>;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}
