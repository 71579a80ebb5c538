//! The report as one page: nothing is fetched, no script runs, and whatever stands in a document is text.

mod chart;

use std::fmt::Write as _;

use super::{Report, StepReport, Verdict};
use crate::judge::shown;
use chart::Chart;

const STYLE: &str = "
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --line: #0969da; --other: #8250df; --band: #d4a72c33; --grid: #8884; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --line: #58a6ff; --other: #bc8cff; --band: #d2992233; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-top: 1px solid var(--grid); }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
ul { margin: 0; padding-left: 1.1rem; } svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
.grid { stroke: var(--grid); } .band { fill: var(--band); } .end { stroke: var(--good); stroke-dasharray: 4 3; }
.a, .b { fill: none; stroke-width: 1.5; } .a { stroke: var(--line); } .b { stroke: var(--other); } .key-a { fill: var(--line); } .key-b { fill: var(--other); }
";

/// A page of its own.
pub fn html(report: &Report) -> String {
    let name = escaped(&report.rehearsal);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Rehearsal {name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    );
    head(&mut out, report);
    table(&mut out, report);
    for chart in charts(report).iter().filter(|chart| chart.has_values()) {
        chart.render(&mut out, report);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn head(out: &mut String, report: &Report) {
    let class = class(report.verdict == Verdict::Held);
    let (name, verdict) = (escaped(&report.rehearsal), report.verdict.name());
    let _infallible = writeln!(out, "<h1>Rehearsal {name}: <span class=\"{class}\">{verdict}</span></h1>");
    for why in &report.why {
        let _infallible = writeln!(out, "<p class=\"bad\">{}</p>", escaped(why));
    }
    if let Some(steady) = &report.steady {
        let _infallible =
            writeln!(out, "<p>Steady state before anything was broken: {}.</p>", escaped(&steady.line()));
    }
    let whole = report.whole.line();
    let _infallible = writeln!(out, "<p>All in all: {}, in {}.</p>", escaped(&whole), shown(report.length));
    if let Some(late) = report.generator_late {
        let _infallible =
            writeln!(out, "<p>Requests were sent up to {} late; latencies hold that.</p>", shown(late));
    }
}

fn table(out: &mut String, report: &Report) {
    out.push_str("<table>\n<tr><th>Step</th><th></th><th>What was seen</th></tr>\n");
    for (number, step) in (1..).zip(&report.steps) {
        row(out, number, step);
    }
    for name in &report.not_played {
        let _infallible = writeln!(out, "<tr><td>{}</td><td>not played</td><td></td></tr>", escaped(name));
    }
    out.push_str("</table>\n");
}

fn row(out: &mut String, number: usize, step: &StepReport) {
    let (class, word) = (class(step.held()), step.word());
    let (name, facts) = (escaped(&step.name), escaped(&step.facts()));
    let _infallible =
        write!(out, "<tr><td>{number}. {name}</td><td class=\"{class}\">{word}</td><td>{facts}");
    let failures = step.window.as_ref().map(|window| window.failures_line()).unwrap_or_default();
    let breaker = step.opened.as_ref().map(|opened| {
        let what = &opened.what;
        format!("breaker: {} at {}, {}", what.cluster, what.proxy, what.cause)
    });
    let failures = (!failures.is_empty()).then(|| format!("failed: {failures}"));
    let lines = step.breaches.iter().map(|breach| (true, breach.to_string()));
    let lines: Vec<_> = lines.chain(breaker.into_iter().chain(failures).map(|line| (false, line))).collect();
    if !lines.is_empty() {
        out.push_str("<ul>");
        for (bad, line) in lines {
            let class = if bad { " class=\"bad\"" } else { "" };
            let _infallible = write!(out, "<li{class}>{}</li>", escaped(&line));
        }
        out.push_str("</ul>");
    }
    out.push_str("</td></tr>\n");
}

fn charts(report: &Report) -> Vec<Chart> {
    let points = &report.points;
    let of = |value: &dyn Fn(&super::plot::Point) -> Option<f64>| -> Vec<Option<f64>> {
        points.iter().map(value).collect()
    };
    let share = |p: &super::plot::Point| {
        let (succeeded, all) =
            (u32::try_from(p.succeeded).ok()?, u32::try_from(p.succeeded + p.failed).ok()?);
        (all > 0).then(|| 100.0 * f64::from(succeeded) / f64::from(all))
    };
    let count = |n: u64| u32::try_from(n).ok().map(f64::from);
    vec![
        Chart::percent("Succeeded, %", of(&share)),
        Chart::latency(
            "Latency from when a request was due",
            of(&|p| p.p50.map(|p50| p50.as_secs_f64())),
            of(&|p| p.p99.map(|p99| p99.as_secs_f64())),
        ),
        Chart::count("Requests under way", of(&|p| p.in_flight.and_then(count))),
        Chart::count("Duplicate deliveries so far", of(&|p| count(p.counts.duplicate_deliveries))),
        Chart::count("Tries after the first so far", of(&|p| count(p.counts.retries))),
    ]
}

fn class(good: bool) -> &'static str {
    if good { "good" } else { "bad" }
}

/// Text of a page or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
