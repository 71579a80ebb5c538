//! Which endpoint next.

use std::cell::Cell;
use std::sync::Arc;

use palisade_policy::traffic::{Balance, Warmup};
use smallvec::SmallVec;

use super::endpoint::Endpoint;

/// An endpoint as one worker sees it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    /// At least 1: what has no weight is no member.
    pub(crate) weight: u32,
    /// Of smooth weighted round robin.
    turn: Cell<i64>,
}

/// Indexes of members that may be chosen.
pub(super) type Usable = SmallVec<[usize; 16]>;

impl Member {
    pub(crate) fn new(endpoint: Arc<Endpoint>, weight: u32) -> Self {
        Self { endpoint, weight, turn: Cell::default() }
    }

    /// Its share in hundredths of a weight, less while it is warming up.
    fn share(&self, warmup: Option<&Warmup>, now: u64) -> u64 {
        u64::from(self.weight) * warmup.map_or(100, |warmup| warm(warmup, self.endpoint.since, now))
    }
}

/// In percent: from the minimum to all, in step with time.
fn warm(warmup: &Warmup, since: u64, now: u64) -> u64 {
    let whole = u64::try_from(warmup.duration.as_millis()).unwrap_or(u64::MAX).max(1);
    let passed = now.saturating_sub(since).min(whole);
    (passed.saturating_mul(100) / whole).max(u64::from(warmup.minimum_percent.clamp(1, 100)))
}

/// What a choice is made by. `dice`: an even choice of the numbers below its argument.
pub(super) struct Choice<'c, D: Fn(u64) -> u64> {
    pub(super) balance: &'c Balance,
    pub(super) warmup: Option<&'c Warmup>,
    pub(super) now: u64,
    /// Of what the request is hashed by.
    pub(super) hash: Option<u64>,
    /// All members weigh the same.
    pub(super) even: bool,
    pub(super) dice: D,
}

impl<D: Fn(u64) -> u64> Choice<'_, D> {
    /// One of the usable members; `None` where there is none.
    pub(super) fn of<'m>(&self, members: &'m [Member], usable: &Usable) -> Option<&'m Member> {
        let each = || usable.iter().filter_map(|index| members.get(*index));
        let at = |place: usize| usable.get(place).and_then(|index| members.get(*index));
        if usable.len() < 2 {
            return at(0);
        }
        match (self.balance, self.hash) {
            (Balance::RoundRobin, _) => self.in_turn(each()),
            (Balance::ConsistentHash(_), Some(hash)) => by_hash(each(), hash),
            (Balance::Random | Balance::ConsistentHash(_), _) => {
                self.drawn((each(), usable.len()), None).and_then(at)
            }
            (Balance::LeastRequest, _) => {
                let one = self.drawn((each(), usable.len()), None)?;
                match self.drawn((each(), usable.len()), Some(one)) {
                    Some(other) => Some(less_busy(at(one)?, at(other)?)),
                    None => at(one),
                }
            }
        }
    }

    /// Smooth weighted round robin, as nginx does it: whoever waited longest for its weight.
    fn in_turn<'m>(&self, each: impl Iterator<Item = &'m Member>) -> Option<&'m Member> {
        let (mut total, mut best) = (0i64, None::<&Member>);
        for member in each {
            let share = i64::try_from(member.share(self.warmup, self.now)).unwrap_or(i64::MAX);
            total = total.saturating_add(share);
            member.turn.set(member.turn.get().saturating_add(share));
            if best.is_none_or(|best| member.turn.get() > best.turn.get()) {
                best = Some(member);
            }
        }
        let best = best?;
        best.turn.set(best.turn.get().saturating_sub(total));
        Some(best)
    }

    /// The place of one of so many, drawn by its share, but not the one at `without`.
    fn drawn<'m>(
        &self,
        (each, count): (impl Iterator<Item = &'m Member> + Clone, usize),
        without: Option<usize>,
    ) -> Option<usize> {
        if self.even && self.warmup.is_none() {
            let others = count.saturating_sub(usize::from(without.is_some()));
            let drawn = usize::try_from((self.dice)(u64::try_from(others).ok()?)).ok()?;
            return Some(drawn.saturating_add(usize::from(without.is_some_and(|without| drawn >= without))));
        }
        let shares = each.map(|member| member.share(self.warmup, self.now)).enumerate();
        let mut others = shares.filter(|(place, _)| Some(*place) != without);
        let total = others.clone().map(|(_, share)| share).sum::<u64>();
        let mut left = (self.dice)(total.max(1));
        let drawn = others.find(|(_, share)| {
            let found = left < *share;
            left = left.saturating_sub(*share);
            found
        });
        drawn.map(|(place, _)| place)
    }
}

