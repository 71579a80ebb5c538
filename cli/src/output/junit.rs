//! Results in JUnit's XML, as CI servers read it: a suite for each PolicyTest, a case for each of its cases.

use std::fmt::Write as _;

use palisade_policy::policy_test::Run;

use super::printable;
use super::test::failed;

pub(crate) fn render(ran: &Run) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (cases, failures) = (ran.cases.len(), ran.failed_cases());
    let _infallible =
        writeln!(text, "<testsuites name=\"palisade test\" tests=\"{cases}\" failures=\"{failures}\">");
    for (test, cases) in ran.by_test() {
        let failures = cases.iter().filter(|case| !case.failures.is_empty()).count();
        let (name, count) = (escaped(test), cases.len());
        let _infallible =
            writeln!(text, "  <testsuite name=\"{name}\" tests=\"{count}\" failures=\"{failures}\">");
        for case in cases {
            let case_name = escaped(&case.case);
            let place = case
                .position
                .as_ref()
                .map(|place| format!(" file=\"{}\" line=\"{}\"", escaped(&place.file), place.line));
            let place = place.unwrap_or_default();
            let head = format!("    <testcase classname=\"{name}\" name=\"{case_name}\"{place}");
            let _infallible = match case.failures.first() {
                None => writeln!(text, "{head}/>"),
                Some(first) => {
                    let message =
                        format!("{}: expected {}, got {}", first.request, first.expected, first.got);
                    let (message, detail) = (escaped(&message), escaped(&failed(case)));
                    writeln!(
                        text,
                        "{head}>\n      <failure message=\"{message}\">{detail}</failure>\n    </testcase>"
                    )
                }
            };
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

/// Without what XML gives a meaning, and without control characters, which no document of XML 1.0 may have.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_write_elements_or_control_characters() {
        assert_eq!(escaped("a<b>&\"c\u{1b}\u{ffff}\n"), "a&lt;b&gt;&amp;&quot;c\\u{1b}\u{fffd}\n");
    }
}
