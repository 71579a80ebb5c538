//! Tables without lines, as operators know them from other tools.

use comfy_table::{ContentArrangement, Table, presets};

use super::printable;

pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    for row in rows {
        table.add_row(row.map(|cell| printable(&cell).replace('\n', "\\n")));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// `-` where there is nothing to show.
pub(crate) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_columns_without_lines_or_trailing_spaces() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), or_dash(String::new())]];
        assert_eq!(table(["NAME", "N"], rows), "NAME  N\na     1\nlong  -");
    }

    #[test]
    fn a_value_stays_in_its_row() {
        let shown = table(["A"], [["x\ny\u{1b}[2J".to_owned()]]);
        assert_eq!(shown, "A\nx\\ny\\u{1b}[2J");
    }
}
