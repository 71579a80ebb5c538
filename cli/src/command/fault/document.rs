//! A FaultExperiment as a person would write it.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use palisade_policy::document::{duration, time};
use palisade_policy::experiment::DelayLength;
use palisade_policy::kind::fault_experiment::{FaultSpec, ResponseFault, SlowBody};
use palisade_policy::kind::virtual_service::fault::AbortStatus;
use serde_json::Value;

use super::options::Requests;

/// All that the document says.
pub(super) struct Wanted<'w> {
    pub(super) name: &'w str,
    pub(super) namespace: &'w str,
    pub(super) callers: &'w [String],
    pub(super) hosts: &'w [String],
    pub(super) requests: &'w Requests,
    pub(super) starts_at: SystemTime,
    pub(super) duration: Duration,
    pub(super) fault: &'w FaultSpec,
}

pub(super) fn write(wanted: &Wanted<'_>) -> String {
    let Wanted { name, namespace, callers, hosts, requests, starts_at, duration, fault } = wanted;
    let mut text = "apiVersion: palisade.mesh/v1\nkind: FaultExperiment\n".to_owned();
    let mut line = |words: String| {
        let _infallible = writeln!(text, "{words}");
    };
    line(format!("metadata: {{name: {}, namespace: {}}}", quoted(name), quoted(namespace)));
    line("spec:".to_owned());
    line(format!("  callers: {}", list(callers)));
    line(format!("  hosts: {}", list(hosts)));
    if !requests.port.is_empty() {
        let ports: Vec<String> = requests.port.iter().map(u16::to_string).collect();
        line(format!("  ports: [{}]", ports.join(", ")));
    }
    let matches = matches(requests);
    if !matches.is_empty() {
        line(format!("  match:\n  - {}", matches.join("\n    ")));
    }
    line(format!("  startsAt: {}", time::write(*starts_at)));
    line(format!("  duration: {}", duration::write(*duration)));
    line(format!("  percentage: {{value: {}}}", requests.percent));
    if let Some(max_active) = requests.max_active {
        line(format!("  maxActive: {max_active}"));
    }
    let parts = parts(fault);
    match parts.is_empty() {
        true => line("  fault: {}".to_owned()),
        false => line(format!("  fault:\n    {}", parts.join("\n    "))),
    }
    text
}

fn matches(requests: &Requests) -> Vec<String> {
    let Requests { method, path, header, .. } = requests;
    let headers = header.iter().map(|(name, value)| {
        format!("{}: {}", quoted(name.as_str()), quoted(value.to_str().unwrap_or_default()))
    });
    let headers: Vec<String> = headers.collect();
    let fields = [
        (!method.is_empty()).then(|| format!("methods: {}", list(method))),
        (!path.is_empty()).then(|| format!("paths: {}", list(path))),
        (!headers.is_empty()).then(|| format!("headers: {{{}}}", headers.join(", "))),
    ];
    fields.into_iter().flatten().collect()
}

fn parts(fault: &FaultSpec) -> Vec<String> {
    let FaultSpec { delay, abort, reset, response } = fault;
    let delay = delay.as_ref().map(|delay| match *delay {
        DelayLength::Fixed(length) => format!("delay: {{fixed: {}}}", duration::write(length)),
        DelayLength::Uniform { min, max } => {
            let (min, max) = (duration::write(min), duration::write(max));
            format!("delay: {{uniform: {{min: {min}, max: {max}}}}}")
        }
        DelayLength::Exponential { mean, max } => {
            let (mean, max) = (duration::write(mean), duration::write(max));
            format!("delay: {{exponential: {{mean: {mean}, max: {max}}}}}")
        }
    });
    let abort = abort.as_ref().map(|abort| match abort {
        AbortStatus::Http(status) => format!("abort: {{httpStatus: {status}}}"),
        AbortStatus::Grpc(name) => format!("abort: {{grpcStatus: {}}}", quoted(name)),
    });
    let reset = reset.then(|| "reset: {}".to_owned());
    let response = of_response(response);
    let response = (!response.is_empty()).then(|| format!("response: {{{}}}", response.join(", ")));
    [delay, abort, reset, response].into_iter().flatten().collect()
}

fn of_response(response: &ResponseFault) -> Vec<String> {
    let ResponseFault { drop, truncate_after, slow, bandwidth } = response;
    let slow = slow.as_ref().map(|SlowBody { every_bytes, pause }| {
        format!("slow: {{everyBytes: {every_bytes}, pause: {}}}", duration::write(*pause))
    });
    let parts = [
        drop.then(|| "drop: {}".to_owned()),
        truncate_after.map(|bytes| format!("truncate: {{afterBytes: {bytes}}}")),
        slow,
        bandwidth.map(|bytes| format!("bandwidth: {{bytesPerSecond: {bytes}}}")),
    ];
    parts.into_iter().flatten().collect()
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", values.join(", "))
}

