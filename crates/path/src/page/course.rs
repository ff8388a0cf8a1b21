//! The ladder as tables: one for each way that packets took, hop by hop, with what changed.

use std::fmt::Write as _;

use super::markup::escaped;
use crate::ladder::{Course, CourseEnd, CourseGap, CourseHop};
use crate::report::Report;

/// Headers that addresses show.
const ADDRESSES: [&str; 5] = [
    "source",
    "destination",
    "source port",
    "destination port",
    "tunnel",
];

/// Writes all ways of a report; nothing if none was seen.
pub(super) fn section(page: &mut String, report: &Report) {
    let Some(courses) = report.courses.as_ref().filter(|own| !own.ways.is_empty()) else {
        return;
    };
    let _ = write!(
        page,
        "<section>\n<h2>Hop by hop</h2>\n<p class=\"quiet\">{}</p>\n",
        escaped(&courses.of)
    );
    for course in &courses.ways {
        table(page, course);
    }
    if courses.more > 0 {
        let _ = writeln!(
            page,
            "<p class=\"quiet\">Packets took {} more ways, which are not shown.</p>",
            courses.more
        );
    }
    *page += "</section>\n";
}

fn table(page: &mut String, course: &Course) {
    let (class, word) = if course.forward {
        ("request", "Requests")
    } else {
        ("answer", "Answers")
    };
    let _ = write!(
        page,
        "<div class=\"course {class}\">\n<h3><span class=\"dot {class}\"></span>{word} \
         <span class=\"quiet\">{}</span></h3>\n<table>\n<thead><tr><th></th><th>where</th><th>way</th>\
         <th>what changed</th></tr></thead>\n<tbody>\n",
        escaped(&course.what)
    );
    for (at, hop) in course.hops.iter().enumerate() {
        gaps(page, course, at);
        let changed = if at == 0 { first(hop) } else { changes(hop) };
        let (class, changed) = match &*changed {
            "" => ("same", "as before"),
            changed => ("new", changed),
        };
        let _ = writeln!(
            page,
            "<tr><td class=\"count\">{}</td><td class=\"where\">{} <b>{}</b></td> <td class=\"way\">{}</td> \
             <td class=\"{class}\">{changed}</td></tr>",
            at + 1,
            escaped(&hop.node),
            escaped(&hop.device),
            escaped(&hop.way)
        );
    }
    gaps(page, course, course.hops.len());
    let last = course.hops.last();
    let last = last.map_or_else(String::new, |last| format!("{} {}", last.node, last.device));
    match course.end {
        CourseEnd::Delivered => row(page, "good", &format!("arrived at {last}")),
        CourseEnd::Lost if course.first_missing().is_none() => {
            row(page, "bad", &format!("✕ last seen at {last}"));
        }
        CourseEnd::Lost => {}
        CourseEnd::Unknown => row(
            page,
            "dim",
            &format!("last seen at {last}; nobody can say whether that was the end of the way"),
        ),
    }
    *page += "</tbody>\n</table>\n</div>\n";
}

/// A row over all columns.
fn row(page: &mut String, class: &str, words: &str) {
    let _ = writeln!(
        page,
        "<tr class=\"{class}\"><td></td><td colspan=\"3\">{}</td></tr>",
        escaped(words)
    );
}

fn gaps(page: &mut String, course: &Course, before: usize) {
    for gap in course.gaps.iter().filter(|gap| gap.after == before) {
        let CourseGap { node, device, .. } = gap;
        if gap.hidden {
            let words = format!(
                "{node} {device}: an XDP program takes frames before captures see them; the places around it tell"
            );
            row(page, "dim", &words);
            continue;
        }
        let last = before.checked_sub(1).and_then(|at| course.hops.get(at));
        let last = last.map_or_else(String::new, |last| {
            format!("; last seen at {} {}", last.node, last.device)
        });
        let lossy = if gap.lossy {
            ", but the capture there lost frames, so that this proves nothing"
        } else {
            ""
        };
        row(
            page,
            "bad",
            &format!("✕ never seen at {node} {device}{last}{lossy}"),
        );
    }
}

/// Everything about a packet where it was seen first.
fn first(hop: &CourseHop) -> String {
    let mut parts = vec![format!(
        "<span class=\"mono\">{}</span>",
        escaped(&hop.addresses)
    )];
    if let Some([from, to]) = &hop.macs {
        parts.push(format!(
            "<span class=\"mono quiet\">{} &gt; {}</span>",
            escaped(from),
            escaped(to)
        ));
    }
    parts.extend(notes(hop));
    parts.join("<br>")
}

fn changes(hop: &CourseHop) -> String {
    let mut parts = Vec::new();
    if hop
        .changed
        .iter()
        .any(|change| ADDRESSES.contains(&&*change.what))
    {
        parts.push(format!(
            "<span class=\"mono moved\">{}</span>",
            escaped(&hop.addresses)
        ));
    }
    for change in &hop.changed {
        if ADDRESSES.contains(&&*change.what) {
            continue;
        }
        let is_mac = change.what.ends_with("MAC");
        parts.push(if is_mac {
            format!(
                "<span class=\"change\">{} <span class=\"mono\">{}</span></span>",
                escaped(&change.what),
                escaped(&change.after)
            )
        } else {
            format!(
                "<span class=\"change\">{} <span class=\"mono\">{} → {}</span></span>",
                escaped(&change.what),
                escaped(&change.before),
                escaped(&change.after)
            )
        });
    }
    parts.extend(notes(hop));
    parts.join(" ")
}

fn notes(hop: &CourseHop) -> impl Iterator<Item = String> {
    let notes = hop.notes.iter();
    notes.map(|note| format!("<span class=\"note\">{}</span>", escaped(note)))
}
