//! What HTTP/2 lets a client have us do for nothing, counted; too much of it ends the connection.
//!
//! h2 bounds header blocks, CONTINUATION and empty or tiny DATA frames itself. What it does for ever is to answer
//! SETTINGS and PING, to follow PRIORITY and WINDOW_UPDATE, and to take back streams that were just opened (rapid reset,
//! CVE-2023-44487) or that the client made us reset (MadeYouReset, CVE-2025-8671). Only frame headers are looked at.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frames::{Frame, Frames, Seen, Way, kind};
use super::ledger::Ledger;
use super::patience::{Ended, Heads, Verdict};
use crate::http::layer::pass_flush;
use crate::settings::limits::{Allowance, Limits};

/// GOAWAY (RFC 9113 section 6.8), ENHANCE_YOUR_CALM (11). The last stream is the highest there can be: which ones were
/// taken is known to h2 alone, and a client may not assume that any was not.
const GO_AWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];
const ENHANCE_YOUR_CALM: u8 = 11;

/// How many of the allowance's burst can be saved up by what earns it.
const SAVED_BURSTS_MAX: u32 = 10;

/// What is left of an allowance.
#[derive(Debug)]
struct Budget {
    allowance: Allowance,
    left: u32,
    /// When it was last filled.
    at: Instant,
}

impl Budget {
    fn new(allowance: Allowance) -> Self {
        Self { allowance, left: allowance.burst, at: Instant::now() }
    }

    /// Pays one. `false`: nothing is left.
    fn spend(&mut self) -> bool {
        if self.left == 0 {
            self.refill();
        }
        let paid = self.left > 0;
        self.left = self.left.saturating_sub(1);
        paid
    }

    /// The clock is asked only when nothing is left: at most two bursts come at once.
    fn refill(&mut self) {
        let now = Instant::now();
        let millis = now.saturating_duration_since(self.at).as_millis();
        let earned = millis.saturating_mul(u128::from(self.allowance.per_second)) / 1000;
        if earned > 0 {
            self.left = u32::try_from(earned).unwrap_or(u32::MAX).min(self.allowance.burst);
            self.at = now;
        }
    }

    fn earn(&mut self, count: u32) {
        let max = self.allowance.burst.saturating_mul(SAVED_BURSTS_MAX);
        self.left = self.left.saturating_add(count).min(max);
    }
}

#[derive(Debug)]
struct Budgets {
    resets: Budget,
    control: Budget,
    windows: Budget,
}

impl Budgets {
    fn received(&mut self, frame: Frame) -> Result<(), Ended> {
        let (budget, why) = match frame.kind {
            // A request is worth a PRIORITY or PRIORITY_UPDATE frame (RFC 9218 section 7.1) or two.
            kind::HEADERS => {
                self.control.earn(2);
                return Ok(());
            }
            kind::DATA if frame.length > 0 || frame.ends_stream() => return Ok(()),
            kind::RST_STREAM => (&mut self.resets, Ended::Resets),
            kind::WINDOW_UPDATE => (&mut self.windows, Ended::WindowUpdates),
            _ => (&mut self.control, Ended::ControlFrames),
        };
        if budget.spend() { Ok(()) } else { Err(why) }
    }

    /// `Err`: not the frame is refused, but what made us send it.
    fn sent(&mut self, frame: Frame) -> Result<(), Ended> {
        if frame.ends_stream() {
            self.resets.earn(1);
        }
        match frame.kind {
            // Clients open their windows again for what they got, per frame or finer, for stream and connection.
            kind::DATA => self.windows.earn(2 + frame.length / 1024),
            kind::RST_STREAM if is_the_clients_fault(frame.code) && !self.resets.spend() => {
                return Err(Ended::Resets);
            }
            kind::GOAWAY if frame.code == ENHANCE_YOUR_CALM => return Err(Ended::Abuse),
            _ => {}
        }
        Ok(())
    }
}

/// PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM (more streams than it was told). The
/// others come from upstreams and policy.
fn is_the_clients_fault(code: u8) -> bool {
    matches!(code, 1 | 3 | 5 | 6 | 7)
}

