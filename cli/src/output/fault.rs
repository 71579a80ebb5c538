//! Experiments as they are shown.

use std::time::{Duration, SystemTime};

use palisade_identity::SpiffeId;
use palisade_policy::describe::{
    experiment_item as item, experiment_requests as requests, fault_words as words, percent,
};
use palisade_policy::document::{duration, time};
use palisade_policy::kind::FaultExperimentSpec;
use serde_json::{Value, json};

use super::{count, printable, table};

pub(crate) struct Experiment {
    /// `namespace/name`.
    pub(crate) id: String,
    pub(crate) spec: FaultExperimentSpec,
}

/// Where an experiment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    StartsIn(Duration),
    EndsIn(Duration),
    Ended(Duration),
}

impl Experiment {
    fn state(&self, now: SystemTime) -> State {
        let (starts_at, ends_at) = (self.spec.starts_at, self.spec.ends_at());
        match (starts_at.duration_since(now), ends_at.duration_since(now)) {
            (Ok(left), _) if !left.is_zero() => State::StartsIn(left),
            (_, Ok(left)) if !left.is_zero() => State::EndsIn(left),
            _ => State::Ended(now.duration_since(ends_at).unwrap_or_default()),
        }
    }

    pub(crate) fn to_json(&self, now: SystemTime) -> Value {
        let FaultExperimentSpec { callers, hosts, ports, matches, starts_at, duration, .. } = &self.spec;
        let state = match self.state(now) {
            State::StartsIn(_) => "scheduled",
            State::EndsIn(_) => "on",
            State::Ended(_) => "over",
        };
        json!({
            "id": self.id,
            "callers": callers,
            "hosts": hosts,
            "ports": ports,
            "requests": matches.iter().map(item).collect::<Vec<_>>(),
            "fault": words(&self.spec.fault),
            "percent": f64::from(self.spec.share_ppm) / 10_000.0,
            "max_active": self.spec.max_active,
            "starts_at": time::write(*starts_at),
            "ends_at": time::write(self.spec.ends_at()),
            "duration": duration::write(*duration),
            "state": state,
        })
    }
}

pub(crate) fn rows(experiments: &[Experiment], now: SystemTime) -> String {
    let head = ["EXPERIMENT", "CALLERS", "HOSTS", "REQUESTS", "FAULT", "PERCENT", "STATE"];
    let row = |experiment: &Experiment| {
        let spec = &experiment.spec;
        [
            experiment.id.clone(),
            spec.callers.join(" "),
            spec.hosts.join(" "),
            requests(spec),
            words(&spec.fault),
            percent(spec.share_ppm.into()),
            match experiment.state(now) {
                State::StartsIn(left) => format!("starts in {}", rough(left)),
                State::EndsIn(left) => format!("ends in {}", rough(left)),
                State::Ended(since) => format!("ended {} ago", rough(since)),
            },
        ]
    };
    table(head, experiments.iter().map(row))
}

/// What is done, to whom, until when, and how it is stopped.
pub(crate) fn injected(
    experiment: &Experiment,
    lasts: &str,
    reaches: &[(SpiffeId, usize)],
    stop: &str,
) -> String {
    let Experiment { id, spec } = experiment;
    let reached: Vec<String> = reaches
        .iter()
        .map(|(id, instances)| format!("{} ({})", id.principal(), count(*instances, "instance")))
        .collect();
    let reached = match reached.is_empty() {
        true => "nobody that has joined".to_owned(),
        false => reached.join(", "),
    };
    let share = format!(
        "{}%, at most {} at once in each proxy",
        percent(spec.share_ppm.into()),
        spec.max_active.unwrap_or(100)
    );
    let lines = [
        ("experiment", id.clone()),
        ("callers", spec.callers.join(", ")),
        ("reaches", reached),
        ("hosts", spec.hosts.join(", ")),
        ("requests", requests(spec)),
        ("fault", words(&spec.fault)),
        ("share", share),
        ("until", format!("{}, in {lasts}", time::write(spec.ends_at()))),
        ("stop", stop.to_owned()),
    ];
    let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name:<11} {value}")).collect();
    printable(&lines.join("\n"))
}

