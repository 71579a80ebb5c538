//! What is under way and may last: judged again when policy changes, and broken off when it is allowed no longer, or has
//! lasted for too long.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::HeaderMap;
use palisade_policy::Snapshot;
use palisade_policy::compile::judged::JudgedHeaders;
use tokio::time::Instant;

use crate::http::body::Tally;
use crate::live::Live;
use crate::pipeline::terms::Terms;

/// Why something that was let in may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The policy in force does not let it in, or there is none any more.
    Policy,
    /// The certificate that the caller showed is void.
    Peer,
    /// The certificate that the server showed is void.
    Server,
    /// It has lasted for as long as any request may.
    Duration,
}

impl Why {
    /// In records.
    pub(crate) fn details(self) -> &'static str {
        match self {
            Self::Policy => "closed_by_policy_change",
            Self::Peer | Self::Server => "closed_by_revocation",
            Self::Duration => "max_request_duration",
        }
    }
}

/// Ties one request to what let it in.
#[derive(Debug, Default)]
pub(crate) struct Leash {
    terms: RefCell<Option<Terms>>,
    /// The serial number of the certificate that the server showed.
    server: RefCell<Option<Rc<str>>>,
    over: Cell<Option<Why>>,
    /// Since when it is under way.
    since: Cell<Option<Instant>>,
    /// Who waits for the answer, and who sends the request's body.
    answer: RefCell<Option<Waker>>,
    body: RefCell<Option<Waker>>,
}

impl Leash {
    pub(crate) fn over(&self) -> Option<Why> {
        self.over.get()
    }

    pub(crate) fn set_server(&self, serial: Option<Rc<str>>) {
        self.server.replace(serial);
    }

    /// Returns when the request may not go on.
    pub(crate) async fn ended(&self) -> Why {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// For whoever waits for the answer: ready when there will be none.
    pub(crate) fn poll_answer(&self, cx: &Context<'_>) -> Poll<Why> {
        self.poll(&self.answer, cx)
    }

    /// For whoever sends the request's body: ready when it may not go on.
    pub(crate) fn poll_body(&self, cx: &Context<'_>) -> Poll<Why> {
        self.poll(&self.body, cx)
    }

    fn poll(&self, place: &RefCell<Option<Waker>>, cx: &Context<'_>) -> Poll<Why> {
        if let Some(why) = self.over.get() {
            return Poll::Ready(why);
        }
        let mut waker = place.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn judge(&self, live: &Live) {
        let terms = self.terms.borrow();
        let (Some(terms), None) = (&*terms, self.over.get()) else { return };
        let why = match &*live.snapshot() {
            None => Some(Why::Policy),
            Some(snapshot) => self.judge_by(terms, snapshot),
        };
        if let Some(why) = why {
            self.end(why);
        }
    }

    fn end(&self, why: Why) {
        self.over.set(Some(why));
        let waiting = [self.answer.take(), self.body.take()];
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    fn judge_by(&self, terms: &Terms, snapshot: &Snapshot) -> Option<Why> {
        if terms.peer_serial().is_some_and(|serial| snapshot.is_revoked(serial)) {
            return Some(Why::Peer);
        }
        if self.server.borrow().as_ref().is_some_and(|serial| snapshot.is_revoked(serial)) {
            return Some(Why::Server);
        }
        (!terms.allow(snapshot)).then_some(Why::Policy)
    }
}

/// The requests of one worker that are under way.
#[derive(Debug, Default)]
pub(crate) struct Open {
    places: RefCell<Places>,
    /// Counts how often all were judged again.
    round: Cell<u64>,
}

#[derive(Debug, Default)]
struct Places {
    all: Vec<Option<Rc<Tally>>>,
    free: Vec<usize>,
}

/// A request's place among those that are under way.
#[derive(Debug)]
pub(crate) struct Place(usize);

impl Open {
    pub(crate) fn round(&self) -> u64 {
        self.round.get()
    }

    /// From now on the request is judged again with every change, until `leave`. `judged_in`: the round before its snapshot was
    /// taken; it is judged now when there was another since.
    pub(crate) fn enter(&self, tally: &Rc<Tally>, terms: Terms, judged_in: u64, live: &Live) -> Place {
        tally.leash.terms.replace(Some(terms));
        tally.leash.since.set(Some(Instant::now()));
        let place = {
            let mut places = self.places.borrow_mut();
            let place = places.free.pop().unwrap_or_else(|| {
                places.all.push(None);
                places.all.len().saturating_sub(1)
            });
            if let Some(free) = places.all.get_mut(place) {
                *free = Some(tally.clone());
            }
            place
        };
        if judged_in != self.round.get() {
            tally.leash.judge(live);
        }
        Place(place)
    }

    pub(crate) fn leave(&self, Place(place): Place) {
        let tally = {
            let mut places = self.places.borrow_mut();
            places.free.push(place);
            places.all.get_mut(place).and_then(Option::take)
        };
        // Terms hold the caller's connection.
        drop(tally.and_then(|tally| tally.leash.terms.take()));
    }

    /// Ends all that have lasted for longer than this.
    pub(crate) fn end_older(&self, longest: Duration) {
        for tally in self.places.borrow().all.iter().flatten() {
            let leash = &tally.leash;
            let old = leash.since.get().is_some_and(|since| since.elapsed() >= longest);
            if old && leash.over.get().is_none() {
                leash.end(Why::Duration);
            }
        }
    }

    /// Judges all by what is in force now.
    pub(crate) fn judge_all(&self, live: &Live) {
        self.round.set(self.round.get().wrapping_add(1));
        for tally in self.places.borrow().all.iter().flatten() {
            tally.leash.judge(live);
        }
    }
}

/// The headers of a request that rules and routes ask for: what is kept of it to judge it again.
pub(crate) struct Kept {
    pub(crate) headers: HeaderMap,
    /// `None`: nothing asks for any.
    asked: Option<Arc<JudgedHeaders>>,
}

impl Kept {
    pub(crate) fn of(headers: &HeaderMap, snapshot: &Snapshot) -> Self {
        let judged = snapshot.judged_headers();
        let asked = judged.asks_any().then(|| judged.clone());
        Self { headers: judged.asked_of(headers), asked }
    }

    /// Whether all that this snapshot asks for was kept. If not, nobody knows what the request would have said.
    pub(crate) fn suffice_for(&self, snapshot: &Snapshot) -> bool {
        snapshot.judged_headers().asks_no_more_than(self.asked.as_deref())
    }
}
