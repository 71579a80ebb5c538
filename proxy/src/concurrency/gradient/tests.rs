use super::*;

const MS: Duration = Duration::from_millis(1);
const BOUNDS: AdaptiveConcurrency = AdaptiveConcurrency::DEFAULT;
const INTERVAL: Duration = Duration::from_secs(30);

/// An application that works at so many requests at once, and has the others wait; its callers want so many at once.
struct Application {
    workers: u32,
    work: Duration,
    wanted: u32,
}

impl Application {
    /// How long an answer takes with so many under way.
    fn latency(&self, under_way: u32) -> Duration {
        self.work * under_way.max(self.workers) / self.workers
    }

    /// A look in which enough answers came.
    fn seen(&self, gradient: &Gradient) -> Seen {
        let limit = gradient.limit();
        let under_way = self.wanted.min(limit);
        let median = self.latency(under_way);
        Seen {
            now: Some(median),
            quiet: (under_way <= gradient.bounds.min).then_some(median),
            busy: under_way > limit / 2,
            refused: self.wanted > limit,
        }
    }

    /// Looks ten times a second; gives the limit at the end, and how often nobody but a measurement was let in.
    fn drive(&self, gradient: &mut Gradient, from: &mut Instant, length: Duration) -> (u32, usize) {
        let end = *from + length;
        let mut measurements = 0;
        while *from < end {
            *from += 100 * MS;
            measurements += usize::from(gradient.look(*from, &self.seen(gradient)) == Turn::Measure);
        }
        (gradient.limit(), measurements)
    }
}

fn begun() -> (Gradient, Instant) {
    let now = Instant::now();
    (Gradient::new(BOUNDS, INTERVAL, now), now)
}

#[test]
fn what_an_application_keeps_up_with_is_never_in_the_way() {
    for wanted in [1, 3, 10, 60, 400] {
        let (mut gradient, mut now) = begun();
        let application = Application { workers: 500, work: 20 * MS, wanted };
        application.drive(&mut gradient, &mut now, Duration::from_secs(20));
        for _ in 0..600 {
            let (limit, measurements) = application.drive(&mut gradient, &mut now, 100 * MS);
            assert!(limit >= wanted && measurements == 0, "{wanted} wanted, {limit} let in");
        }
        assert_eq!(gradient.baseline(), Some(20 * MS));
    }
}

#[test]
fn latency_stays_near_the_baseline_whatever_comes() {
    for (workers, wanted) in [(1, 20), (2, 50), (4, 40), (10, 50), (10, 5_000), (100, 1_000)] {
        let (mut gradient, mut now) = begun();
        gradient.bounds.min = workers.min(3);
        let application = Application { workers, work: 20 * MS, wanted };
        let (limit, _) = application.drive(&mut gradient, &mut now, Duration::from_secs(20));
        let latency = application.latency(limit);
        assert!(limit >= workers, "{limit} let in leave some of {workers} workers idle");
        assert!(latency <= 60 * MS, "{workers} workers, {wanted} wanted: {limit} let in, {latency:?}");
    }
}

#[test]
fn an_application_that_is_slower_for_another_reason_is_measured_anew_at_once() {
    let (mut gradient, mut now) = begun();
    let mut application = Application { workers: 100, work: 20 * MS, wanted: 40 };
    application.drive(&mut gradient, &mut now, Duration::from_mins(1));
    application.work = 80 * MS;
    application.wanted = 160;
    let (_, measurements) = application.drive(&mut gradient, &mut now, Duration::from_secs(1));
    assert_eq!((gradient.baseline(), measurements), (Some(80 * MS), 1), "less to do did not make it faster");
    let (limit, measurements) = application.drive(&mut gradient, &mut now, Duration::from_secs(4));
    assert!(limit >= 100 && measurements == 0, "{limit}");
}

#[test]
fn one_with_too_much_to_do_is_not_measured_for_that() {
    let (mut gradient, mut now) = begun();
    let mut application = Application { workers: 10, work: 20 * MS, wanted: 10 };
    application.drive(&mut gradient, &mut now, Duration::from_mins(1));
    application.wanted = 500;
    let (limit, measurements) = application.drive(&mut gradient, &mut now, Duration::from_millis(2900));
    assert!(measurements == 0 && limit < 20, "{limit}");
}

