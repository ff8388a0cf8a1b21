//! A conversation as a table: packets that took the same way are counted together.

use std::fmt::Write as _;

use pointsman_wire::Summary;
use pointsman_wire::tcp::Flags;

use crate::ladder::course::way_word;
use crate::ladder::text::{BOLD, DIM, RED, YELLOW, addresses, checksum, counted, title, what};
use crate::ladder::{Checksum, Conversation, Gap, Headers, Hop, Ladder, Packet, Repeat, Style};
use crate::observation::Way;

/// Packets that took the same way, with the same changes.
#[derive(Debug)]
pub(crate) struct Class<'a> {
    /// Its packets, at least one.
    pub(crate) packets: Vec<&'a Packet>,
}

/// Packets by the ways they took, the first way first.
pub(crate) fn classes(conversation: &Conversation) -> Vec<Class<'_>> {
    type Step<'a> = (usize, Way, Vec<&'static str>, Option<&'a str>);
    type Path<'a> = (bool, Vec<Step<'a>>, Vec<(usize, Gap)>, bool);
    fn path(packet: &Packet) -> Path<'_> {
        let steps = packet.hops.iter().map(|hop| {
            let facts = hop.changed.iter().map(|change| change.what);
            (hop.point, hop.way, facts.collect(), hop.note.as_deref())
        });
        (
            packet.forward,
            steps.collect(),
            packet.gaps.clone(),
            packet.delivered,
        )
    }
    let mut classes: Vec<(Path<'_>, Class<'_>)> = Vec::new();
    for packet in &conversation.packets {
        let path = path(packet);
        match classes.iter_mut().find(|(other, _)| *other == path) {
            Some((_, class)) => class.packets.push(packet),
            None => classes.push((
                path,
                Class {
                    packets: vec![packet],
                },
            )),
        }
    }
    classes.into_iter().map(|(_, class)| class).collect()
}

impl Ladder {
    /// One conversation of this ladder as text, its packets counted by the ways they took.
    pub fn table(&self, conversation: &Conversation, style: Style) -> String {
        let mut text = style.paint(BOLD, &title(conversation)) + "\n";
        let classes = classes(conversation);
        for class in classes.iter().take(style.packets) {
            self.class(&mut text, class, style);
        }
        let more = classes.len().saturating_sub(style.packets);
        if more > 0 {
            let _ = writeln!(text, "\n  {} more, not shown", counted(more, "way"));
        }
        text
    }

    fn class(&self, text: &mut String, class: &Class<'_>, style: Style) {
        let Some(packet) = class.packets.first() else {
            return;
        };
        let way = if packet.forward { "request" } else { "answer " };
        let head = format!("\n  {way}  {}", kinds(&class.packets));
        let _ = writeln!(text, "{}", style.paint(BOLD, &head));
        let node_width = self.points.iter().map(|point| point.node.chars().count());
        let node_width = node_width.max().unwrap_or(0).max(4);
        let device_width = self.points.iter().map(|point| point.device.chars().count());
        let device_width = device_width.max().unwrap_or(0).max(3);
        let count = class.packets.len();
        let row = |text: &mut String, [node, device, way]: [&str; 3], rest: &str| {
            let line = format!("  {node:node_width$}  {device:device_width$}  {way:9}  {rest}");
            let _ = writeln!(text, "{}", line.trim_end());
        };
        row(
            text,
            ["node", "dev", ""],
            &format!(
                "{:19}{:19}{:>6}  {}",
                "source MAC", "destination MAC", "frames", "addresses"
            ),
        );
        for (at, hop) in packet.hops.iter().enumerate() {
            self.gap_rows(text, packet, at, style);
            let point = &self.points[hop.point];
            let before = at.checked_sub(1).map(|at| &packet.hops[at]);
            let way = way_word(point, hop.way);
            let [source, destination] = link_cells(hop, before);
            let own = addresses(&hop.headers);
            let own = match before.map(|before| addresses(&before.headers)) {
                Some(old) if old == own => "=".to_owned(),
                Some(_) => style.paint(YELLOW, &format!("{own} *")),
                None => own,
            };
            let mut rest = format!("{source:19}{destination:19}{count:6}  {own}");
            let other: Vec<String> = hop
                .changed
                .iter()
                .filter(|change| !shown(change.what))
                .map(ToString::to_string)
                .collect();
            if !other.is_empty() {
                let _ = write!(rest, "  {}", style.paint(YELLOW, &other.join("; ")));
            }
            match hop.checksum {
                Checksum::Pending => rest += &style.paint(DIM, "  checksum to be filled in"),
                other => rest += &checksum(other, style),
            }
            if hop.gso {
                rest += "  super-frame";
            }
            if let Some(note) = &hop.note {
                let _ = write!(rest, "  {note}");
            }
            row(text, [&point.node, &point.device, way], &rest);
        }
        self.gap_rows(text, packet, packet.hops.len(), style);
        let open = packet
            .gaps
            .iter()
            .all(|(after, _)| *after < packet.hops.len());
        if let (false, true, Some(last)) = (packet.delivered, open, packet.hops.last()) {
            let last = &self.points[last.point];
            if let Some(why) = packet.dropped() {
                let line = format!("  dropped at {last}: {why}  X");
                let _ = writeln!(text, "{}", style.paint(RED, &line));
                return;
            }
            let end = format!("  last seen at {last}");
            // Without addresses nobody can say that this is not the end of its way.
            if !last.addresses.is_empty() {
                let _ = writeln!(text, "{}", style.paint(RED, &format!("{end}  X")));
            } else {
                let _ = writeln!(text, "{}", style.paint(DIM, &end));
            }
        }
    }

