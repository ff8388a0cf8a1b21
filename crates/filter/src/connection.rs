//! Connections as the kernel's connection tracking knows them: a snapshot that frames move on.

use std::collections::HashMap;

use pointsman_wire::{icmp, protocol, tcp};

use crate::field::Field;
use crate::frame::{Frame, Packet};

/// Where a packet stands to its connection; the numbers are the bits of nftables' `ct state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Belongs to nothing and can't begin anything.
    Invalid = 1,
    /// Belongs to a connection that was seen in both directions, or is a reply.
    Established = 2,
    /// Is about a connection: an ICMP error.
    Related = 4,
    /// Begins a connection, or belongs to one that nobody answered yet.
    New = 8,
    /// Was kept out of connection tracking.
    Untracked = 64,
}

/// A packet's state and direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The state.
    pub state: State,
    /// True for replies, nothing where there is no connection.
    pub reply: Option<bool>,
}

impl Standing {
    const INVALID: Self = Self {
        state: State::Invalid,
        reply: None,
    };
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Tuple {
    version: u8,
    protocol: u8,
    source: u128,
    destination: u128,
    /// Source port; for ICMP the identifier.
    source_port: u16,
    /// Destination port; for ICMP type and code.
    destination_port: u16,
}

impl Tuple {
    fn of(packet: &Packet<'_>) -> Option<Self> {
        if packet.later_fragment {
            return None;
        }
        let (source_port, destination_port) = match packet.protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP | 33 | 136 => (
                packet.get(Field::SourcePort(None), false)? as u16,
                packet.get(Field::DestinationPort(None), false)? as u16,
            ),
            protocol::ICMP | protocol::ICMPV6 => {
                let bytes = packet.payload;
                let id = u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]);
                (id, u16::from_be_bytes([bytes[0], bytes[1]]))
            }
            _ => (0, 0),
        };
        Some(Self {
            version: packet.version,
            protocol: packet.protocol,
            source: packet.source,
            destination: packet.destination,
            source_port,
            destination_port,
        })
    }

    fn turned(self) -> Option<Self> {
        let (source_port, destination_port) = match self.protocol {
            protocol::ICMP | protocol::ICMPV6 => {
                let [kind, code] = self.destination_port.to_be_bytes();
                let other = match (self.protocol, kind) {
                    (protocol::ICMP, icmp::V4_ECHO_REQUEST) => icmp::V4_ECHO_REPLY,
                    (protocol::ICMP, icmp::V4_ECHO_REPLY) => icmp::V4_ECHO_REQUEST,
                    (protocol::ICMP, 13) => 14,
                    (protocol::ICMP, 14) => 13,
                    (protocol::ICMPV6, icmp::V6_ECHO_REQUEST) => icmp::V6_ECHO_REPLY,
                    (protocol::ICMPV6, icmp::V6_ECHO_REPLY) => icmp::V6_ECHO_REQUEST,
                    _ => return None,
                };
                (self.source_port, u16::from_be_bytes([other, code]))
            }
            _ => (self.destination_port, self.source_port),
        };
        Some(Self {
            source: self.destination,
            destination: self.source,
            source_port,
            destination_port,
            ..self
        })
    }

    /// Whether a packet like this may be the first of a connection, by its kind alone.
    fn may_begin(self) -> bool {
        let kind = (self.destination_port >> 8) as u8;
        match self.protocol {
            protocol::ICMP => matches!(kind, icmp::V4_ECHO_REQUEST | 13 | 15 | 17),
            protocol::ICMPV6 => matches!(kind, icmp::V6_ECHO_REQUEST | 139),
            _ => true,
        }
    }
}

/// TCP states of connection tracking, `nf_conntrack_tcp.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tcp {
    None,
    SynSent,
    SynReceived,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
    Invalid,
    Ignore,
}

/// What TCP flags say, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Syn,
    SynAck,
    Fin,
    Ack,
    Reset,
    Nothing,
}

