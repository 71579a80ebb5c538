//! One part of the watch: deliveries by key, bounded, the oldest out first. Time is an argument, in milliseconds.
//!
//! Each caller has a queue of its own, and whoever holds most loses its oldest: a caller that fills the table pushes out what
//! it brought itself, and nothing of callers that hold less.

use std::collections::VecDeque;

use hashbrown::HashMap;
use uuid::Uuid;

/// What is still under way at the end of its window is looked at again after so long.
const LINGER: u64 = 60_000;
/// Looked at with each arrival, so that no arrival takes long.
const LOOKS: usize = 16;

/// 128 bits of a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) u64, pub(super) u64);

/// Tells a delivery from a later one with the same key, when the first was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Serial(u32);

#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) key: Key,
    /// A keyed hash.
    pub(super) caller: u64,
    pub(super) id: Uuid,
    /// It is not delivered while another with its key is under way.
    pub(super) refuse: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) window: u64,
    pub(super) keys: usize,
}

#[derive(Debug)]
struct Entry {
    first: Uuid,
    /// When it is forgotten.
    until: u64,
    serial: Serial,
    /// Requests under way.
    open: u32,
    /// The application was given one.
    sent: bool,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<Key, Entry>,
    /// Every entry is once in one of the queues, with the time that it is looked at, which never goes down along a queue as
    /// long as the window stays the same.
    queues: HashMap<u64, VecDeque<(Key, u64)>>,
    serial: u32,
}

impl Table {
    /// The first delivery with the key, if this is not it; and what it counts under, unless it is refused.
    pub(super) fn arrive(
        &mut self,
        arrival: &Arrival,
        now: u64,
        bounds: &Bounds,
    ) -> (Option<Uuid>, Option<Serial>) {
        self.forget(arrival.caller, now, LOOKS);
        let until = now.saturating_add(bounds.window);
        if let Some(entry) = self.entries.get_mut(&arrival.key) {
            let again = entry.open > 0 || (entry.sent && entry.until > now);
            if again && entry.open > 0 && arrival.refuse {
                return (Some(entry.first), None);
            }
            if !again {
                entry.first = arrival.id;
                entry.sent = false;
            }
            entry.until = until;
            entry.open = entry.open.saturating_add(1);
            return (again.then_some(entry.first), Some(entry.serial));
        }
        while self.entries.len() >= bounds.keys.max(1) && self.push_out() {}
        self.serial = self.serial.wrapping_add(1);
        let serial = Serial(self.serial);
        let entry = Entry { first: arrival.id, until, serial, open: 1, sent: false };
        self.entries.insert(arrival.key, entry);
        self.queues.entry(arrival.caller).or_default().push_back((arrival.key, until));
        (None, Some(serial))
    }

    pub(super) fn sent(&mut self, key: Key, serial: Serial) {
        if let Some(entry) = self.entry(key, serial) {
            entry.sent = true;
        }
    }

    pub(super) fn over(&mut self, key: Key, serial: Serial) {
        if let Some(entry) = self.entry(key, serial) {
            entry.open = entry.open.saturating_sub(1);
        }
    }

    /// Forgets all that is too old.
    pub(super) fn tidy(&mut self, now: u64) {
        let callers: Vec<u64> = self.queues.keys().copied().collect();
        for caller in callers {
            self.forget(caller, now, usize::MAX);
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to_fit();
            self.queues.values_mut().for_each(VecDeque::shrink_to_fit);
        }
    }

    fn entry(&mut self, key: Key, serial: Serial) -> Option<&mut Entry> {
        self.entries.get_mut(&key).filter(|entry| entry.serial == serial)
    }

    fn forget(&mut self, caller: u64, now: u64, looks: usize) {
        let Some(queue) = self.queues.get_mut(&caller) else { return };
        for _look in 0..looks {
            let Some((key, _)) = queue.front().copied().filter(|(_, at)| *at <= now) else { return };
            queue.pop_front();
            match self.entries.get_mut(&key) {
                Some(entry) if entry.until > now => queue.push_back((key, entry.until)),
                Some(entry) if entry.open > 0 => {
                    entry.until = now.saturating_add(LINGER);
                    queue.push_back((key, entry.until));
                }
                _ => drop(self.entries.remove(&key)),
            }
        }
    }

