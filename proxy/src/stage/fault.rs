//! Faults that policy asks for. They are injected where a request would be sent on: it has leave, and nothing that is about the
//! upstream has begun, so that no timeout of the route runs, nothing is tried again, and no endpoint gets the blame.

use std::rc::Rc;
use std::time::Duration;

use palisade_policy::fault::{AbortAnswer, Fault};
use palisade_policy::kind::virtual_service::WHOLE_PPM;
use tokio::time::{Instant, sleep_until};

use super::deadline::Deadline;
use super::slot::Slot;
use crate::error::ProxyError;
use crate::telemetry::record::Record;
use crate::worker::Worker;

/// What the dice make of a fault for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Drawn {
    delay: Option<Duration>,
    abort: Option<AbortAnswer>,
}

impl Drawn {
    /// `dice`: an even choice of the numbers below its argument. Each part is drawn on its own.
    fn of(fault: &Fault, dice: impl Fn(u32) -> u32) -> Self {
        let falls = |share_ppm: u32| dice(WHOLE_PPM) < share_ppm;
        Self {
            delay: fault.delay.filter(|delay| falls(delay.share_ppm)).map(|delay| delay.length),
            abort: fault.abort.filter(|abort| falls(abort.share_ppm)).map(|abort| abort.answer),
        }
    }
}

/// Delays the request, aborts it, or neither. The delay ends with whoever waits for the request, and with the policy that
/// lets it go on. `patience`: until when its caller waits.
///
/// # Errors
/// The request is not to be sent on: it is aborted, or may go on no longer.
pub(crate) async fn inject(
    worker: &Rc<Worker>,
    fault: &Fault,
    record: &mut Record,
    patience: Option<Deadline>,
    dice: impl Fn(u32) -> u32,
) -> Result<(), ProxyError> {
    let drawn = Drawn::of(fault, dice);
    if let Some(length) = drawn.delay {
        let max = worker.shared.limits.delays_max;
        let Some(slot) = Slot::take(worker, |worker| &worker.delays, max) else {
            record.spared(&fault.id);
            return Ok(());
        };
        record.delayed(&fault.id, length);
        wait(length, patience, record).await?;
        drop(slot);
    }
    match drawn.abort {
        Some(answer) => {
            record.aborted(&fault.id);
            Err(ProxyError::FaultAbort(answer))
        }
        None => Ok(()),
    }
}

async fn wait(length: Duration, patience: Option<Deadline>, record: &Record) -> Result<(), ProxyError> {
    let tally = record.tally.clone();
    let end = Instant::now() + length;
    let last = patience.map_or(end, |deadline| deadline.at.min(end));
    tokio::select! {
        biased;
        why = tally.leash.ended() => return Err(ProxyError::Closed(why)),
        () = sleep_until(last) => {}
    }
    if last < end {
        return Err(ProxyError::RequestTimeout);
    }
    if let Some(silence) = &tally.silence {
        // It was silent because we made it so.
        silence.broken();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use palisade_policy::fault::{Abort, Delay};

    use super::*;

    fn fault(delay_ppm: u32, abort_ppm: u32) -> Fault {
        let delay = Delay { share_ppm: delay_ppm, length: Duration::from_secs(2) };
        let abort = Abort { share_ppm: abort_ppm, answer: AbortAnswer::Http(503) };
        Fault { id: "n/v/r".into(), delay: Some(delay), abort: Some(abort) }
    }

    #[test]
    fn each_part_is_drawn_on_its_own() {
        let (delay, abort) = (Some(Duration::from_secs(2)), Some(AbortAnswer::Http(503)));
        let rows = [
            ([0, 0], Drawn { delay, abort }),
            ([249_999, 499_999], Drawn { delay, abort }),
            ([250_000, 499_999], Drawn { delay: None, abort }),
            ([0, 500_000], Drawn { delay, abort: None }),
            ([999_999, 999_999], Drawn::default()),
        ];
        for (rolls, drawn) in rows {
            let next = Cell::new(0);
            let dice = |below: u32| {
                assert_eq!(below, WHOLE_PPM);
                rolls[next.replace(next.get() + 1)]
            };
            assert_eq!(Drawn::of(&fault(250_000, 500_000), dice), drawn, "{rolls:?}");
        }
    }

    #[test]
    fn a_share_of_nothing_never_falls_and_the_whole_always_does() {
        for roll in [0, 1, WHOLE_PPM - 1] {
            assert_eq!(Drawn::of(&fault(0, 0), |_| roll), Drawn::default());
            let drawn = Drawn::of(&fault(WHOLE_PPM, WHOLE_PPM), |_| roll);
            assert!(drawn.delay.is_some() && drawn.abort.is_some(), "{roll}");
        }
        let none = Fault { id: "n/v/r".into(), delay: None, abort: None };
        assert_eq!(Drawn::of(&none, |_| 0), Drawn::default());
    }
}