    fn gap_rows(&self, text: &mut String, packet: &Packet, before: usize, style: Style) {
        for (_, gap) in packet.gaps.iter().filter(|(after, _)| *after == before) {
            if let Gap::Missing(at) = gap {
                let point = &self.points[*at];
                let lost = if point.lost > 0 {
                    ", but the capture there lost frames"
                } else {
                    ""
                };
                let last = before
                    .checked_sub(1)
                    .map(|at| &self.points[packet.hops[at].point]);
                let last = last.map_or(String::new(), |last| format!("; last seen at {last}"));
                let line = format!("  {point}  first missing{last}{lost}  X");
                let _ = writeln!(text, "{}", style.paint(RED, &line));
            } else {
                let _ = writeln!(text, "  {}", self.gap(*gap, style));
            }
        }
    }
}

/// Whether a change is seen in the columns.
fn shown(what: &str) -> bool {
    matches!(
        what,
        "source MAC"
            | "destination MAC"
            | "source"
            | "destination"
            | "source port"
            | "destination port"
            | "tunnel"
    )
}

/// Source and destination of the link layer; `=` for what is as before, `*` for what is not.
fn link_cells(hop: &Hop, before: Option<&Hop>) -> [String; 2] {
    let Some(link) = hop.headers.link() else {
        return ["-".to_owned(), "-".to_owned()];
    };
    let old = before.and_then(|before| before.headers.link());
    let cell = |new: pointsman_wire::Mac, old: Option<pointsman_wire::Mac>| match old {
        Some(old) if old == new => "=".to_owned(),
        Some(_) => format!("{new}*"),
        None => new.to_string(),
    };
    [
        cell(link.source, old.map(|old| old.source)),
        cell(link.destination, old.map(|old| old.destination)),
    ]
}

/// How many packets of which kind, and how many of them were repetitions.
pub(super) fn kinds(packets: &[&Packet]) -> String {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for packet in packets {
        let Some(first) = packet.first() else {
            continue;
        };
        let kind = kind(&first.headers);
        match kinds.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let listed: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| match count {
            1 => kind.clone(),
            _ => format!("{kind} x{count}"),
        })
        .collect();
    let number = |wanted: fn(&Repeat) -> bool| {
        let repeats = packets.iter().filter_map(|packet| packet.repeat.as_ref());
        repeats.filter(|repeat| wanted(repeat)).count()
    };
    let mut text = format!("{} seen: {}", packets.len(), listed.join(", "));
    for (count, word) in [
        (
            number(|repeat| matches!(repeat, Repeat::Retransmission(_))),
            "retransmitted",
        ),
        (
            number(|repeat| matches!(repeat, Repeat::Duplicate(_))),
            "duplicated",
        ),
        (
            number(|repeat| matches!(repeat, Repeat::Resegmented(_))),
            "cut or merged anew",
        ),
    ] {
        if count > 0 {
            let _ = write!(text, "; {count} {word}");
        }
    }
    text
}

/// Flags of TCP, or what else it is.
fn kind(headers: &Headers) -> String {
    let tcp = headers
        .ip()
        .map(Summary::innermost)
        .and_then(|inner| inner.tcp.as_ref());
    match tcp {
        Some(tcp) => format!("[{}]", Flags(tcp.flags)),
        None => what(headers),
    }
}
