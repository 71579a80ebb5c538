//! Which endpoint next: in turn, those that refused a connection a moment ago last.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::settings::limits::Limits;

/// Addresses in the order to be tried.
pub(crate) type Candidates = SmallVec<[SocketAddr; 4]>;

/// One worker's view of endpoints. Kept beside the snapshot, so that a push forgets nothing.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    turn: Cell<usize>,
    failed: RefCell<HashMap<SocketAddr, Instant>>,
}

impl Balancer {
    /// Puts the addresses in order: round robin, the recently failed at the end, since they may be all there is.
    pub(crate) fn order(&self, addresses: &mut Candidates, limits: &Limits) {
        if addresses.len() < 2 {
            return;
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let first = turn.checked_rem(addresses.len()).unwrap_or(0);
        addresses.rotate_left(first);
        let failed = self.failed.borrow();
        if !failed.is_empty() {
            let now = Instant::now();
            addresses.sort_by_key(|address| {
                failed.get(address).is_some_and(|at| now.duration_since(*at) < limits.endpoint_penalty)
            });
        }
    }

    /// A connection to it could not be made.
    pub(crate) fn failed(&self, address: SocketAddr) {
        self.failed.borrow_mut().insert(address, Instant::now());
    }

    pub(crate) fn tidy(&self, limits: &Limits) {
        self.failed.borrow_mut().retain(|_, at| at.elapsed() < limits.endpoint_penalty);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Candidates {
        (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_take_turns() {
        let (balancer, limits) = (Balancer::default(), Limits::default());
        let firsts: Vec<u16> = (0..4)
            .map(|_| {
                let mut candidates = addresses();
                balancer.order(&mut candidates, &limits);
                candidates[0].port()
            })
            .collect();
        assert_eq!(firsts, [1, 2, 3, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_failed_is_tried_last_until_its_penalty_is_over() {
        let (balancer, limits) = (Balancer::default(), Limits::default());
        let failed = addresses()[1];
        balancer.failed(failed);
        for _ in 0..3 {
            let mut candidates = addresses();
            balancer.order(&mut candidates, &limits);
            assert_eq!(candidates[2], failed);
        }
        tokio::time::advance(limits.endpoint_penalty).await;
        let mut candidates = addresses();
        balancer.order(&mut candidates, &limits);
        let mut candidates = addresses();
        balancer.order(&mut candidates, &limits);
        assert_eq!(candidates[0], failed);
    }
}