#[test]
fn nothing_is_measured_more_often_than_it_may_be() {
    let (mut gradient, mut now) = begun();
    let application = Application { workers: 10, work: 20 * MS, wanted: 500 };
    let (_, measurements) = application.drive(&mut gradient, &mut now, Duration::from_mins(5));
    assert!((9..=10).contains(&measurements), "{measurements} in five minutes");
}

#[test]
fn a_moment_of_refusals_is_no_reason_to_doubt_the_baseline() {
    let (mut gradient, mut now) = begun();
    let quiet = Application { workers: 10, work: 20 * MS, wanted: 3 };
    quiet.drive(&mut gradient, &mut now, Duration::from_mins(1));
    for _ in 0..60 {
        let burst = Application { wanted: 500, ..quiet };
        assert_eq!(burst.drive(&mut gradient, &mut now, Duration::from_secs(1)).1, 0);
        assert_eq!(quiet.drive(&mut gradient, &mut now, 1500 * MS).1, 0);
    }
}

#[test]
fn a_measurement_ends_though_no_answer_comes() {
    let (mut gradient, mut now) = begun();
    let full = Seen { busy: true, refused: true, ..Seen::default() };
    for _ in 0..30 {
        assert_eq!(gradient.look(now, &full), Turn::Nothing);
        now += 100 * MS;
    }
    assert_eq!(gradient.look(now, &full), Turn::Measure);
    assert_eq!(gradient.limit(), BOUNDS.min);
    assert_eq!(gradient.look(now + 1999 * MS, &full), Turn::Nothing);
    assert_eq!(gradient.look(now + 2000 * MS, &full), Turn::Limit);
    assert_eq!((gradient.limit(), gradient.baseline()), (20, None));
}

#[test]
fn a_new_process_has_ten_seconds_to_see_how_fast_the_application_is_by_itself() {
    let (mut gradient, mut now) = begun();
    let application = Application { workers: 10, work: 20 * MS, wanted: 20 };
    let (_, measurements) = application.drive(&mut gradient, &mut now, 9900 * MS);
    assert_eq!((measurements, gradient.baseline()), (0, Some(40 * MS)), "a guess");
    let (limit, measurements) = application.drive(&mut gradient, &mut now, Duration::from_secs(5));
    assert_eq!((measurements, gradient.baseline()), (1, Some(20 * MS)));
    assert!(limit < 20, "{limit}");

    let (mut gradient, mut now) = begun();
    Application { wanted: 2, ..application }.drive(&mut gradient, &mut now, Duration::from_secs(1));
    assert_eq!(application.drive(&mut gradient, &mut now, Duration::from_secs(2)).1, 0);
    assert_eq!(application.drive(&mut gradient, &mut now, Duration::from_secs(15)).1, 1, "for turning away");
}

#[test]
fn answers_may_take_seconds() {
    let (mut gradient, mut now) = begun();
    let application = Application { workers: 500, work: Duration::from_secs(2), wanted: 200 };
    let (limit, _) = application.drive(&mut gradient, &mut now, Duration::from_mins(1));
    assert!(limit >= 200, "{limit}");
}

#[test]
fn requests_that_cost_nothing_lower_the_baseline_bit_by_bit() {
    let (mut gradient, mut now) = begun();
    let application = Application { workers: 100, work: 20 * MS, wanted: 200 };
    application.drive(&mut gradient, &mut now, Duration::from_secs(2));
    while gradient.look(now, &application.seen(&gradient)) != Turn::Measure {
        now += 100 * MS;
    }
    let before = gradient.baseline().unwrap();
    // Somebody fills the measurement with what takes no time.
    gradient.certain = true;
    gradient.look(now, &Seen { quiet: Some(MS), ..Seen::default() });
    assert_eq!(gradient.baseline(), Some(before / 5 * 4));
    let (limit, _) = application.drive(&mut gradient, &mut now, Duration::from_secs(20));
    assert!(limit >= 60, "{limit}");
}

