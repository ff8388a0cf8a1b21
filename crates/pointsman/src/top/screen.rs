//! How `pointsman top` looks: on a terminal, and as plain text.

use std::{fmt::Write, time::Duration};

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Cell, Paragraph, Row as TableRow, Table},
};

use super::{
    Top,
    list::{Picture, Row, short},
};

/// A column: its head, its width, and what is in it.
struct Column {
    head: &'static str,
    width: u16,
    text: fn(&Row) -> String,
    /// Left out first when there is no room: the highest.
    rank: u8,
}

const NUMBERS: &[Column] = &[
    Column {
        head: "CONN/s",
        width: 7,
        text: |row| short(row.load.rate.connections),
        rank: 0,
    },
    Column {
        head: "IN PKT/s",
        width: 8,
        text: |row| short(row.load.rate.in_packets),
        rank: 2,
    },
    Column {
        head: "OUT PKT/s",
        width: 9,
        text: |row| short(row.load.rate.out_packets),
        rank: 3,
    },
    Column {
        head: "IN B/s",
        width: 7,
        text: |row| short(row.load.rate.in_bytes),
        rank: 0,
    },
    Column {
        head: "OUT B/s",
        width: 7,
        text: |row| short(row.load.rate.out_bytes),
        rank: 0,
    },
    Column {
        head: "ACTIVE",
        width: 7,
        text: |row| short(row.load.active),
        rank: 0,
    },
    Column {
        head: "INACT",
        width: 7,
        text: |row| short(row.load.inactive),
        rank: 1,
    },
    Column {
        head: "WEIGHT",
        width: 6,
        text: |row| {
            row.weight
                .map(|weight| weight.to_string())
                .unwrap_or_default()
        },
        rank: 4,
    },
];

const NAME: &str = "SERVICE, REAL SERVERS";
const NOTE: &str = "SCHEDULER, NEXT HOP";
/// Least width of names.
const NAME_WIDTH: u16 = 28;
/// Least width of notes; they are left out when there is less.
const NOTE_WIDTH: u16 = 20;

const KEYS: &str =
    "q quit  ↑↓ jk scroll  PgUp PgDn page  n p next, previous service  s S sort by  space pause";

/// Lines that are no rows.
pub(super) const FRAME_LINES: u16 = 4;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, top: &Top) {
    let [first, second, list, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let picture = top.picture.as_ref();
    let said = match (&top.trouble, picture) {
        (Some(trouble), _) => Line::styled(trouble.as_str(), Style::new().fg(Color::Red)),
        (None, Some(picture)) => Line::raw(summary(picture)),
        (None, None) => Line::raw("asking the daemon ..."),
    };
    frame.render_widget(Paragraph::new(said), first);
    frame.render_widget(Paragraph::new(situation(top)), second);
    let dim = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Paragraph::new(KEYS).style(dim), keys);
    if let Some(picture) = picture {
        let height = usize::from(list.height.saturating_sub(1));
        let rows: Vec<Row> = picture.rows(top.first).take(height).collect();
        frame.render_widget(table(&rows, list.width), list);
    }
}

/// The second line.
fn situation(top: &Top) -> String {
    let mut text = format!(
        "sorted by {}, every {}",
        top.sorting.words(),
        seconds(top.delay)
    );
    if let Some(picture) = &top.picture {
        let rows = picture.len();
        let _ = write!(text, ", row {} of {rows}", (top.first + 1).min(rows));
        if !picture.estimating {
            text += ", NO RATES: run_estimation is 0";
        }
    }
    if top.paused {
        text += ", PAUSED";
    }
    text
}

fn seconds(delay: Duration) -> String {
    format!("{} s", delay.as_secs_f64())
}

/// The first line.
fn summary(picture: &Picture) -> String {
    let rate = picture.total.rate;
    let table = &picture.status.connections;
    format!(
        "{} service{}, {} server{}, {} of {} connections | {} conn/s, {} + {} pkt/s, {} + {} B/s",
        picture.services(),
        plural(picture.services()),
        picture.servers,
        plural(picture.servers),
        short(table.used),
        short(table.capacity.into()),
        short(rate.connections),
        short(rate.in_packets),
        short(rate.out_packets),
        short(rate.in_bytes),
        short(rate.out_bytes),
    )
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn table(rows: &[Row], width: u16) -> Table<'static> {
    let longest = rows.iter().map(|row| row.name.chars().count()).max();
    let name = u16::try_from(longest.unwrap_or_default()).unwrap_or(u16::MAX);
    let mut left = width.saturating_sub(name.max(NAME_WIDTH));
    let mut shown = [false; NUMBERS.len()];
    let mut order: Vec<usize> = (0..NUMBERS.len()).collect();
    order.sort_by_key(|at| NUMBERS[*at].rank);
    for at in order {
        let needed = NUMBERS[at].width + 1;
        if needed > left {
            break;
        }
        shown[at] = true;
        left -= needed;
    }
    let columns: Vec<&Column> = NUMBERS
        .iter()
        .zip(shown)
        .filter_map(|(column, shown)| shown.then_some(column))
        .collect();
    let has_note = left > NOTE_WIDTH;

    let right = |text: String| Cell::new(Line::from(text).alignment(Alignment::Right));
    let mut head = vec![Cell::new(NAME)];
    head.extend(columns.iter().map(|column| right(column.head.to_owned())));
    let mut widths = vec![Constraint::Fill(1)];
    widths.extend(
        columns
            .iter()
            .map(|column| Constraint::Length(column.width)),
    );
    if has_note {
        head.push(Cell::new(NOTE));
        widths[0] = Constraint::Length(name.max(NAME_WIDTH));
        widths.push(Constraint::Fill(1));
    }
    let body = rows.iter().map(|row| {
        let mut cells = vec![Cell::new(row.name.clone())];
        cells.extend(columns.iter().map(|column| right((column.text)(row))));
        if has_note {
            cells.push(Cell::new(row.note.clone()));
        }
        TableRow::new(cells).style(style(row))
    });
    let head = TableRow::new(head).style(Style::new().add_modifier(Modifier::REVERSED));
    Table::new(body, widths).header(head).column_spacing(1)
}

fn style(row: &Row) -> Style {
    match row {
        Row {
            is_service: true, ..
        } => Style::new().add_modifier(Modifier::BOLD),
        Row { is_stuck: true, .. } => Style::new().fg(Color::Red),
        Row {
            weight: Some(0), ..
        } => Style::new().add_modifier(Modifier::DIM),
        _ => Style::new(),
    }
}

/// Everything as text, without a terminal.
pub(super) fn plain(picture: &Picture) -> String {
    let longest = picture.rows(0).map(|row| row.name.chars().count()).max();
    let name = longest.unwrap_or_default().max(usize::from(NAME_WIDTH));
    let mut text = summary(picture) + "\n";
    if !picture.estimating {
        text += "no rates: run_estimation is 0\n";
    }
    let mut line = |first: &str, number: &dyn Fn(&Column) -> String, note: &str| {
        let _ = write!(text, "{first:<name$}");
        for column in NUMBERS {
            let width = usize::from(column.width);
            let _ = write!(text, " {:>width$}", number(column));
        }
        let _ = write!(text, " {note}");
        text.push('\n');
    };
    line(NAME, &|column| column.head.to_owned(), NOTE);
    for row in picture.rows(0) {
        line(&row.name, &|column| (column.text)(&row), &row.note);
    }
    text
}
