//! The posture of an edge as a table, or as a list where a table does not fit.

mod cells;

use std::collections::{BTreeSet, HashMap};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use palisade_policy::posture::{Hole, Posture, RoutePosture};

use super::{count, printable};
use cells::Cells;

/// Below this a table has columns of a word, and a list is read more easily.
const TABLE_COLUMNS_MIN: usize = 100;
const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

/// The table, and every hole with its place and what to do. `columns` of 40 and more.
pub(crate) fn render(posture: &Posture, columns: usize, colours: bool) -> String {
    if posture.routes.is_empty() {
        return String::new();
    }
    let cells: Vec<Cells> = posture.routes.iter().map(Cells::of).collect();
    let body = if columns < TABLE_COLUMNS_MIN { list(&cells) } else { table(&cells, columns) };
    let holes = holes(posture);
    let text = match holes.is_empty() {
        true => body,
        false => format!("{body}\n\n{}", holes.join("\n\n")),
    };
    if colours { coloured(&text) } else { text }
}

/// `3 routes, 1 hole, 2 accepted`.
pub(crate) fn summary(posture: &Posture) -> String {
    if posture.routes.is_empty() {
        return "no routes: no VirtualService is bound to a Gateway among these documents".to_owned();
    }
    let all: usize = posture.routes.iter().map(|route| route.holes.len()).sum();
    let open = posture.open_holes();
    let holes = if open == 0 { "no holes".to_owned() } else { count(open, "hole") };
    let accepted = if all > open { format!(", {} accepted", all - open) } else { String::new() };
    format!("{}, {holes}{accepted}", count(posture.routes.len(), "route"))
}

fn table(rows: &[Cells], columns: usize) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(columns).unwrap_or(u16::MAX))
        .set_header(["", "ROUTE", "NEEDS", "CHECKS", "BEHIND"]);
    for row in rows {
        let (route, needs) = (row.route.join("\n"), row.needs.join("\n"));
        table.add_row([row.status.to_owned(), route, needs, row.checks.join("\n"), row.behind.join("\n")]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // Ids are copied, so they are broken last.
    let longest = rows.iter().flat_map(|row| &row.route).map(|line| line.chars().count()).max().unwrap_or(0);
    if let (Some(column), Ok(width)) = (table.column_mut(1), u16::try_from(longest.min(columns / 3))) {
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + 2)));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn list(rows: &[Cells]) -> String {
    let blocks = rows.iter().map(|row| {
        let parts = [("needs", &row.needs), ("checks", &row.checks), ("behind", &row.behind)];
        let lines = parts.iter().flat_map(|(name, lines)| {
            let name = |i: usize| if i == 0 { *name } else { "" };
            lines.iter().enumerate().map(move |(i, line)| format!("      {:<7}{line}", name(i)))
        });
        let route = row.route.join("\n      ");
        let text: Vec<String> = lines.collect();
        format!("{:<6}{route}\n{}", row.status, text.join("\n"))
    });
    blocks.collect::<Vec<_>>().join("\n\n")
}

/// Every hole once, with all routes that have it.
fn holes(posture: &Posture) -> Vec<String> {
    let mut found: Vec<(&Hole, Vec<&RoutePosture>)> = Vec::new();
    let mut places: HashMap<(&str, &str, Option<&str>), usize> = HashMap::new();
    for (route, hole) in
        posture.routes.iter().flat_map(|route| route.holes.iter().map(move |hole| (route, hole)))
    {
        let at = *places.entry((hole.code, &hole.message, hole.accepted.as_deref())).or_insert(found.len());
        match found.get_mut(at) {
            Some((_, routes)) => routes.push(route),
            None => found.push((hole, vec![route])),
        }
    }
    found.iter().map(|(hole, routes)| shown(hole, routes)).collect()
}

fn shown(hole: &Hole, routes: &[&RoutePosture]) -> String {
    let word = if hole.accepted.is_none() { "HOLE" } else { "ok" };
    let mut text = format!("{word:<6}[{}] {}", hole.code, hole.message);
    let mut said = BTreeSet::new();
    for route in routes.iter().filter(|route| said.insert(&route.route)) {
        text.push_str(&format!("\n      in {}", route.route));
        if let Some(place) = &route.position {
            text.push_str(&format!(" at {}:{}", place.file, place.line));
        }
    }
    text.push_str(&match &hole.accepted {
        None => format!("\n      help: {}", hole.help),
        Some(reason) => format!("\n      accepted: {reason}"),
    });
    printable(&text)
}

/// A hole is red and what is broken is yellow. The words stand there without colours too.
fn coloured(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = match line.strip_prefix("HOLE") {
            Some(rest) => format!("{RED}HOLE{PLAIN}{rest}"),
            None => line.to_owned(),
        };
        let line = line.replace("! ", &format!("{RED}!{PLAIN} "));
        line.replace("edge NOT let in", &format!("{YELLOW}edge NOT let in{PLAIN}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}
