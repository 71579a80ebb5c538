//! A copy of a body while it streams by, for mirrors. It never slows the original down: what the copy's reader has not
//! taken is kept up to a bound of bytes and pieces, and beyond it the copy breaks off. A copy that broke off, or whose original did, ends in
//! an error: nobody takes half a request for a whole one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Pieces that may wait. A body may come byte by byte, and each piece costs some memory of its own.
const WAITING_PIECES_MAX: usize = 128;
/// A piece below this is copied: shared, one byte would keep alive the whole buffer that it was read into.
const SHARED_BYTES_MIN: usize = 4096;

/// Why there is no more of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    #[error("the original broke off")]
    Original,
    #[error("the reader of the copy is too slow")]
    TooSlow,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    waiting_bytes_max: usize,
    /// How it ended; `None`: it goes on.
    end: Option<Result<(), CopyError>>,
    reader_gone: bool,
    waker: Option<Waker>,
    watcher: Option<Waker>,
}

/// The side of the original.
#[derive(Debug)]
pub struct CopyWriter(Rc<RefCell<State>>);

/// The copy.
#[derive(Debug)]
pub struct CopyReader(Rc<RefCell<State>>);

/// `waiting_bytes_max`: what may wait for the reader.
pub fn copy(waiting_bytes_max: usize) -> (CopyWriter, CopyReader) {
    let state = State {
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        waiting_bytes_max,
        end: None,
        reader_gone: false,
        waker: None,
        watcher: None,
    };
    let state = Rc::new(RefCell::new(state));
    (CopyWriter(state.clone()), CopyReader(state))
}

impl CopyWriter {
    /// Large pieces are shared with the original.
    pub fn data(&self, bytes: &Bytes) {
        let mut state = self.0.borrow_mut();
        if state.end.is_some() || state.reader_gone || bytes.is_empty() {
            return;
        }
        let sum = state.waiting_bytes.saturating_add(bytes.len());
        if sum <= state.waiting_bytes_max && state.waiting.len() < WAITING_PIECES_MAX {
            state.waiting_bytes = sum;
            let small = bytes.len() < SHARED_BYTES_MIN;
            state.waiting.push_back(if small { Bytes::copy_from_slice(bytes) } else { bytes.clone() });
        } else {
            state.finish(Err(CopyError::TooSlow));
        }
        state.wake();
    }

    /// The original came to its end.
    pub fn end(&self) {
        let mut state = self.0.borrow_mut();
        if state.end.is_none() {
            state.end = Some(Ok(()));
        }
        state.wake();
    }
}

impl Drop for CopyWriter {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        if state.end.is_none() {
            state.finish(Err(CopyError::Original));
        }
        state.wake();
    }
}

impl State {
    /// What waits is of no use to anybody then.
    fn finish(&mut self, end: Result<(), CopyError>) {
        self.end = Some(end);
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    fn wake(&mut self) {
        for waker in [self.waker.take(), self.watcher.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl CopyReader {
    /// Comes when the copy breaks off, also while nobody asks for more of it: a codec does not, as long as its peer takes
    /// nothing.
    pub fn broken(&self) -> Broken {
        Broken(self.0.clone())
    }
}

/// See `CopyReader::broken`. Never ready for a copy that is whole.
#[derive(Debug)]
pub struct Broken(Rc<RefCell<State>>);

impl Future for Broken {
    type Output = CopyError;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CopyError> {
        let mut state = self.0.borrow_mut();
        match state.end {
            Some(Err(error)) => Poll::Ready(error),
            Some(Ok(())) => Poll::Pending,
            None => {
                state.watcher = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Body for CopyReader {
    type Data = Bytes;
    type Error = CopyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CopyError>>> {
        let mut state = self.0.borrow_mut();
        if let Some(bytes) = state.waiting.pop_front() {
            state.waiting_bytes = state.waiting_bytes.saturating_sub(bytes.len());
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.borrow();
        state.waiting.is_empty() && state.end == Some(Ok(()))
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.0.borrow();
        let waiting = u64::try_from(state.waiting_bytes).unwrap_or(u64::MAX);
        match state.end {
            Some(Ok(())) => SizeHint::with_exact(waiting),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for CopyReader {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.reader_gone = true;
        state.waiting.clear();
        state.waiting_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use http_body_util::BodyExt;

    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn a_copy_is_whole_when_the_original_is() {
        let (writer, mut reader) = copy(100);
        writer.data(&bytes("ab"));
        writer.data(&bytes("c"));
        writer.end();
        drop(writer);
        assert_eq!(reader.size_hint().exact(), Some(3));
        for expected in ["ab", "c"] {
            assert_eq!(reader.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
        }
        assert!(reader.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_copy_of_what_broke_off_breaks_off() {
        let (writer, mut reader) = copy(100);
        writer.data(&bytes("ab"));
        drop(writer);
        assert_eq!(reader.frame().await.unwrap().unwrap_err(), CopyError::Original);
    }

    #[tokio::test]
    async fn a_slow_reader_costs_its_copy_and_no_more_memory() {
        let (writer, mut reader) = copy(4);
        writer.data(&bytes("abc"));
        assert_eq!(reader.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
        writer.data(&bytes("abcd"));
        writer.data(&bytes("e"));
        writer.end();
        assert_eq!(writer.0.borrow().waiting_bytes, 0);
        assert_eq!(reader.frame().await.unwrap().unwrap_err(), CopyError::TooSlow);
    }

    #[tokio::test]
    async fn a_body_that_comes_byte_by_byte_keeps_neither_many_pieces_nor_the_buffers_they_came_in() {
        let buffer = Bytes::from(vec![b'x'; 64 * 1024]);
        let (writer, mut reader) = copy(64 * 1024);
        writer.data(&buffer.slice(..1));
        assert!(!buffer.as_ptr_range().contains(&writer.0.borrow().waiting[0].as_ptr()));
        for at in 1..WAITING_PIECES_MAX {
            writer.data(&buffer.slice(at..=at));
        }
        assert_eq!(writer.0.borrow().waiting.len(), WAITING_PIECES_MAX);
        writer.data(&buffer.slice(..1));
        assert!(writer.0.borrow().waiting.is_empty());
        assert_eq!(reader.frame().await.unwrap().unwrap_err(), CopyError::TooSlow);
    }

    #[tokio::test]
    async fn a_reader_that_went_away_holds_nothing() {
        let (writer, reader) = copy(100);
        drop(reader);
        writer.data(&bytes("abc"));
        assert!(writer.0.borrow().waiting.is_empty());
    }

    #[tokio::test]
    async fn whoever_watches_is_told_of_a_break_while_nobody_reads() {
        let (writer, reader) = copy(1);
        let write = async {
            tokio::task::yield_now().await;
            writer.data(&bytes("ab"));
        };
        let (error, ()) = tokio::join!(reader.broken(), write);
        assert_eq!(error, CopyError::TooSlow);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let (writer, mut reader) = copy(100);
        let write = async {
            tokio::task::yield_now().await;
            writer.data(&bytes("a"));
            writer.end();
        };
        let (frame, ()) = tokio::join!(reader.frame(), write);
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "a");
        assert!(reader.is_end_stream());
    }
}