/// As JSON writes a text, which YAML reads alike; names stand as they are.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use palisade_policy::document::{SourceFile, parse};
    use palisade_policy::kind::{FaultExperimentSpec, Spec};

    use super::*;

    fn requests() -> Requests {
        Requests {
            port: Vec::new(),
            method: Vec::new(),
            path: Vec::new(),
            header: Vec::new(),
            percent: "100".to_owned(),
            max_active: None,
        }
    }

    fn written(requests: &Requests, fault: &FaultSpec) -> String {
        write(&Wanted {
            name: "payments-ledger",
            namespace: "payments",
            callers: &["corp.example/ns/payments/sa/payments".to_owned(), "*/sa/web".to_owned()],
            hosts: &["ledger.payments".to_owned()],
            requests,
            starts_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_040_000),
            duration: Duration::from_secs(300),
            fault,
        })
    }

    #[track_caller]
    fn read(text: &str) -> FaultExperimentSpec {
        let (objects, findings) = parse(&[SourceFile { name: "test.yaml".into(), text: text.into() }]);
        assert!(!findings.has_errors(), "{findings}\n{text}");
        match objects.into_iter().next().unwrap().spec {
            Spec::FaultExperiment(spec) => spec,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_document_reads_as_a_person_would_write_it() {
        let fault = FaultSpec {
            delay: Some(DelayLength::Fixed(Duration::from_secs(2))),
            response: ResponseFault { drop: true, ..ResponseFault::default() },
            ..FaultSpec::default()
        };
        let asked = Requests {
            port: vec![8080],
            method: vec!["POST".into()],
            path: vec!["/transfers/*".into()],
            header: vec![(http::HeaderName::from_static("x-fault-test"), "abc".parse().unwrap())],
            percent: "12.5".to_owned(),
            max_active: Some(20),
        };
        let expected = "\
apiVersion: palisade.mesh/v1
kind: FaultExperiment
metadata: {name: payments-ledger, namespace: payments}
spec:
  callers: [corp.example/ns/payments/sa/payments, \"*/sa/web\"]
  hosts: [ledger.payments]
  ports: [8080]
  match:
  - methods: [\"POST\"]
    paths: [\"/transfers/*\"]
    headers: {x-fault-test: abc}
  startsAt: 2026-11-30T12:00:00Z
  duration: 5m
  percentage: {value: 12.5}
  maxActive: 20
  fault:
    delay: {fixed: 2s}
    response: {drop: {}}
";
        assert_eq!(written(&asked, &fault), expected);
        let spec = read(expected);
        assert_eq!(
            (spec.share_ppm, spec.max_active, spec.ports, spec.fault),
            (125_000, Some(20), vec![8080], fault)
        );
    }

    #[test]
    fn every_fault_is_written_so_that_it_is_read_again() {
        let ms = Duration::from_millis;
        let response = |response: ResponseFault| FaultSpec { response, ..FaultSpec::default() };
        let faults = [
            FaultSpec {
                delay: Some(DelayLength::Uniform { min: ms(1), max: ms(1500) }),
                abort: Some(AbortStatus::Http(503)),
                ..FaultSpec::default()
            },
            FaultSpec {
                delay: Some(DelayLength::Exponential { mean: ms(500), max: ms(3_600_000) }),
                abort: Some(AbortStatus::Grpc("UNAVAILABLE".into())),
                ..FaultSpec::default()
            },
            FaultSpec { reset: true, ..FaultSpec::default() },
            response(ResponseFault {
                truncate_after: Some(0),
                slow: Some(SlowBody { every_bytes: 10, pause: ms(200) }),
                ..ResponseFault::default()
            }),
            response(ResponseFault { bandwidth: Some(10_240), ..ResponseFault::default() }),
        ];
        for fault in faults {
            assert_eq!(read(&written(&requests(), &fault)).fault, fault);
        }
    }

    #[test]
    fn what_is_given_cannot_break_out_of_its_place() {
        let nasty = "x\", y: \"z']\n# \u{7}no";
        let asked = Requests { path: vec![format!("/{nasty}")], ..requests() };
        let fault = FaultSpec { reset: true, ..FaultSpec::default() };
        let text = written(&asked, &fault);
        assert_eq!(read(&text).matches[0].request.paths, [format!("/{nasty}")]);
        let reserved = Requests { method: vec!["NO".into(), "null".into()], ..requests() };
        let (objects, _) = parse(&[SourceFile { name: "t".into(), text: written(&reserved, &fault) }]);
        let Some(Spec::FaultExperiment(spec)) = objects.into_iter().next().map(|o| o.spec) else { panic!() };
        assert_eq!(spec.matches[0].request.methods, ["NO", "null"]);
    }
}