/// The two largest units; what is under way has at least a second left.
fn rough(time: Duration) -> String {
    let seconds = time.as_secs().max(1);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {}s", seconds % 60),
        (1..48, _) => format!("{hours}h {minutes}m"),
        _ => format!("{}d {}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use palisade_policy::document::{SourceFile, parse};
    use palisade_policy::kind::Spec;

    use super::*;

    fn experiment(rest: &str) -> Experiment {
        let text = format!(
            "apiVersion: palisade.mesh/v1\nkind: FaultExperiment\nmetadata: {{name: slow, namespace: payments}}\nspec: \
             {{callers: [corp.example/ns/payments/sa/payments], hosts: [ledger], startsAt: 2026-11-30T12:00:00Z, duration: \
             5m, {rest}}}\n"
        );
        let (objects, findings) = parse(&[SourceFile { name: "t".into(), text }]);
        assert!(!findings.has_errors(), "{findings}");
        let Some(Spec::FaultExperiment(spec)) = objects.into_iter().next().map(|o| o.spec) else { panic!() };
        Experiment { id: "payments/slow".to_owned(), spec }
    }

    fn at(text: &str) -> SystemTime {
        time::parse(text).unwrap()
    }

    #[test]
    fn a_row_says_who_what_and_until_when() {
        let rest = "ports: [80, 81], percentage: {value: 12.5}, match: [{methods: [POST, PUT], paths: ['/a/*'], headers: {x-t: \
                    abc}}, {routes: [pay]}], fault: {delay: {uniform: {min: 1s, max: 3s}}, response: {truncate: {afterBytes: 9}}}";
        let shown = rows(&[experiment(rest)], at("2026-11-30T12:00:48Z"));
        let row: Vec<&str> =
            shown.lines().nth(1).unwrap().split("  ").filter(|cell| !cell.is_empty()).collect();
        let row: Vec<&str> = row.into_iter().map(str::trim).collect();
        let expected = [
            "payments/slow",
            "corp.example/ns/payments/sa/payments",
            "ledger",
            "POST|PUT /a/* with x-t: abc or any on route pay on 80 81",
            "delay 1s to 3s, body ends after 9 B",
            "12.5",
            "ends in 4m 12s",
        ];
        assert_eq!(row, expected);
    }

    #[test]
    fn an_experiment_is_scheduled_on_or_over() {
        let one = experiment("fault: {reset: {}}");
        let rows = [
            ("2026-11-30T11:59:59Z", "scheduled", State::StartsIn(Duration::from_secs(1))),
            ("2026-11-30T12:00:00Z", "on", State::EndsIn(Duration::from_secs(300))),
            ("2026-11-30T12:04:59.999Z", "on", State::EndsIn(Duration::from_millis(1))),
            ("2026-11-30T12:05:00Z", "over", State::Ended(Duration::ZERO)),
            ("2026-12-02T12:05:00Z", "over", State::Ended(Duration::from_secs(48 * 3600))),
        ];
        for (now, word, state) in rows {
            assert_eq!(
                (one.state(at(now)), one.to_json(at(now))["state"].as_str()),
                (state, Some(word)),
                "{now}"
            );
        }
    }

    #[test]
    fn every_fault_has_its_words() {
        let rows = [
            ("{delay: {fixed: 1500ms}, abort: {httpStatus: 503}}", "delay 1500ms, abort 503"),
            ("{delay: {exponential: {mean: 500ms, max: 5s}}}", "delay 500ms on average, 5s at most"),
            ("{abort: {grpcStatus: UNAVAILABLE}}", "abort UNAVAILABLE"),
            ("{reset: {}}", "reset"),
            ("{response: {drop: {}}}", "answer lost"),
            ("{response: {slow: {everyBytes: 1024, pause: 200ms}}}", "body pauses 200ms every 1024 B"),
            ("{response: {bandwidth: {bytesPerSecond: 10240}}}", "body at 10240 B/s"),
        ];
        for (fault, expected) in rows {
            assert_eq!(words(&experiment(&format!("fault: {fault}")).spec.fault), expected);
        }
    }

    #[test]
    fn times_are_told_in_two_units() {
        let times = [0, 59, 60, 3599, 3600, 172_799, 172_800].map(|s| rough(Duration::from_secs(s)));
        assert_eq!(times, ["1s", "59s", "1m 0s", "59m 59s", "1h 0m", "47h 59m", "2d 0h"]);
    }
}
