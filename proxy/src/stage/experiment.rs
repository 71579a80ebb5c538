//! Faults of experiments. They are injected inside a try, with its endpoint chosen and its place in the pool taken: bounds, time
//! limits and the rules of what is tried again meet them as if the upstream behaved so. Only the endpoint gets no blame.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use http_body_util::BodyExt;
use palisade_policy::experiment::{DelayLength, Experiment, Harm};
use palisade_policy::fault::AbortAnswer;
use palisade_policy::kind::request_match::MatchView;
use tokio::time::Instant;

use super::again::Failed;
use super::attempt::{Attempted, hand_over, in_time, lease, not_connected, settled, too_late};
use super::forward::{Answer, Outgoing, Route, To};
use crate::error::ProxyError;
use crate::http::body::{Tally, discard};
use crate::http::normalize::Malformed;
use crate::http::shape::Shaper;
use crate::telemetry::record::{FaultType, Record};
use crate::upstream::experiments::{Moment, Place, pick};
use crate::upstream::pool::Lease;
use crate::worker::Worker;

/// A place under the experiment that is to have this try: of those of its destination that are on, and about such a request,
/// the first that is drawn. `dice`: an even choice of the numbers below its argument.
pub(super) fn drawn(
    route: &Route,
    request: &Outgoing,
    record: &Record,
    dice: impl Fn(u32) -> u32,
) -> Option<Place> {
    let To::Members(members) = &route.to else { return None };
    if members.trials.is_empty() || record.is_copy() {
        return None;
    }
    let view = MatchView {
        host: &members.destination.host,
        method: request.method().as_str(),
        path: request.uri().path(),
        route: record.route.as_deref(),
    };
    let fits = |experiment: &Experiment| experiment.fits(&view, request.headers());
    let trial = pick(&members.trials, Moment::now(), fits, dice)?;
    let place = trial.enter();
    if place.is_none() {
        record.spared(&trial.experiment.id);
    }
    place
}

/// A try under an experiment.
pub(super) struct Trial<'t> {
    pub(super) worker: &'t Rc<Worker>,
    pub(super) route: &'t Route,
    pub(super) address: SocketAddr,
    /// When the time of one try is over.
    pub(super) patience: Option<Instant>,
}

impl Trial<'_> {
    pub(super) async fn attempt(
        self,
        place: Place,
        lease: Lease,
        request: Outgoing,
        record: &mut Record,
    ) -> Attempted {
        // Until it has answered: whatever happens before may be of our making.
        mute(record, true);
        let tally = record.tally.clone();
        let attempted = {
            let carrying_out = pin!(self.carry_out(place, lease, request, record));
            in_time(self.route, &tally, self.patience, carrying_out).await
        };
        attempted.unwrap_or_else(|late| too_late(&late, self.route, record))
    }

    async fn carry_out(
        &self,
        place: Place,
        mut lease: Lease,
        mut request: Outgoing,
        record: &mut Record,
    ) -> Attempted {
        let Self { worker, route, address, patience } = *self;
        let experiment = place.experiment().clone();
        if let Some(length) = &experiment.delay {
            lease.rests();
            delay(length, &place, record).await;
        }
        // It may have been stopped meanwhile.
        let experiment = Some(&experiment).filter(|_| place.is_on());
        if let Some(failed) = experiment.and_then(|experiment| instead(experiment, record)) {
            return self.fail(failed, lease, request, record).await;
        }
        if lease.is_closed() {
            lease = match self::lease(worker, route, address, patience).await {
                Ok(lease) => lease,
                Err(error) => return not_connected(worker, route, error, request, record),
            };
        }
        let sent = match hand_over(route, &lease, &mut request, record) {
            Ok(sent) => sent,
            Err(error) => return Attempted::Over(error),
        };
        let answer = lease.send(request).await;
        let harmless = experiment.is_none_or(|e| e.harm.is_none() && e.pace.is_none());
        mute(record, !(harmless && answer.is_ok()));
        match (settled(answer, lease, sent, record), experiment) {
            (Attempted::Answered(answer), Some(experiment)) if !harmless => {
                harm(worker, experiment, place, answer, record).await
            }
            (attempted, _) => attempted,
        }
    }

    /// Ends the try without sending the request. Its body is read as the upstream would have read it: callers send it whole
    /// before they read an answer, and only what is kept of it can be sent again.
    async fn fail(
        &self,
        (failed, error): (Failed, ProxyError),
        lease: Lease,
        request: Outgoing,
        record: &mut Record,
    ) -> Attempted {
        if !record.is_grpc() {
            let mut body = request.into_body();
            while let Some(Ok(_thrown_away)) = body.frame().await {}
        }
        lease.give_back();
        let tally = record.tally.clone();
        match of_caller(&tally, record) {
            Some(error) => Attempted::Over(error),
            None => Attempted::Failed { failed, error, unsent: None },
        }
    }
}

/// What is wrong with the request itself, as its body has shown.
fn of_caller(tally: &Tally, record: &mut Record) -> Option<ProxyError> {
    match tally.cut.get() {
        Some(why) => Some(record.cut(why)),
        None => tally.request_malformed.get().then_some(ProxyError::Malformed(Malformed::Framing)),
    }
}

fn mute(record: &Record, muted: bool) {
    if let Some(visit) = &record.visit {
        visit.mute(muted);
    }
}

/// Waits as long as is drawn, and no longer than the experiment goes on.
async fn delay(length: &DelayLength, place: &Place, record: &mut Record) {
    let length = length.drawn(rand::random_range(0.0..=1.0));
    record.delayed(&place.experiment().id, length);
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = place.over() => {}
    }
}

/// What happens in place of an answer, if anything does.
fn instead(experiment: &Experiment, record: &mut Record) -> Option<(Failed, ProxyError)> {
    match experiment.harm {
        Some(Harm::Abort(answer)) => {
            record.injected(&experiment.id, FaultType::Abort);
            Some((stands_for(answer, record.is_grpc()), ProxyError::FaultAbort(answer)))
        }
        Some(Harm::Reset) => {
            record.injected(&experiment.id, FaultType::Reset);
            Some((Failed::Reset, ProxyError::FaultReset))
        }
        Some(Harm::Drop | Harm::Truncate { .. }) | None => None,
    }
}

/// As what the rules of repeating take an answer.
fn stands_for(answer: AbortAnswer, grpc: bool) -> Failed {
    match answer {
        AbortAnswer::Grpc(status) if grpc => Failed::Grpc(status),
        answer => {
            let status = http::StatusCode::from_u16(answer.statuses().0);
            Failed::Status(status.unwrap_or(http::StatusCode::SERVICE_UNAVAILABLE))
        }
    }
}

/// What becomes of an answer: it is lost, or its body is slower or breaks off.
async fn harm(
    worker: &Worker,
    experiment: &Experiment,
    place: Place,
    (response, lease): Answer,
    record: &mut Record,
) -> Attempted {
    let truncate = match experiment.harm {
        Some(Harm::Drop) => {
            record.injected(&experiment.id, FaultType::Drop);
            // The upstream is not to notice.
            if discard(response.into_body(), &worker.shared.limits).await {
                lease.give_back();
            }
            return Attempted::Failed { failed: Failed::Reset, error: ProxyError::FaultDrop, unsent: None };
        }
        Some(Harm::Truncate { after_bytes }) if record.tells_length_of(&response) => Some(after_bytes),
        _ => None,
    };
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        record.shaper = Some(Box::new(Shaper::new(place, truncate, experiment.pace)));
    }
    Attempted::Answered((response, lease))
}