impl Segment {
    fn of(flags: u8) -> Self {
        if flags & tcp::RST != 0 {
            Self::Reset
        } else if flags & tcp::SYN != 0 {
            if flags & tcp::ACK != 0 {
                Self::SynAck
            } else {
                Self::Syn
            }
        } else if flags & tcp::FIN != 0 {
            Self::Fin
        } else if flags & tcp::ACK != 0 {
            Self::Ack
        } else {
            Self::Nothing
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// A reply was seen.
    answered: bool,
    tcp: Tcp,
}

/// The connections of a host. Window tracking is left out: a segment outside its window is
/// taken for one inside.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    /// By the direction of the first packet.
    entries: HashMap<Tuple, Entry>,
}

impl Connections {
    /// No connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where a frame stands; nothing if connection tracking does not look at it.
    pub fn standing(&self, frame: &Frame<'_>) -> Option<Standing> {
        let packet = frame.packet().filter(|_| !frame.is_tagged())?;
        // Neighbour discovery and group management are not tracked.
        if packet.protocol == protocol::ICMPV6
            && packet
                .get(Field::Icmp6Type, false)
                .is_some_and(|kind| (130..=137).contains(&kind) || kind == 143)
        {
            return Some(Standing {
                state: State::Untracked,
                reply: None,
            });
        }
        Some(self.lookup(packet).0)
    }

    /// Remembers a frame that passed everything.
    pub fn confirm(&mut self, frame: &Frame<'_>) {
        let Some(packet) = frame.packet().filter(|_| !frame.is_tagged()) else {
            return;
        };
        let (standing, found) = self.lookup(packet);
        if standing.state == State::Invalid || standing.state == State::Related {
            return;
        }
        let Some((tuple, next)) = found else { return };
        let entry = self.entries.entry(tuple).or_insert(Entry {
            answered: false,
            tcp: Tcp::None,
        });
        entry.answered |= standing.reply == Some(true);
        if let Some(next) = next {
            entry.tcp = next;
        }
    }

    /// How many connections the address has, this packet's included.
    pub(crate) fn count(
        &self,
        packet: &Packet<'_>,
        address: u128,
        prefix: u32,
        by_destination: bool,
    ) -> u32 {
        let width = if packet.version == 4 { 32 } else { 128 };
        let shift = width - prefix.min(width);
        let part = |address: u128| address.checked_shr(shift).unwrap_or(0);
        let own = Tuple::of(packet);
        let others = self.entries.keys().filter(|tuple| {
            let its = if by_destination {
                tuple.destination
            } else {
                tuple.source
            };
            tuple.version == packet.version && part(its) == part(address) && Some(**tuple) != own
        });
        others.count() as u32 + 1
    }

    /// The standing; the connection and its next TCP state.
    fn lookup(&self, packet: &Packet<'_>) -> (Standing, Option<(Tuple, Option<Tcp>)>) {
        let Some(tuple) = Tuple::of(packet) else {
            return (Standing::INVALID, None);
        };
        if let Some(standing) = self.about(packet) {
            return (standing, None);
        }
        let (key, reply, entry) = if let Some(entry) = self.entries.get(&tuple) {
            (tuple, false, Some(*entry))
        } else if let Some((key, entry)) = tuple
            .turned()
            .and_then(|key| self.entries.get(&key).map(|entry| (key, entry)))
        {
            (key, true, Some(*entry))
        } else {
            (tuple, false, None)
        };
        if entry.is_none() && !tuple.may_begin() {
            return (Standing::INVALID, None);
        }
        let mut next = None;
        if packet.protocol == protocol::TCP {
            let Some(flags) = packet.get(Field::TcpFlags, false) else {
                return (Standing::INVALID, None);
            };
            let now = entry.map_or(Tcp::None, |entry| entry.tcp);
            match transition(Segment::of(flags as u8), now, reply) {
                Tcp::Invalid => return (Standing::INVALID, None),
                Tcp::Ignore => {}
                state => next = Some(state),
            }
        }
        let answered = entry.is_some_and(|entry| entry.answered);
        let state = if reply || answered {
            State::Established
        } else {
            State::New
        };
        let standing = Standing {
            state,
            reply: Some(reply),
        };
        (standing, Some((key, next)))
    }