/// A connection of HTTP/2 whose frames are followed: entered in a ledger, and counted where its client is a stranger.
/// Outside of what gathers writes, so that frames are seen in whole.
#[derive(Debug)]
pub(crate) struct Calm<T> {
    io: T,
    verdict: Arc<Verdict>,
    ledger: Ledger,
    from_client: Frames,
    to_client: Frames,
    budgets: Option<Budgets>,
    ended: Option<Ended>,
}

impl<T> Calm<T> {
    /// `allowances`: `None` for clients that may have us do what they like, those of the mesh.
    pub(crate) fn new(io: T, ledger: Ledger, allowances: Option<&Limits>, verdict: Arc<Verdict>) -> Self {
        let budgets = allowances.map(|limits| Budgets {
            resets: Budget::new(limits.http2_resets),
            control: Budget::new(limits.http2_control_frames),
            windows: Budget::new(limits.http2_window_updates),
        });
        let (from_client, to_client) = (Frames::new(Way::FromClient), Frames::new(Way::ToClient));
        Self { io, verdict, ledger, from_client, to_client, budgets, ended: None }
    }

    fn wrote(&mut self, bufs: &[IoSlice<'_>], mut count: usize) {
        for buf in bufs {
            let written = buf.get(..count.min(buf.len())).unwrap_or_default();
            count = count.saturating_sub(written.len());
            let (ledger, budgets) = (&self.ledger, &mut self.budgets);
            let followed = self.to_client.follow(written, |frame, seen| {
                // Every frame is followed, whatever one of them means: where the next begins must be known.
                match (seen, budgets.as_mut()) {
                    (Seen::Whole, _) => ledger.sent(frame),
                    (Seen::Begun, Some(budgets)) => {
                        if let Err(why) = budgets.sent(frame) {
                            self.ended.get_or_insert(why);
                        }
                    }
                    (Seen::Begun, None) => {}
                }
                Ok::<_, std::convert::Infallible>(())
            });
            let Ok(()) = followed;
        }
        if let Some(why) = self.ended {
            self.verdict.set(why);
        }
    }
}

impl<T: AsyncWrite + Unpin> Calm<T> {
    /// Tells the client, as far as that can be done at once, and h2 by an error.
    fn end(&mut self, why: Ended, cx: &mut Context<'_>) -> io::Error {
        self.verdict.set(why);
        // h2 has said so itself.
        if why != Ended::Abuse && self.to_client.at_boundary() {
            let _courtesy = Pin::new(&mut self.io).poll_write(cx, &GO_AWAY);
            let _courtesy = Pin::new(&mut self.io).poll_flush(cx);
        }
        io::Error::other(why.reason())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Calm<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(why) = this.ended.filter(|why| *why != Ended::Abuse) {
            return Poll::Ready(Err(this.end(why, cx)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        let (ledger, budgets) = (&this.ledger, &mut this.budgets);
        let followed = this.from_client.follow(read, |frame, seen| {
            match (seen, budgets.as_mut()) {
                (Seen::Whole, _) => ledger.received(frame),
                (Seen::Begun, Some(budgets)) => budgets.received(frame)?,
                (Seen::Begun, None) => {}
            }
            Ok(())
        });
        match followed {
            Ok(()) => Poll::Ready(Ok(())),
            Err(why) => {
                this.ended = Some(why);
                Poll::Ready(Err(this.end(why, cx)))
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Calm<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.wrote(bufs, count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    pass_flush!(io);
}

impl<T> Heads for Calm<T> {
    fn unfinished_head(&self) -> Option<u64> {
        self.from_client.unfinished_head()
    }

    /// Nobody compares them: [`super::ledger`] has the account of HTTP/2.
    fn heads(&self) -> u64 {
        0
    }

    /// HTTP/2 has no such moment: the codec keeps tables and windows for as long as its connection lives.
    fn is_between(&self) -> bool {
        false
    }

    const TIMED_OUT: Option<&'static [u8]> = None;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], vec![0; length.into()].as_slice()].concat()
    }

    fn pair() -> (Calm<DuplexStream>, DuplexStream, Arc<Verdict>) {
        let (near, far) = duplex(1 << 20);
        let verdict = Arc::<Verdict>::default();
        let allowance = Allowance { burst: 3, per_second: 2 };
        let limits = Limits {
            http2_resets: allowance,
            http2_control_frames: allowance,
            http2_window_updates: allowance,
            ..Limits::default()
        };
        (Calm::new(near, Ledger::new(), Some(&limits), verdict.clone()), far, verdict)
    }

    /// What becomes of `count` frames of a kind behind these; `None`: all were passed on.
    async fn after(first: &[Vec<u8>], kind: u8, count: usize) -> Option<Ended> {
        let (mut calm, mut far, verdict) = pair();
        let bytes = [PREFACE, &first.concat(), &frame(kind, 0, 4).repeat(count)].concat();
        far.write_all(&bytes).await.unwrap();
        let mut buffer = vec![0; 1 << 16];
        let read = calm.read(&mut buffer).await;
        assert_eq!(read.is_err(), verdict.get().is_some());
        if read.is_err() {
            let mut told = [0; 17];
            far.read_exact(&mut told).await.unwrap();
            assert_eq!(told, GO_AWAY);
        }
        verdict.get()
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_flood_ends_the_connection_with_a_go_away() {
        for (kind, why) in [
            (kind::RST_STREAM, Ended::Resets),
            (kind::WINDOW_UPDATE, Ended::WindowUpdates),
            (kind::CONTINUATION, Ended::ControlFrames),
            (PING, Ended::ControlFrames),
            (2, Ended::ControlFrames),
            (4, Ended::ControlFrames),
            (0xee, Ended::ControlFrames),
        ] {
            assert_eq!(after(&[], kind, 3).await, None, "{kind}");
            assert_eq!(after(&[], kind, 4).await, Some(why), "{kind}");
        }
        // Bodies and requests cost nothing, and requests pay for their priorities.
        assert_eq!(after(&[], kind::DATA, 1000).await, None);
        assert_eq!(after(&[], kind::HEADERS, 1000).await, None);
        assert_eq!(after(&[frame(1, 5, 3), frame(1, 5, 3)], 2, 7).await, None);
        assert_eq!(after(&[frame(1, 5, 3), frame(1, 5, 3)], 2, 8).await, Some(Ended::ControlFrames));
        assert_eq!(after(&vec![frame(0, 0, 0); 4], PING, 0).await, Some(Ended::ControlFrames));
    }

    #[tokio::test(start_paused = true)]
    async fn time_and_answers_give_an_allowance_back() {
        let (mut calm, mut far, verdict) = pair();
        let mut buffer = vec![0; 1 << 16];
        far.write_all(PREFACE).await.unwrap();
        far.write_all(&frame(3, 0, 4).repeat(3)).await.unwrap();
        assert!(calm.read(&mut buffer).await.is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        far.write_all(&frame(3, 0, 4).repeat(2)).await.unwrap();
        assert!(calm.read(&mut buffer).await.is_ok());
        // Two responses end: two more resets.
        calm.write_all(&[frame(1, 5, 2), frame(0, 1, 0)].concat()).await.unwrap();
        far.write_all(&frame(3, 0, 4).repeat(2)).await.unwrap();
        assert!(calm.read(&mut buffer).await.is_ok());
        assert_eq!(verdict.get(), None);
        far.write_all(&frame(3, 0, 4)).await.unwrap();
        assert!(calm.read(&mut buffer).await.is_err());
        assert_eq!(verdict.get(), Some(Ended::Resets));
    }

    #[tokio::test(start_paused = true)]
    async fn resets_that_a_client_made_us_send_count_as_its_own_and_those_of_upstreams_do_not() {
        for (code, ends) in [(1, true), (3, true), (5, true), (7, true), (0, false), (2, false), (8, false)] {
            let (mut calm, mut far, verdict) = pair();
            let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code];
            calm.write_all(&reset.repeat(4)).await.unwrap();
            assert_eq!(verdict.get(), ends.then_some(Ended::Resets), "{code}");
            far.write_all(PREFACE).await.unwrap();
            assert_eq!(calm.read(&mut [0; 64]).await.is_err(), ends, "{code}");
        }
    }
}
