//! Who gains and who loses access, as text.

use std::fmt::Write as _;

use palisade_policy::difference::{Change, Difference, Replay, ReplayedChange};

use super::explain::rule_name;
use super::printable;

/// What no comparison of documents sees.
const UNSEEN: &str = "not compared: rate limits, routes of edges, who is told of which service, combinations of conditions of \
                      several rules";

/// Requests of a log that are shown; the most frequent come first.
const REPLAYED_SHOWN_MAX: usize = 50;

/// Of a change that is about to be made: groups of callers, and of each group callers and requests.
const CHANGES_SHOWN_MAX: usize = 10;
const WORDS_SHOWN_MAX: usize = 4;

/// Recorded requests that would be judged otherwise, then what became of all of them.
pub(crate) fn render_replay(replay: &Replay, strange: &str) -> String {
    let mut text = String::from("\nrecorded requests that would be judged otherwise\n");
    for change in replay.changes.iter().take(REPLAYED_SHOWN_MAX) {
        let ReplayedChange { gains, caller, service, method, path, count, decision_id } = change;
        let (sign, verb) = if *gains { ('+', "now allowed") } else { ('-', "now refused") };
        let caller = caller.as_deref().unwrap_or("a caller without a certificate");
        let _infallible = writeln!(
            text,
            "  {sign} {count} x {method} {path} of {service} by {caller}: {verb} (first: {decision_id})"
        );
    }
    match replay.changes.len().checked_sub(REPLAYED_SHOWN_MAX) {
        _ if replay.changes.is_empty() => text.push_str("  none\n"),
        Some(more) if more > 0 => {
            let _infallible = writeln!(text, "  and {more} more; -o json has all");
        }
        _ => {}
    }
    let _infallible = writeln!(text, "{} records: {} judged as they were", replay.records, replay.unchanged);
    let others = [
        (
            replay.unknown,
            "depend on headers, claims, SNI or destination addresses, which records do not hold",
        ),
        (replay.of_other_policies, "were made under other policies than OLD"),
        (
            replay.not_judged,
            "are of another kind: outbound, of an edge, or ended before or after rules of access",
        ),
        (replay.left_out, "were left out: too many different requests"),
    ];
    for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
        let _infallible = writeln!(text, "  {count} {what}");
    }
    text.push_str(strange);
    printable(text.trim_end())
}

/// Changes by service, then a count.
pub(crate) fn render(difference: &Difference) -> String {
    let mut text = String::new();
    let mut service = "";
    for change in &difference.changes {
        if change.service != service {
            let gap = if service.is_empty() { "" } else { "\n" };
            let _infallible = writeln!(text, "{gap}{}", change.service);
            service = &change.service;
        }
        push(&mut text, change);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    for service in &difference.left_out {
        let _infallible = writeln!(text, "left out, too many requests to compare: {service}");
    }
    let (gain, lose) = (difference.count(true), difference.count(false));
    let changes = match (gain, lose) {
        (0, 0) => "nobody gains or loses access".to_owned(),
        _ => format!("{}, {}", callers(gain, "gain"), callers(lose, "lose")),
    };
    let _infallible =
        write!(text, "{changes}; {} requests were judged by both sets\n{UNSEEN}", difference.requests);
    printable(&text)
}

/// A count, then the first changes with the first callers and requests of each.
pub(crate) fn brief(difference: &Difference) -> String {
    let (gain, lose) = (difference.count(true), difference.count(false));
    let mut text = match (gain, lose) {
        (0, 0) => "nobody gains or loses any".to_owned(),
        _ => format!("{}, {}", callers(gain, "gain"), callers(lose, "lose")),
    };
    if !difference.left_out.is_empty() {
        let _infallible = write!(text, "; not compared, too many requests: {}", first(&difference.left_out));
    }
    for change in difference.changes.iter().take(CHANGES_SHOWN_MAX) {
        let Change { service, callers, gains, requests, .. } = change;
        let (sign, verb) = if *gains { ('+', "may now call") } else { ('-', "may no longer call") };
        let (who, what) = (first(callers), first(requests));
        let _infallible = write!(text, "\n    {sign} {who} {verb} {service}: {what}");
    }
    let more = difference.changes.len().saturating_sub(CHANGES_SHOWN_MAX);
    if more > 0 {
        let _infallible = write!(text, "\n    and {more} more; -o json has all");
    }
    text
}

fn first(words: &[String]) -> String {
    let shown = words.iter().take(WORDS_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match words.len().saturating_sub(WORDS_SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn callers(n: usize, verb: &str) -> String {
    let (callers, verbs) = if n == 1 { ("caller", "s") } else { ("callers", "") };
    format!("{n} {callers} {verb}{verbs} access")
}

fn push(text: &mut String, change: &Change) {
    let (sign, verb) = if change.gains { ('+', "may now") } else { ('-', "may no longer") };
    let _infallible = writeln!(text, "  {sign} {} {verb}", change.callers.join(", "));
    for request in &change.requests {
        let _infallible = writeln!(text, "      {request}");
    }
    let by = match (&change.rule, change.gains) {
        (Some(rule), true) => format!("let in by {} (was {})", rule_name(rule), change.refused),
        (Some(rule), false) => format!("was let in by {} (now {})", rule_name(rule), change.refused),
        (None, true) => format!("let in: no ALLOW policy is left (was {})", change.refused),
        (None, false) => format!("was let in: no ALLOW policy was there (now {})", change.refused),
    };
    let _infallible = writeln!(text, "    {by}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_size_is_told_on_a_few_lines_and_what_is_cut_is_counted() {
        let words = |name: &str| (0..500).map(|n| format!("{name}{n}")).collect::<Vec<_>>();
        let change = |n: usize| Change {
            service: format!("bank/s{n}"),
            callers: words("c"),
            gains: n.is_multiple_of(2),
            requests: words("GET /"),
            rule: None,
            refused: "no_allow_matched".into(),
        };
        let difference =
            Difference { changes: (0..300).map(change).collect(), requests: 1, left_out: words("x") };
        let text = brief(&difference);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), CHANGES_SHOWN_MAX + 2);
        assert_eq!(
            lines[0],
            "500 callers gain access, 500 callers lose access; not compared, too many requests: x0, x1, x2, x3 and 496 more"
        );
        assert_eq!(
            lines[1],
            "    + c0, c1, c2, c3 and 496 more may now call bank/s0: GET /0, GET /1, GET /2, GET /3 and 496 more"
        );
        assert_eq!(lines[CHANGES_SHOWN_MAX + 1], "    and 290 more; -o json has all");
        assert_eq!(brief(&Difference::default()), "nobody gains or loses any");
    }
}