#[test]
fn one_burst_a_second_is_no_reason_to_measure() {
    let (mut gradient, mut now) = begun();
    (gradient.baseline, gradient.certain) = (Some(20 * MS), true);
    for look in 0..600 {
        now += 100 * MS;
        let seen = Seen { now: Some(20 * MS), refused: look % 10 == 0, ..Seen::default() };
        assert_ne!(gradient.look(now, &seen), Turn::Measure);
    }
}

#[test]
fn the_rule_as_a_table() {
    // Limit, baseline, median, busy; what becomes of the limit. All in milliseconds.
    let rows = [
        (100, 20, 20, true, 110),
        (100, 20, 20, false, 100),
        (100, 20, 30, true, 110),
        (100, 20, 60, true, 57),
        (100, 20, 60, false, 100),
        (100, 20, 5_000, true, 50),
        (1000, 20, 20, true, 1000),
        (5, 20, 5_000, true, 3),
        (3, 20, 5_000, true, 3),
        (4, 0, 1, true, 6),
    ];
    for (limit, baseline, median, busy, expected) in rows {
        let (mut gradient, now) = begun();
        gradient.limit = limit;
        gradient.baseline = Some(baseline * MS);
        gradient.look(now, &Seen { now: Some(median * MS), busy, ..Seen::default() });
        assert_eq!(gradient.limit(), expected, "{limit} {baseline} {median} {busy}");
    }
}

#[test]
fn nothing_that_can_be_seen_leads_out_of_the_bounds() {
    let bounds = AdaptiveConcurrency { min: 2, max: 7 };
    let mut now = Instant::now();
    let mut gradient = Gradient::new(bounds, INTERVAL, now);
    let lengths = [Duration::ZERO, MS, Duration::from_hours(1), Duration::MAX / 8];
    let mut number = 0_usize;
    for _ in 0..10_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = |shift: u32| lengths.get(number >> shift & 7).copied();
        now += 100 * MS;
        let seen = Seen {
            now: length(20),
            quiet: length(30),
            busy: number >> 40 & 1 == 0,
            refused: number >> 41 & 1 == 0,
        };
        gradient.look(now, &seen);
        assert!((2..=7).contains(&gradient.limit()));
    }
}

#[test]
fn what_gets_slower_bit_by_bit_for_another_reason_is_noticed_too() {
    let (mut gradient, mut now) = begun();
    (gradient.baseline, gradient.certain, gradient.limit) = (Some(20 * MS), true, 100);
    // However little it is given: each step lowers the limit by less than a quarter.
    let mut measured = false;
    for look in 0..8 {
        now += 100 * MS;
        measured |= gradient.look(now, &Seen { now: Some((33 + look) * MS), busy: true, ..Seen::default() })
            == Turn::Measure;
    }
    assert!(measured, "{}", gradient.limit());
}

#[test]
fn a_measurement_that_brings_nothing_is_not_made_again_and_again() {
    let (mut gradient, mut now) = begun();
    let (begin, mut measuring) = (now, 0);
    while now < begin + Duration::from_mins(10) {
        now += 100 * MS;
        // Answers of five seconds: none comes in a measurement that nothing was under way beside.
        let seen = Seen {
            now: Some(Duration::from_secs(5)).filter(|_| !gradient.is_measuring()),
            ..Seen::default()
        };
        gradient.look(now, &seen);
        measuring += u32::from(gradient.is_measuring());
    }
    assert!(measuring <= 100, "{measuring} tenths of a second");
}

#[test]
fn slow_answers_are_measured_for_a_tenth_of_the_time_at_most() {
    let (mut gradient, mut now) = begun();
    (gradient.baseline, gradient.certain) = (Some(Duration::from_secs(5)), true);
    let mut measuring = 0;
    for _ in 0..6_000 {
        now += 100 * MS;
        gradient.look(now, &Seen { refused: true, busy: true, ..Seen::default() });
        measuring += u32::from(gradient.is_measuring());
    }
    assert!((100..=600).contains(&measuring), "{measuring} tenths of a second of ten minutes");
}
