//! A connection that begins inside a container: `palisade demo-pipe` there, its stdin and stdout here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::Container;

/// `IP:PORT` and a line feed.
const LINE_BYTES_MAX: usize = 64;

/// This end. Dropping it ends the other.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Where the connection comes from, as its other side sees it.
    pub(crate) from: SocketAddr,
    input: ChildStdin,
    output: ChildStdout,
    _child: Child,
}

impl Pipe {
    pub(crate) async fn open(container: &Container, address: SocketAddr) -> Result<Self> {
        let mut command = container.palisade(&["demo-pipe", &address.to_string()]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the docker command; is it installed?")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, mut output) = input.zip(output).context("docker has no stdin and stdout")?;
        let line = first_line(&mut output).await?;
        let Ok(from) = line.parse() else {
            let done = child.wait_with_output().await?;
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            bail!("from {container}: {said}");
        };
        Ok(Self { from, input, output, _child: child })
    }
}

/// Byte by byte: what comes after the line is not ours.
async fn first_line(output: &mut ChildStdout) -> Result<String> {
    let mut line = Vec::new();
    while line.len() < LINE_BYTES_MAX {
        let mut byte = [0];
        if output.read(&mut byte).await? == 0 || byte == *b"\n" {
            break;
        }
        line.extend(byte);
    }
    Ok(String::from_utf8(line)?)
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(context)
    }
}

/// The end inside: connects, says in one line where it connects from, and copies both ways until one side is done.
pub fn serve(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        let (mut stdin, mut stdout) = (tokio::io::stdin(), tokio::io::stdout());
        stdout.write_all(format!("{}\n", stream.local_addr()?).as_bytes()).await?;
        stdout.flush().await?;
        let (mut read, mut write) = stream.into_split();
        // A reset of the connection is its end, and the other side sees it as one.
        tokio::select! {
            _ = tokio::io::copy(&mut stdin, &mut write) => {}
            _ = tokio::io::copy(&mut read, &mut stdout) => {}
        }
        Ok(())
    });
    // A thread may still wait for stdin.
    runtime.shutdown_background();
    served
}
