//! Tables of fixed pitch whose cells change their width: columns stay columns.

use std::collections::BTreeMap;

/// Changes each cell of a text and moves the cells behind it, so that what stood below each other still does.
///
/// Cells are parted by two spaces or more.
pub(super) fn rewrite(text: &str, change: impl Fn(&str) -> String) -> String {
    let tables = text.split_inclusive("\n\n");
    tables.map(|table| one(table, &change)).collect()
}

fn one(text: &str, change: &impl Fn(&str) -> String) -> String {
    let lines: Vec<Vec<(usize, String)>> = text
        .lines()
        .map(|line| {
            let cells = cells(line).into_iter();
            cells.map(|(at, cell)| (at, change(&cell))).collect()
        })
        .collect();
    // Where each column begins now, from the left.
    let mut starts: BTreeMap<usize, usize> = BTreeMap::new();
    for line in &lines {
        starts.extend(line.iter().map(|(at, _)| (*at, 0)));
    }
    let columns: Vec<usize> = starts.keys().copied().collect();
    for column in columns {
        let mut start = column.min(2);
        for line in &lines {
            let Some(at) = line.iter().position(|(at, _)| *at == column) else {
                continue;
            };
            let before = at.checked_sub(1).map(|before| &line[before]);
            let least = before.map_or(column, |(before, cell)| {
                starts.get(before).copied().unwrap_or_default() + cell.chars().count() + 2
            });
            start = start.max(least);
        }
        starts.insert(column, start);
    }
    let mut written = String::new();
    for line in &lines {
        let mut width = 0;
        for (at, cell) in line {
            let start = starts.get(at).copied().unwrap_or_default();
            written.extend(std::iter::repeat_n(' ', start.saturating_sub(width)));
            written += cell;
            width = start.max(width) + cell.chars().count();
        }
        written.push('\n');
    }
    if !text.ends_with('\n') {
        written.pop();
    }
    written
}

/// Cells of a line, each with the column that it begins at.
fn cells(line: &str) -> Vec<(usize, String)> {
    let characters: Vec<char> = line.chars().collect();
    let mut cells = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        if characters[at] == ' ' {
            at += 1;
            continue;
        }
        let ends = |end: usize| {
            let spaces = characters.get(end) == Some(&' ')
                && characters.get(end + 1).is_none_or(|next| *next == ' ');
            spaces || end == characters.len()
        };
        let end = (at..=characters.len())
            .find(|end| ends(*end))
            .unwrap_or(characters.len());
        cells.push((at, characters[at..end].iter().collect()));
        at = end;
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_columns() {
        let text = "title of it\n\n  host-with-a-name  eth0  in   a > b\n  rs                lo    out  =\n";
        let short = |cell: &str| {
            cell.replace("host-with-a-name", "n1")
                .replace("rs", "node22")
        };
        assert_eq!(
            rewrite(text, short),
            "title of it\n\n  n1      eth0  in   a > b\n  node22  lo    out  =\n"
        );
        for text in ["", "\n", "one", "a  b\n\n\nc"] {
            assert_eq!(rewrite(text, str::to_owned), text);
        }
    }
}
