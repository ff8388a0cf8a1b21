//! A conversation as text, packet by packet: one line for each hop, and what changed there.

use std::fmt::Write as _;
use std::net::SocketAddr;

use pointsman_wire::tcp::Flags;
use pointsman_wire::{Summary, arp};

use crate::ladder::headers::protocol_name;
use crate::ladder::{Checksum, Conversation, Gap, Headers, Hop, Ladder, Packet, Repeat};
use crate::observation::{Source, Way};

/// How a ladder is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to colour; for terminals only.
    pub colour: bool,
    /// Most packets shown of one conversation.
    pub packets: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            colour: false,
            packets: 20,
        }
    }
}

impl Style {
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

pub(super) const BOLD: &str = "1";
pub(super) const DIM: &str = "2";
pub(super) const RED: &str = "31";
pub(super) const YELLOW: &str = "33";

impl Ladder {
    /// One conversation of this ladder as text, packet by packet.
    pub fn text(&self, conversation: &Conversation, style: Style) -> String {
        let mut text = style.paint(BOLD, &title(conversation)) + "\n";
        let first = conversation.packets.first().and_then(Packet::first);
        let zero = first.map_or(0, |hop| hop.at_ns);
        for (number, packet) in conversation.packets.iter().enumerate().take(style.packets) {
            self.packet(&mut text, number, packet, zero, style);
        }
        let more = conversation.packets.len().saturating_sub(style.packets);
        if more > 0 {
            let _ = writeln!(text, "\n{} more, not shown", counted(more, "packet"));
        }
        for point in self.points.iter().filter(|point| point.lost > 0) {
            let _ = writeln!(
                text,
                "the capture at {point} lost {}: a gap there proves nothing",
                counted(point.lost as usize, "frame")
            );
        }
        text
    }

    fn packet(&self, text: &mut String, number: usize, packet: &Packet, zero: u64, style: Style) {
        let Some(first) = packet.first() else {
            return;
        };
        let way = if packet.forward {
            "to server"
        } else {
            "to client"
        };
        let mut title = format!("\n{:3}  {way}  {}", number + 1, what(&first.headers));
        match packet.repeat {
            Some(Repeat::Resegmented(other)) => {
                let _ = write!(
                    title,
                    "  (bytes of packet {}, cut or merged anew)",
                    other + 1
                );
            }
            Some(Repeat::Retransmission(other)) => {
                let _ = write!(title, "  (packet {} again)", other + 1);
            }
            Some(Repeat::Duplicate(other)) => {
                let _ = write!(title, "  (a duplicate of packet {})", other + 1);
            }
            None => {}
        }
        let _ = writeln!(text, "{}", style.paint(BOLD, &title));
        for (at, hop) in packet.hops.iter().enumerate() {
            self.gaps(text, packet, at, style);
            let before = at.checked_sub(1).map(|at| &packet.hops[at]);
            self.hop(text, hop, before, zero, style);
        }
        self.gaps(text, packet, packet.hops.len(), style);
        if !packet.delivered
            && packet
                .gaps
                .iter()
                .all(|(after, _)| *after < packet.hops.len())
        {
            let end = match packet.dropped() {
                Some(why) => format!("dropped here: {why}"),
                None => "last seen here".to_owned(),
            };
            let _ = writeln!(text, "      {}", style.paint(RED, &end));
        }
    }

    fn hop(&self, text: &mut String, hop: &Hop, before: Option<&Hop>, zero: u64, style: Style) {
        let point = &self.points[hop.point];
        // A clock behind the first one's gives a time before it.
        let at = hop.at_ns.cast_signed().wrapping_sub(zero.cast_signed());
        let sign = if at < 0 { "-" } else { "" };
        let at = at.unsigned_abs();
        let (whole, rest) = (at / 1_000_000_000, at % 1_000_000_000 / 1000);
        let direction = match hop.way {
            Way::Out => "out",
            Way::In => "in",
            // A port of a bridge takes in what is for others.
            Way::OtherHost if point.bridge.is_some() => "in",
            Way::OtherHost => "in, for another host",
            Way::Unknown => "",
        };
        let macs = macs(&hop.headers);
        let same_macs = before.is_some_and(|before| self::macs(&before.headers) == macs);
        let addresses = addresses(&hop.headers);
        let same = before.is_some_and(|before| self::addresses(&before.headers) == addresses);
        let _ = write!(
            text,
            "      {sign}{whole}.{rest:06} {:9} {:10} {direction:4} {:37}  {}",
            point.node,
            point.device,
            if same_macs { "=" } else { &macs },
            if same { "=" } else { &addresses },
        );
        let _ = write!(text, "  {}", briefly(&hop.headers));
        if hop.gso {
            text.push_str(", super-frame");
        }
        text.push_str(&checksum(hop.checksum, style));
        if let Some(note) = &hop.note {
            let _ = write!(text, ", {note}");
        }
        text.push('\n');
        if !hop.changes.is_empty() {
            let changes = format!("^ {}", hop.changes.join("; "));
            let _ = writeln!(text, "{:32}{}", "", style.paint(YELLOW, &changes));
        }
    }

    fn gaps(&self, text: &mut String, packet: &Packet, before: usize, style: Style) {
        for (_, gap) in packet.gaps.iter().filter(|(after, _)| *after == before) {
            let _ = writeln!(text, "{:15}{}", "", self.gap(*gap, style));
        }
    }

