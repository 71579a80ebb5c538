//! One worker's view of a destination's endpoints, made anew when the destination or its addresses change.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use palisade_policy::compile::{Destination, Target};
use palisade_policy::traffic::{Balance, OutlierDetection};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::balance::{Choice, Member, Usable};
use super::cluster::{Cluster, Upstreams};
use super::connect::ConnectError;
use super::ejection::panics;
use super::experiments::{Experiments, Trial};
use super::resolve::Resolver;
use crate::settings::limits::Limits;

/// Destinations that nobody asked for are forgotten after this.
const FORGET: Duration = Duration::from_mins(10);

/// The destinations that one worker has sent requests to of late.
#[derive(Debug, Default)]
pub(crate) struct Known {
    all: RefCell<HashMap<Arc<str>, Rc<Members>>>,
}

/// The endpoints of one destination.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) cluster: Arc<Cluster>,
    /// Held, so that no other can lie in its place in memory.
    pub(crate) destination: Arc<Destination>,
    /// What its names were resolved to.
    answers: SmallVec<[Rc<[SocketAddr]>; 1]>,
    members: Box<[Member]>,
    /// The indexes of all of them.
    every: Usable,
    /// They weigh the same.
    even: bool,
    /// Empty nearly always.
    pub(crate) trials: Box<[Trial]>,
    /// Asked for since the last look.
    touched: Cell<bool>,
    used: Cell<Instant>,
}

/// Where an attempt may go.
#[derive(Debug)]
pub(crate) enum Picked<'m> {
    Member(&'m Member),
    /// There is no endpoint at all.
    Nobody,
    /// There are, and all of them are left out.
    AllOut,
}

impl Known {
    /// The destination's endpoints now. Names are resolved; most answers are at hand.
    pub(crate) async fn members(
        &self,
        destination: &Arc<Destination>,
        upstreams: &Upstreams,
        experiments: &Experiments,
        resolver: &Resolver,
        limits: &Limits,
    ) -> Result<Rc<Members>, ConnectError> {
        let mut answers = SmallVec::new();
        for target in &destination.endpoints {
            if let Target::Name { host, port, .. } = target {
                answers.push(resolver.resolve(host, *port, limits).await?);
            }
        }
        if let Some(members) = self.all.borrow().get(&destination.cluster)
            && members.is_for(destination, &answers)
        {
            members.touched.set(true);
            return Ok(members.clone());
        }
        let members = Rc::new(Members::new(destination.clone(), answers, upstreams, experiments));
        self.all.borrow_mut().insert(destination.cluster.clone(), members.clone());
        Ok(members)
    }

    pub(crate) fn tidy(&self) {
        let mut all = self.all.borrow_mut();
        for members in all.values() {
            if members.touched.take() || Rc::strong_count(members) > 1 {
                members.used.set(Instant::now());
            }
        }
        all.retain(|_, members| members.used.get().elapsed() < FORGET);
    }
}

impl Members {
    fn new(
        destination: Arc<Destination>,
        answers: SmallVec<[Rc<[SocketAddr]>; 1]>,
        upstreams: &Upstreams,
        experiments: &Experiments,
    ) -> Self {
        let cluster = upstreams.cluster(&destination);
        let mut resolved = answers.iter();
        let mut weights: Vec<(SocketAddr, u32)> = Vec::new();
        for target in &destination.endpoints {
            let weight = target.weight();
            let addresses: &[SocketAddr] = match target {
                Target::Address { address, .. } => std::slice::from_ref(address),
                Target::Name { .. } => resolved.next().map(|answer| &**answer).unwrap_or_default(),
            };
            for address in addresses {
                if weight > 0 && !weights.iter().any(|(known, _)| known == address) {
                    weights.push((*address, weight));
                }
            }
        }
        let addresses: Vec<_> = weights.iter().map(|(address, _)| *address).collect();
        let endpoints = cluster.endpoints(&addresses).into_iter().zip(&weights);
        let members: Box<[_]> =
            endpoints.map(|(endpoint, (_, weight))| Member::new(endpoint, *weight)).collect();
        let every = (0..members.len()).collect();
        let even = weights.windows(2).all(|two| matches!(two, [(_, one), (_, other)] if one == other));
        let trials = experiments.trials(&destination.experiments);
        let (touched, used) = (Cell::default(), Cell::new(Instant::now()));
        Self { cluster, destination, answers, members, every, even, trials, touched, used }
    }

    fn is_for(&self, destination: &Arc<Destination>, answers: &[Rc<[SocketAddr]>]) -> bool {
        Arc::ptr_eq(&self.destination, destination)
            && self.answers.len() == answers.len()
            && self.answers.iter().zip(answers).all(|(mine, now)| Rc::ptr_eq(mine, now))
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The endpoint for the next attempt: one that was not `tried`, where there is one, and not one that refused a
    /// connection a moment ago. `hash`: of what the request is hashed by.
    pub(crate) fn pick(&self, hash: Option<u64>, tried: &[SocketAddr]) -> Picked<'_> {
        let traffic = &self.destination.traffic;
        let troubled = self.cluster.troubled();
        let best;
        let usable = match troubled {
            None if tried.is_empty() => &self.every,
            _ => match self.best(troubled.unwrap_or_else(|| self.cluster.now()), tried) {
                Ok(usable) => {
                    best = usable;
                    &best
                }
                Err(nobody) => return nobody,
            },
        };
        let warmup = traffic.warmup.as_ref();
        let now = if warmup.is_some() { self.cluster.now() } else { 0 };
        let dice = |below: u64| rand::random_range(0..below.max(1));
        let choice = Choice { balance: &traffic.balance, warmup, now, hash, even: self.even, dice };
        choice.of(&self.members, usable).map_or(Picked::Nobody, Picked::Member)
    }

    /// Those that are as good as any now.
    fn best(&self, now: u64, tried: &[SocketAddr]) -> Result<Usable, Picked<'_>> {
        let (mut out, mut least, mut usable) = (0usize, u8::MAX, Usable::new());
        let panicking =
            self.destination.traffic.outliers.as_ref().is_some_and(|rules| self.panics(now, rules));
        for (index, member) in self.members.iter().enumerate() {
            if !panicking && member.endpoint.out(now).is_some() {
                out = out.saturating_add(1);
                continue;
            }
            let rank = match (tried.contains(&member.endpoint.address), member.endpoint.is_avoided(now)) {
                (false, false) => 0,
                (false, true) => 1,
                (true, _) => 2,
            };
            if rank < least {
                least = rank;
                usable.clear();
            }
            if rank == least {
                usable.push(index);
            }
        }
        if usable.is_empty() && out > 0 { Err(Picked::AllOut) } else { Ok(usable) }
    }

    fn panics(&self, now: u64, rules: &OutlierDetection) -> bool {
        let out = self.members.iter().filter(|member| member.endpoint.out(now).is_some()).count();
        panics(self.members.len(), out, rules)
    }

    /// What requests are hashed by, if they are.
    pub(crate) fn hash_key(&self) -> Option<&palisade_policy::traffic::HashKey> {
        match &self.destination.traffic.balance {
            Balance::ConsistentHash(key) => Some(key),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