    /// For ICMP errors: whether they are about a connection.
    fn about(&self, packet: &Packet<'_>) -> Option<Standing> {
        let kind = *packet.payload.first()?;
        let is_error = match packet.protocol {
            protocol::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
            protocol::ICMPV6 => kind < 128,
            _ => false,
        };
        if !is_error {
            return None;
        }
        let mut inner = vec![0; 12];
        inner.extend(if packet.version == 4 {
            [8, 0]
        } else {
            [0x86, 0xdd]
        });
        inner.extend(packet.payload.get(8..).unwrap_or_default());
        let frame = Frame::parse(&inner).ok();
        let tuple = frame
            .as_ref()
            .and_then(|frame| frame.packet())
            .and_then(Tuple::of);
        let Some(tuple) = tuple else {
            return Some(Standing::INVALID);
        };
        let found = if self.entries.contains_key(&tuple) {
            // About a packet in the first direction: the error goes against it.
            Some(true)
        } else if tuple
            .turned()
            .is_some_and(|key| self.entries.contains_key(&key))
        {
            Some(false)
        } else {
            None
        };
        Some(match found {
            Some(reply) => Standing {
                state: State::Related,
                reply: Some(reply),
            },
            None => Standing::INVALID,
        })
    }
}

/// The table `tcp_conntracks` of `net/netfilter/nf_conntrack_proto_tcp.c`; with `tcp_loose`, as
/// the kernel has it by default, an ACK begins an established connection.
fn transition(segment: Segment, now: Tcp, reply: bool) -> Tcp {
    use Tcp::{
        Close as CL, CloseWait as CW, Established as ES, FinWait as FW, Ignore as IG,
        Invalid as IV, LastAck as LA, SynReceived as SR, SynSent as SS, SynSent2 as S2,
        TimeWait as TW,
    };
    const ORIGINAL: [[Tcp; 10]; 6] = [
        [SS, SS, IG, IG, IG, IG, IG, SS, SS, S2],
        [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR],
        [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
        [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV],
        [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
        [IV; 10],
    ];
    const REPLY: [[Tcp; 10]; 6] = [
        [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2],
        [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR],
        [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
        [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG],
        [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
        [IV; 10],
    ];
    let table = if reply { &REPLY } else { &ORIGINAL };
    table[segment as usize]
        .get(now as usize)
        .copied()
        .unwrap_or(IV)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(reply: bool, flags: u8) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        let (a, b) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let (from, to) = if reply { (b, a) } else { (a, b) };
        frame.extend(from);
        frame.extend(to);
        let ports: [u8; 4] = if reply { [0, 80, 4, 0] } else { [4, 0, 0, 80] };
        frame.extend(ports);
        frame.extend([0; 8]);
        frame.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        frame
    }

    fn state(connections: &Connections, bytes: &[u8]) -> State {
        let frame = Frame::parse(bytes).unwrap();
        connections.standing(&frame).unwrap().state
    }

    fn confirm(connections: &mut Connections, bytes: &[u8]) {
        connections.confirm(&Frame::parse(bytes).unwrap());
    }

    #[test]
    fn a_handshake_establishes() {
        let mut connections = Connections::new();
        assert_eq!(state(&connections, &segment(false, tcp::SYN)), State::New);
        confirm(&mut connections, &segment(false, tcp::SYN));
        let answer = segment(true, tcp::SYN | tcp::ACK);
        assert_eq!(state(&connections, &answer), State::Established);
        confirm(&mut connections, &answer);
        assert_eq!(
            state(&connections, &segment(false, tcp::ACK)),
            State::Established
        );
    }

    #[test]
    fn an_answer_to_nothing_is_invalid() {
        let connections = Connections::new();
        let answer = segment(true, tcp::SYN | tcp::ACK);
        assert_eq!(state(&connections, &answer), State::Invalid);
        // The kernel takes up connections in the middle.
        assert_eq!(state(&connections, &segment(true, tcp::ACK)), State::New);
    }

    #[test]
    fn an_ack_after_an_unseen_answer_is_invalid() {
        // The reply took another way: what a director with direct routing sees.
        let mut connections = Connections::new();
        confirm(&mut connections, &segment(false, tcp::SYN));
        assert_eq!(
            state(&connections, &segment(false, tcp::ACK)),
            State::Invalid
        );
    }
}