fn less_busy<'m>(one: &'m Member, other: &'m Member) -> &'m Member {
    let known = !one.endpoint.latency().is_zero() && !other.endpoint.latency().is_zero();
    if other.endpoint.cost(known) < one.endpoint.cost(known) { other } else { one }
}

/// Rendezvous hashing (Thaler and Ravishankar), weighted: when an endpoint goes, only its own keys move.
fn by_hash<'m>(each: impl Iterator<Item = &'m Member>, hash: u64) -> Option<&'m Member> {
    let score = |member: &Member| {
        let mixed = mix(hash ^ member.endpoint.place);
        // 1 to 2^32: its logarithm is at most 0, and less so for larger weights.
        let even = (f64::from(u32::try_from(mixed >> 32).unwrap_or(u32::MAX)) + 1.0) / 4_294_967_297.0;
        f64::from(member.weight) / -even.ln()
    };
    each.map(|member| (score(member), member)).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, member)| member)
}

/// FNV-1a with a finalizer. Not the standard library's: proxies of different releases must come to the same endpoint.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// The finalizer of MurmurHash3.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::Duration;

    use palisade_policy::traffic::HashKey;

    use super::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        let each = weights.iter().zip(1..).map(|(weight, port)| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            Member::new(Arc::new(Endpoint::new(address, 0)), *weight)
        });
        each.collect()
    }

    /// How often each was chosen of 10 000 times, by port.
    fn spread(
        members: &[Member],
        balance: &Balance,
        warmup: Option<&Warmup>,
        now: u64,
    ) -> BTreeMap<u16, u32> {
        let seed = Cell::new(7u64);
        let usable = (0..members.len()).collect();
        let even = members.iter().all(|member| member.weight == members[0].weight);
        let mut out = BTreeMap::new();
        for _ in 0..10_000 {
            let dice = |below: u64| {
                seed.set(mix(seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15)));
                seed.get() % below
            };
            let choice = Choice { balance, warmup, now, hash: None, even, dice };
            *out.entry(choice.of(members, &usable).unwrap().endpoint.address.port()).or_default() += 1;
        }
        out
    }

    fn near(got: u32, expected: u32) -> bool {
        got.abs_diff(expected) < 300
    }

    #[test]
    fn round_robin_gives_each_its_weight_one_after_the_other() {
        let members = members(&[2, 1, 1]);
        let usable = (0..3).collect();
        let choice = Choice {
            balance: &Balance::RoundRobin,
            warmup: None,
            now: 0,
            hash: None,
            even: false,
            dice: |_| 0,
        };
        let ports: Vec<u16> =
            (0..8).map(|_| choice.of(&members, &usable).unwrap().endpoint.address.port()).collect();
        assert_eq!(ports, [1, 2, 3, 1, 1, 2, 3, 1]);
    }

    #[test]
    fn random_gives_each_its_weight() {
        let got = spread(&members(&[3, 1]), &Balance::Random, None, 0);
        assert!(near(got[&1], 7_500) && near(got[&2], 2_500), "{got:?}");
    }

    #[test]
    fn those_that_weigh_the_same_are_drawn_as_often_as_each_other_and_never_twice() {
        let members = members(&[5, 5, 5, 5]);
        let got = spread(&members, &Balance::Random, None, 0);
        assert!(got.len() == 4 && got.values().all(|count| near(*count, 2_500)), "{got:?}");
        let places = (members.iter(), members.len());
        for without in 0..4u64 {
            let at = |drawn| {
                let dice = move |_| drawn;
                let choice =
                    Choice { balance: &Balance::Random, warmup: None, now: 0, hash: None, even: true, dice };
                choice.drawn(places.clone(), usize::try_from(without).ok())
            };
            let others: Vec<_> = (0..4).filter(|place| *place != without).collect();
            let got: Vec<_> = (0..3).map(|drawn| u64::try_from(at(drawn).unwrap()).unwrap()).collect();
            assert_eq!(got, others);
        }
    }

    #[test]
    fn of_two_the_one_with_less_under_way_is_chosen() {
        let members = members(&[1, 1]);
        members[0].endpoint.enter();
        assert_eq!(spread(&members, &Balance::LeastRequest, None, 0), BTreeMap::from([(2, 10_000)]));
    }

    #[test]
    fn an_endpoint_that_slows_down_gets_less() {
        let members = members(&[1, 1, 1, 1]);
        for member in &members {
            member.endpoint.took(Duration::from_millis(if member.endpoint.address.port() == 4 {
                50
            } else {
                5
            }));
        }
        let got = spread(&members, &Balance::LeastRequest, None, 0);
        assert_eq!(got.get(&4), None, "{got:?}");
        // With eleven times as much under way at the others, it is as good as they are.
        members[..3].iter().for_each(|m| (0..10).for_each(|_| m.endpoint.enter()));
        let got = spread(&members, &Balance::LeastRequest, None, 0);
        assert!(got[&4] > 4_000, "{got:?}");
    }

    #[test]
    fn a_new_endpoint_gets_its_share_little_by_little() {
        let warmup = Warmup { duration: Duration::from_secs(10), minimum_percent: 10 };
        let mut members = members(&[1, 1]);
        members[1].endpoint = Arc::new(Endpoint::new(SocketAddr::from(([127, 0, 0, 1], 2)), 100_000));
        for (now, expected) in [(100_000, 909), (105_000, 3_333), (110_000, 5_000), (200_000, 5_000)] {
            for balance in [Balance::Random, Balance::RoundRobin] {
                let got = spread(&members, &balance, Some(&warmup), now);
                assert!(near(got[&2], expected), "{balance:?} at {now}: {got:?}");
            }
        }
    }

    #[test]
    fn a_key_stays_with_its_endpoint_when_others_go() {
        let members = members(&[1, 1, 1, 1]);
        let balance = Balance::ConsistentHash(HashKey::SourceIp);
        let of = |key: u32, usable: &Usable| {
            let hash = Some(of_bytes(&key.to_be_bytes()));
            let choice = Choice { balance: &balance, warmup: None, now: 0, hash, even: true, dice: |_| 0 };
            choice.of(&members, usable).unwrap().endpoint.address.port()
        };
        let (all, fewer): (Usable, Usable) = ((0..4).collect(), (0..3).collect());
        let mut shares = BTreeMap::<u16, u32>::new();
        for key in 0..4_000 {
            let port = of(key, &all);
            *shares.entry(port).or_default() += 1;
            if port != 4 {
                assert_eq!(of(key, &fewer), port);
            }
        }
        assert!(shares.values().all(|share| share.abs_diff(1_000) < 150), "{shares:?}");
    }

    #[test]
    fn nobody_is_chosen_of_nobody() {
        let choice =
            Choice { balance: &Balance::Random, warmup: None, now: 0, hash: None, even: true, dice: |_| 0 };
        assert!(choice.of(&[], &Usable::new()).is_none());
    }
}
