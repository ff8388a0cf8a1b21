//! The ladder as text: one line for each hop, and what changed there.

use std::fmt::Write as _;
use std::net::SocketAddr;

use pointsman_linux::packet::Direction;
use pointsman_wire::Summary;
use pointsman_wire::tcp::Flags;

use crate::gap::Gap;
use crate::ladder::{Checksum, Connection, Hop, Ladder, Packet, is_tcp};
use crate::topology::Role;

/// How a ladder is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to colour; for terminals only.
    pub colour: bool,
    /// Most packets shown of one connection.
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
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const YELLOW: &str = "33";

impl Ladder {
    /// One connection of this ladder as text.
    pub fn text(&self, connection: &Connection, style: Style) -> String {
        let server = connection.real_server.map_or_else(
            || "no real server seen".to_owned(),
            |role| format!("real server {role}"),
        );
        let protocol = if is_tcp(connection) {
            "TCP"
        } else {
            protocol_name(connection.protocol)
        };
        let title = format!(
            "{protocol} {} > {}, {server}, {}",
            connection.client,
            connection.service,
            counted(connection.packets.len(), "packet")
        );
        let mut text = style.paint(BOLD, &title) + "\n";
        let first = connection
            .packets
            .first()
            .and_then(|packet| packet.hops.first());
        let zero = first.map_or(0, |hop| hop.at_ns);
        for (number, packet) in connection.packets.iter().enumerate().take(style.packets) {
            self.packet(&mut text, number, packet, zero, style);
        }
        let more = connection.packets.len().saturating_sub(style.packets);
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
        let Some(first) = packet.hops.first() else {
            return;
        };
        let way = if packet.forward {
            "to server"
        } else {
            "to client"
        };
        let mut title = format!("\n{:3}  {way}  {}", number + 1, what(&first.summary));
        if let Some(other) = packet.resegmented {
            let _ = write!(
                title,
                "  (bytes of packet {}, cut or merged anew)",
                other + 1
            );
        }
        let _ = writeln!(text, "{}", style.paint(BOLD, &title));
        for (at, hop) in packet.hops.iter().enumerate() {
            gaps(text, packet, at, style);
            let before = at.checked_sub(1).map(|at| &packet.hops[at]);
            self.hop(text, hop, before, zero, style);
        }
        gaps(text, packet, packet.hops.len(), style);
        if !packet.delivered
            && packet
                .gaps
                .iter()
                .all(|(after, _)| *after < packet.hops.len())
        {
            let _ = writeln!(text, "      {}", style.paint(RED, "last seen here"));
        }
    }

    fn hop(&self, text: &mut String, hop: &Hop, before: Option<&Hop>, zero: u64, style: Style) {
        let point = &self.points[hop.point];
        let at = hop.at_ns.saturating_sub(zero);
        let (whole, rest) = (at / 1_000_000_000, at % 1_000_000_000 / 1000);
        let direction = match hop.direction {
            Direction::Out => "out",
            Direction::In => "in",
            // A switch port takes in what is for others.
            Direction::OtherHost if point.role == Role::Switch => "in",
            Direction::OtherHost => "in, for another host",
        };
        let macs = macs(&hop.summary);
        let same_macs = before.is_some_and(|before| self::macs(&before.summary) == macs);
        let addresses = addresses(&hop.summary);
        let same = before.is_some_and(|before| self::addresses(&before.summary) == addresses);
        let _ = write!(
            text,
            "      {whole}.{rest:06} {:9} {:10} {direction:4} {:37}  {}",
            point.role.to_string(),
            point.interface,
            if same_macs { "=" } else { &macs },
            if same { "=" } else { &addresses },
        );
        let _ = write!(text, "  {}", briefly(&hop.summary));
        if hop.gso {
            text.push_str(", super-frame");
        }
        match hop.checksum {
            Checksum::Right => {}
            Checksum::Pending => text.push_str(&style.paint(DIM, ", checksum pending")),
            Checksum::Wrong => text.push_str(&style.paint(RED, ", WRONG CHECKSUM")),
        }
        text.push('\n');
        if !hop.changes.is_empty() {
            let changes = format!("^ {}", hop.changes.join("; "));
            let _ = writeln!(text, "{:32}{}", "", style.paint(YELLOW, &changes));
        }
    }
}

fn gaps(text: &mut String, packet: &Packet, before: usize, style: Style) {
    for (_, gap) in packet.gaps.iter().filter(|(after, _)| *after == before) {
        let line = match gap {
            Gap::Hidden {
                role,
                interface,
                xdp,
            } => {
                let kind = if xdp.native { "native" } else { "generic" };
                style.paint(
                    DIM,
                    &format!(
                        "{role} {interface}: not observable here, {kind} XDP program {} takes \
                         frames before captures see them; the ports around it show the rest",
                        xdp.id
                    ),
                )
            }
            Gap::Missing { role, interface } => style.paint(
                RED,
                &format!("{role} {interface}: not seen, though it was sent there"),
            ),
        };
        let _ = writeln!(text, "{:15}{line}", "");
    }
}

fn macs(summary: &Summary) -> String {
    summary.link.as_ref().map_or_else(
        || "(no link layer)".to_owned(),
        |link| format!("{} > {}", link.source, link.destination),
    )
}

/// Addresses and ports, tunnels from the outside in.
fn addresses(summary: &Summary) -> String {
    let own = match summary.ports {
        Some((source, destination)) => format!(
            "{} > {}",
            SocketAddr::new(summary.source, source),
            SocketAddr::new(summary.destination, destination)
        ),
        None => format!("{} > {}", summary.source, summary.destination),
    };
    match (&summary.inner, summary.tunnel) {
        (Some(inner), Some(tunnel)) => format!("{own} {tunnel} {{ {} }}", addresses(inner)),
        _ => own,
    }
}

/// Flags and length of the innermost packet.
fn briefly(summary: &Summary) -> String {
    let inner = summary.innermost();
    match &inner.tcp {
        Some(tcp) => format!("[{}] len {}", Flags(tcp.flags), inner.payload_length),
        None => what(summary),
    }
}

/// Flags, numbers and length of the innermost packet.
fn what(summary: &Summary) -> String {
    let inner = summary.innermost();
    let length = inner.payload_length;
    if let Some(tcp) = &inner.tcp {
        return format!("[{}] seq {} len {length}", Flags(tcp.flags), tcp.sequence);
    }
    if let Some(icmp) = &inner.icmp {
        return format!("ICMP type {} code {} len {length}", icmp.kind, icmp.code);
    }
    format!("{} len {length}", protocol_name(inner.protocol))
}

fn protocol_name(number: u8) -> &'static str {
    match number {
        1 | 58 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        _ => "IP",
    }
}

fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