    /// Forgets the oldest of the caller that holds most, whose last delivery counts. `false`: there is nothing.
    fn push_out(&mut self) -> bool {
        let Some(queue) = self.queues.values_mut().max_by_key(|queue| queue.len()) else { return false };
        while let Some((key, at)) = queue.pop_front() {
            match self.entries.get(&key) {
                // It came again since.
                Some(entry) if entry.until > at => queue.push_back((key, entry.until)),
                _ => {
                    self.entries.remove(&key);
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { window: 1000, keys: 4 };

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn arrival(key: u64, caller: u64, n: u128, refuse: bool) -> Arrival {
        Arrival { key: Key(key, key), caller, id: id(n), refuse }
    }

    /// What happens to one key: at a time, a request arrives (refused where another is under way), is sent, ends.
    #[derive(Clone, Copy, Debug)]
    enum Do {
        /// Its id, whether it would rather be refused; the expected first, and whether it is delivered.
        Arrive(u128, bool, Option<u128>, bool),
        Sent(u128),
        Over(u128),
    }

    #[test]
    fn a_request_is_known_again_while_it_is_under_way_and_for_its_window_once_it_was_sent() {
        use Do::{Arrive, Over, Sent};
        let rows: [(&str, &[(u64, Do)]); 8] = [
            (
                "twice within the window",
                &[
                    (0, Arrive(1, false, None, true)),
                    (1, Sent(1)),
                    (2, Over(1)),
                    (999, Arrive(2, false, Some(1), true)),
                ],
            ),
            (
                "after the window",
                &[
                    (0, Arrive(1, false, None, true)),
                    (1, Sent(1)),
                    (2, Over(1)),
                    (1000, Arrive(2, false, None, true)),
                ],
            ),
            (
                "never sent",
                &[(0, Arrive(1, false, None, true)), (2, Over(1)), (3, Arrive(2, false, None, true))],
            ),
            (
                "under way, only recorded",
                &[(0, Arrive(1, false, None, true)), (1, Sent(1)), (2, Arrive(2, false, Some(1), true))],
            ),
            (
                "under way, refused, and let in when the first is over",
                &[
                    (0, Arrive(1, true, None, true)),
                    (1, Sent(1)),
                    (2, Arrive(2, true, Some(1), false)),
                    (3, Over(1)),
                    (4, Arrive(3, true, Some(1), true)),
                    (5, Arrive(4, true, Some(1), false)),
                ],
            ),
            (
                "under way for longer than the window",
                &[(0, Arrive(1, true, None, true)), (1, Sent(1)), (5000, Arrive(2, true, Some(1), false))],
            ),
            (
                "the window begins anew with each delivery",
                &[
                    (0, Arrive(1, false, None, true)),
                    (0, Sent(1)),
                    (0, Over(1)),
                    (900, Arrive(2, false, Some(1), true)),
                    (900, Sent(2)),
                    (900, Over(2)),
                    (1800, Arrive(3, false, Some(1), true)),
                ],
            ),
            (
                "the second was sent, the first was not",
                &[
                    (0, Arrive(1, false, None, true)),
                    (1, Arrive(2, false, Some(1), true)),
                    (2, Over(1)),
                    (3, Sent(2)),
                    (4, Over(2)),
                    (5, Arrive(3, false, Some(1), true)),
                ],
            ),
        ];
        for (what, steps) in rows {
            let mut table = Table::default();
            let mut serials = HashMap::new();
            for (now, step) in steps {
                match *step {
                    Arrive(n, refuse, first, delivered) => {
                        let told = table.arrive(&arrival(7, 1, n, refuse), *now, &BOUNDS);
                        assert_eq!(
                            (told.0, told.1.is_some()),
                            (first.map(id), delivered),
                            "{what}: {step:?}"
                        );
                        serials.extend(told.1.map(|serial| (n, serial)));
                    }
                    Sent(n) => table.sent(Key(7, 7), serials[&n]),
                    Over(n) => table.over(Key(7, 7), serials[&n]),
                }
            }
        }
    }

    fn deliver(table: &mut Table, key: u64, caller: u64, now: u64) -> bool {
        let (first, serial) = table.arrive(&arrival(key, caller, key.into(), false), now, &BOUNDS);
        let serial = serial.unwrap();
        table.sent(Key(key, key), serial);
        table.over(Key(key, key), serial);
        first.is_some()
    }

    #[test]
    fn a_caller_that_fills_the_table_pushes_out_what_it_brought_itself() {
        let mut table = Table::default();
        assert!(!deliver(&mut table, 1, 1, 0));
        for key in 100..1100 {
            assert!(!deliver(&mut table, key, 2, 1));
            assert!(table.entries.len() <= 4);
        }
        assert!(deliver(&mut table, 1, 1, 2), "the other caller's is still known");
        assert!(deliver(&mut table, 1099, 2, 2) && !deliver(&mut table, 100, 2, 2));
    }

    #[test]
    fn what_came_again_is_not_the_oldest_any_more() {
        let mut table = Table::default();
        for key in 1..=4 {
            deliver(&mut table, key, 1, key);
        }
        assert!(deliver(&mut table, 1, 1, 10));
        assert!(!deliver(&mut table, 5, 1, 11), "pushes out 2");
        assert!(deliver(&mut table, 1, 1, 12) && !deliver(&mut table, 2, 1, 13));
    }

    #[test]
    fn the_end_of_a_delivery_that_was_pushed_out_does_not_end_another() {
        let mut table = Table::default();
        let one = Bounds { keys: 1, ..BOUNDS };
        let (_, old) = table.arrive(&arrival(1, 1, 1, true), 0, &one);
        table.arrive(&arrival(2, 1, 2, true), 0, &one);
        let (first, _) = table.arrive(&arrival(1, 1, 3, true), 0, &one);
        assert_eq!(first, None);
        table.over(Key(1, 1), old.unwrap());
        let (first, delivered) = table.arrive(&arrival(1, 1, 4, true), 0, &one);
        assert_eq!((first, delivered), (Some(id(3)), None), "it is under way still");
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_what_is_under_way_is_not() {
        let mut table = Table::default();
        let wide = Bounds { keys: 1000, ..BOUNDS };
        for key in 0..1000 {
            table.arrive(&arrival(key, key % 7, key.into(), false), 0, &wide);
        }
        table.tidy(1000);
        assert_eq!(table.entries.len(), 1000, "all of them are under way");
        for key in 1..1000 {
            let serial = table.entries[&Key(key, key)].serial;
            table.over(Key(key, key), serial);
        }
        table.tidy(1000 + LINGER);
        assert_eq!(table.entries.len(), 1);
        assert_eq!(table.queues.values().map(VecDeque::len).sum::<usize>(), 1);
        assert!(table.entries.capacity() < 100);
    }

    #[test]
    fn a_delivery_takes_what_the_documents_say() {
        // A table doubles when it is seven eighths full, a queue when it is full.
        let entry = size_of::<(Key, Entry)>() + 1;
        let slot = size_of::<(Key, u64)>();
        assert!(entry * 16 / 7 + slot * 2 <= 180, "{entry} {slot}");
    }
}