    /// What is said about a gap.
    pub(super) fn gap(&self, gap: Gap, style: Style) -> String {
        let (Gap::Hidden(at) | Gap::Missing(at)) = gap;
        let point = &self.points[at];
        let (node, device) = (&point.node, &point.device);
        match (gap, point.xdp) {
            (Gap::Hidden(_), Some(xdp)) => {
                let kind = if xdp.native { "native" } else { "generic" };
                let hidden = format!(
                    "{node} {device}: not observable here, {kind} XDP program {} takes \
                     frames before captures see them; the ports around it show the rest",
                    xdp.id
                );
                style.paint(DIM, &hidden)
            }
            _ => {
                let missing = format!("{node} {device}: not seen, though it was sent there");
                style.paint(RED, &missing)
            }
        }
    }

    /// What limits what this ladder says: lost frames, clocks, places that hide frames.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for point in &self.points {
            if point.lost > 0 {
                remarks.push(format!(
                    "the capture at {point} lost {}: a gap there proves nothing",
                    counted(point.lost as usize, "frame")
                ));
            }
            if point.promiscuous {
                remarks.push(format!(
                    "{point} was promiscuous for this capture, so it received frames for others"
                ));
            }
            let told = self.points.iter().any(|other| {
                other.source == Source::Director
                    && (&other.node, &other.device) == (&point.node, &point.device)
            });
            if let (Some(xdp), Source::Capture, false) = (point.xdp, point.source, told) {
                remarks.push(format!(
                    "{point}: XDP program {} takes frames before captures see them",
                    xdp.id
                ));
            }
        }
        for (host, ahead) in &self.clocks {
            // Less is nothing that a reader would trip over.
            if ahead.unsigned_abs() >= 1_000_000 {
                let way = if *ahead > 0 { "ahead of" } else { "behind" };
                remarks.push(format!(
                    "the clock of {host} is about {:.3} s {way} that of {}",
                    ahead.unsigned_abs() as f64 / 1e9,
                    self.clocks.first().map_or("the first", |(first, _)| first)
                ));
            }
        }
        if self.unread > 0 {
            remarks.push(format!(
                "{} neither IP nor ARP",
                counted(self.unread, "frame")
            ));
        }
        remarks
    }
}

/// The line above a conversation.
pub(super) fn title(conversation: &Conversation) -> String {
    let server = conversation.server.as_ref().map_or_else(
        || "no real server seen".to_owned(),
        |server| format!("real server {server}"),
    );
    let server = match conversation.protocol {
        super::Protocol::Ip(6 | 17 | 132) => format!(", {server}"),
        _ => String::new(),
    };
    format!(
        "{conversation}{server}, {}",
        counted(conversation.packets.len(), "packet")
    )
}

/// What is worth saying about checksums.
pub(super) fn checksum(checksum: Checksum, style: Style) -> String {
    match checksum {
        Checksum::Right | Checksum::Unknown => String::new(),
        Checksum::Pending => style.paint(DIM, ", checksum pending"),
        Checksum::Wrong => style.paint(RED, ", WRONG CHECKSUM"),
    }
}

pub(super) fn macs(headers: &Headers) -> String {
    headers.link().map_or_else(
        || "(no link layer)".to_owned(),
        |link| {
            let vlans: String = link.vlans.iter().map(|id| format!(" vlan {id}")).collect();
            format!("{} > {}{vlans}", link.source, link.destination)
        },
    )
}

/// Addresses and ports, tunnels from the outside in.
pub(super) fn addresses(headers: &Headers) -> String {
    match headers {
        Headers::Ip(summary) => ip_addresses(summary),
        Headers::Arp(message) => format!("{} > {}", message.sender, message.target),
    }
}

fn ip_addresses(summary: &Summary) -> String {
    let own = match summary.ports {
        Some((source, destination)) => format!(
            "{} > {}",
            SocketAddr::new(summary.source, source),
            SocketAddr::new(summary.destination, destination)
        ),
        None => format!("{} > {}", summary.source, summary.destination),
    };
    match (&summary.inner, summary.tunnel) {
        (Some(inner), Some(tunnel)) => format!("{own} {tunnel} {{ {} }}", ip_addresses(inner)),
        _ => own,
    }
}

/// Flags and length of the innermost packet.
fn briefly(headers: &Headers) -> String {
    let inner = headers.ip().map(Summary::innermost);
    match inner.and_then(|inner| inner.tcp.as_ref().map(|tcp| (tcp, inner.payload_length))) {
        Some((tcp, length)) => format!("[{}] len {length}", Flags(tcp.flags)),
        None => what(headers),
    }
}

/// Flags, numbers and length of the innermost packet.
pub(super) fn what(headers: &Headers) -> String {
    let summary = match headers {
        Headers::Ip(summary) => summary.innermost(),
        Headers::Arp(message) => {
            return match message.operation {
                arp::REQUEST if message.sender == message.target => {
                    format!("{} is at {}, announced", message.sender, message.sender_mac)
                }
                arp::REQUEST => format!("who has {}? tell {}", message.target, message.sender),
                _ => format!("{} is at {}", message.sender, message.sender_mac),
            };
        }
    };
    let length = summary.payload_length;
    if let Some(tcp) = &summary.tcp {
        return format!("[{}] seq {} len {length}", Flags(tcp.flags), tcp.sequence);
    }
    if let Some(icmp) = &summary.icmp {
        return format!("ICMP type {} code {} len {length}", icmp.kind, icmp.code);
    }
    format!("{} len {length}", protocol_name(summary.protocol))
}

pub(super) fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
