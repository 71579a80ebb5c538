//! Curves over the time of a rehearsal, in SVG.

use std::fmt::Write as _;
use std::time::Duration;

use super::escaped;
use crate::judge::shown;
use crate::report::Report;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 22.0;
/// Lines across.
const TICKS: u32 = 4;

/// How a value becomes a height.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// From nothing to this.
    Linear(f64),
    /// Powers of ten of a second: latencies of one rehearsal lie far apart.
    Powers { from: i32, to: i32 },
}

impl Scale {
    /// 0 at the bottom, 1 at the top.
    fn height(self, value: f64) -> f64 {
        let height = match self {
            Self::Linear(max) => value / max,
            Self::Powers { from, to } => (value.max(1e-9).log10() - f64::from(from)) / f64::from(to - from),
        };
        height.clamp(0.0, 1.0)
    }

    fn ticks(self) -> Vec<(f64, String)> {
        match self {
            Self::Linear(max) => {
                let tick = |n| max * f64::from(n) / f64::from(TICKS);
                (0..=TICKS).map(|n| (tick(n), short(tick(n)))).collect()
            }
            Self::Powers { from, to } => {
                let tick = |power| 10_f64.powi(power);
                (from..=to).map(|power| (tick(power), shown(Duration::from_secs_f64(tick(power))))).collect()
            }
        }
    }
}

/// A number without decimals that say nothing.
fn short(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Values by second.
type Values = Vec<Option<f64>>;

#[derive(Debug)]
pub(super) struct Chart {
    title: &'static str,
    scale: Scale,
    /// With a name each, where there are several.
    curves: Vec<(&'static str, Values)>,
}

impl Chart {
    pub(super) fn percent(title: &'static str, values: Values) -> Self {
        Self { title, scale: Scale::Linear(100.0), curves: vec![("", values)] }
    }

    pub(super) fn count(title: &'static str, values: Values) -> Self {
        let most = values.iter().flatten().fold(0.0_f64, |most, value| most.max(*value));
        // A multiple of the ticks, so that they are whole.
        let step = f64::from(TICKS);
        Self { title, scale: Scale::Linear((most / step).ceil().max(1.0) * step), curves: vec![("", values)] }
    }

    pub(super) fn latency(title: &'static str, p50: Values, p99: Values) -> Self {
        let most = p99.iter().flatten().fold(0.01_f64, |most, value| most.max(*value));
        let to = (-2..=4).find(|power| 10_f64.powi(*power) >= most).unwrap_or(4);
        Self { title, scale: Scale::Powers { from: -4, to }, curves: vec![("p50", p50), ("p99", p99)] }
    }

    /// Whether there is anything to see.
    pub(super) fn has_values(&self) -> bool {
        self.curves.iter().any(|(_, values)| values.iter().any(Option::is_some))
    }

    pub(super) fn render(&self, out: &mut String, report: &Report) {
        let title = escaped(self.title);
        let _infallible = writeln!(
            out,
            "<h2>{title}</h2>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
        );
        let across = Across::of(report);
        bands(out, report, &across);
        self.grid(out, &across);
        for ((name, values), (class, row)) in self.curves.iter().zip([("a", 0_u8), ("b", 1)]) {
            self.curve(out, values, class, &across);
            if !name.is_empty() {
                let x = WIDTH - RIGHT - 30.0 * f64::from(2 - row);
                let _infallible =
                    writeln!(out, "<text class=\"key-{class}\" x=\"{x}\" y=\"12\">{name}</text>");
            }
        }
        out.push_str("</svg>\n");
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.scale.height(value) * (HEIGHT - BOTTOM - TOP)
    }

    fn grid(&self, out: &mut String, across: &Across) {
        for (value, label) in self.scale.ticks() {
            let (y, to) = (self.y(value), WIDTH - RIGHT);
            let _infallible = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{to}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                y + 4.0,
            );
        }
        for n in 0..=TICKS {
            let seconds = across.length * f64::from(n) / f64::from(TICKS);
            let (x, y) = (across.x(seconds), HEIGHT - 6.0);
            let _infallible =
                writeln!(out, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{seconds:.0} s</text>");
        }
    }

    /// A line through the middles of the seconds, broken where there is no value.
    fn curve(&self, out: &mut String, values: &Values, class: &str, across: &Across) {
        let mut path = String::new();
        let mut pen = 'M';
        for (value, second) in values.iter().zip(0_u32..) {
            let Some(value) = value else {
                pen = 'M';
                continue;
            };
            let (x, y) = (across.x(f64::from(second) + 0.5), self.y(*value));
            // A point alone is a short stroke.
            let dot = if pen == 'M' { "h.1" } else { "" };
            let _infallible = write!(path, "{pen}{x:.1} {y:.1}{dot}");
            pen = 'L';
        }
        let _infallible = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
    }
}

/// Time as a place from left to right.
struct Across {
    length: f64,
}

impl Across {
    fn of(report: &Report) -> Self {
        Self { length: report.length.as_secs_f64().max(1.0) }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds / self.length).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

/// Steps, and when the system had recovered.
fn bands(out: &mut String, report: &Report, across: &Across) {
    for (step, number) in report.steps.iter().zip(1..) {
        let (from, to) = (across.x(step.begin.as_secs_f64()), across.x(step.end.as_secs_f64()));
        let (name, height) = (escaped(&step.name), HEIGHT - BOTTOM - TOP);
        let _infallible = writeln!(
            out,
            "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{height}\"><title>{name}</title></rect>\
             <text x=\"{:.1}\" y=\"{:.1}\">{number}</text>",
            to - from,
            from + 3.0,
            TOP + 11.0,
        );
        if let Some(after) = step.recovered_after {
            let x = across.x((step.end + after).as_secs_f64());
            let _infallible = writeln!(
                out,
                "<line class=\"end\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"><title>recovered</title></line>",
                HEIGHT - BOTTOM,
            );
        }
    }
}
