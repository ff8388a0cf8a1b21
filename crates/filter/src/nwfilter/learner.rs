//! Leases of a guest, read from the DHCP that it is answered with.
//!
//! libvirt installs the first lease only, and for good. Here each acknowledgement replaces the one before,
//! and lasts as long as it says.

use std::net::Ipv4Addr;

use pointsman_wire::protocol;

use crate::address;
use crate::field::Field;
use crate::frame::Frame;

/// Offset of the options, after the header of BOOTP and four bytes that say that these are DHCP's.
const OPTIONS: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Options: the pad, an address lease time, a message type, a server's identifier, the end.
const PAD: u8 = 0;
const LEASE_TIME: u8 = 51;
const MESSAGE_TYPE: u8 = 53;
const SERVER: u8 = 54;
const END: u8 = 255;
/// Message types.
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const RELEASE: u8 = 7;

/// Longest lease, in seconds: what nft takes for a timeout fits in 64 bits of milliseconds, and a year is
/// as good as for ever.
const LONGEST: u32 = 365 * 24 * 3600;

/// What a frame says about the guest's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The address is the guest's for so many seconds, and no other is.
    Leased {
        /// The address.
        address: Ipv4Addr,
        /// Seconds.
        seconds: u32,
        /// Who says so.
        server: Ipv4Addr,
    },
    /// The guest gave its address back.
    Released,
}

/// Reads DHCP at a guest's port.
#[derive(Debug, Clone)]
pub struct Learner {
    mac: u128,
    servers: Vec<Ipv4Addr>,
    /// The address that holds, as far as this learner saw.
    address: Option<Ipv4Addr>,
}

impl Learner {
    /// For a guest with this link-layer address; answers of other servers are not believed, if any are
    /// named. Nothing if a text is not an address.
    pub fn new<'s>(mac: &str, servers: impl Iterator<Item = &'s str>) -> Option<Self> {
        Some(Self {
            mac: address::mac(mac)?,
            servers: servers
                .map(|text| text.parse().ok())
                .collect::<Option<_>>()?,
            address: None,
        })
    }

    /// Takes a frame that went to the guest.
    pub fn handle_answer(&mut self, bytes: &[u8]) -> Option<News> {
        let message = Message::read(bytes, [67, 68])?;
        let server = message.server.unwrap_or(message.source);
        let believed = self.servers.is_empty()
            || self.servers.contains(&message.source) && self.servers.contains(&server);
        // Without a lease time it answers a question for settings, not for an address.
        let seconds = message.lease_seconds?.min(LONGEST);
        if message.kind != ACK || message.hardware != self.mac || !believed || seconds == 0 {
            return None;
        }
        let address = message.yours;
        if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            return None;
        }
        self.address = Some(address);
        Some(News::Leased {
            address,
            seconds,
            server,
        })
    }

    /// Takes a frame that the guest sent.
    pub fn handle_question(&mut self, bytes: &[u8]) -> Option<News> {
        let message = Message::read(bytes, [68, 67])?;
        let gives_back = message.kind == RELEASE && Some(message.own) == self.address
            || message.kind == DECLINE && self.address.is_some();
        if !gives_back || message.hardware != self.mac {
            return None;
        }
        self.address = None;
        Some(News::Released)
    }
}

/// What matters of a message.
struct Message {
    source: Ipv4Addr,
    kind: u8,
    /// `ciaddr`: the address that the client says it has.
    own: Ipv4Addr,
    /// `yiaddr`: the address that the client gets.
    yours: Ipv4Addr,
    hardware: u128,
    lease_seconds: Option<u32>,
    server: Option<Ipv4Addr>,
}

impl Message {
    fn read(bytes: &[u8], ports: [u16; 2]) -> Option<Self> {
        let frame = Frame::parse(bytes).ok()?;
        let packet = frame.packet().filter(|_| !frame.is_tagged())?;
        if packet.version != 4 || packet.protocol != protocol::UDP || packet.later_fragment {
            return None;
        }
        let found = [Field::SourcePort(None), Field::DestinationPort(None)]
            .map(|field| packet.get(field, false));
        if found != ports.map(|port| Some(u128::from(port))) {
            return None;
        }
        let message = packet.payload.get(8..)?;
        let address = |at: usize| {
            let bytes = message.get(at..at + 4)?;
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
        };
        // Ethernet addresses of six bytes.
        if message.get(1..3)? != [1, 6] || message.get(236..OPTIONS)? != COOKIE {
            return None;
        }
        let hardware = message.get(28..34)?;
        let mut read = Self {
            source: Ipv4Addr::from(u32::try_from(packet.source).ok()?),
            kind: 0,
            own: address(12)?,
            yours: address(16)?,
            hardware: hardware
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u128::from(byte)),
            lease_seconds: None,
            server: None,
        };
        let mut rest = &message[OPTIONS..];
        while let [option, tail @ ..] = rest {
            match *option {
                PAD => {
                    rest = tail;
                    continue;
                }
                END => break,
                _ => {}
            }
            let (&length, tail) = tail.split_first()?;
            let value = tail.get(..length.into())?;
            rest = &tail[length.into()..];
            match (*option, value) {
                (MESSAGE_TYPE, &[kind]) => read.kind = kind,
                (LEASE_TIME, &[a, b, c, d]) => {
                    read.lease_seconds = Some(u32::from_be_bytes([a, b, c, d]));
                }
                (SERVER, &[a, b, c, d]) => read.server = Some(Ipv4Addr::new(a, b, c, d)),
                _ => {}
            }
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "02:00:73:b6:53:c8";
    const SERVER_ADDRESS: [u8; 4] = [10, 9, 0, 254];

    /// A message to the guest, or from it if it releases or declines.
    fn message(kind: u8, address: [u8; 4], lease: Option<u32>) -> Vec<u8> {
        let from_guest = kind == RELEASE || kind == DECLINE;
        let mut bytes = vec![if from_guest { 1 } else { 2 }, 1, 6, 0];
        bytes.resize(OPTIONS, 0);
        let at = if from_guest { 12 } else { 16 };
        bytes[at..at + 4].copy_from_slice(&address);
        bytes[28..34].copy_from_slice(&[2, 0, 0x73, 0xb6, 0x53, 0xc8]);
        bytes[236..].copy_from_slice(&COOKIE);
        // The type is not the first option, and there is a pad.
        bytes.extend([SERVER, 4]);
        bytes.extend(SERVER_ADDRESS);
        bytes.extend([PAD, MESSAGE_TYPE, 1, kind]);
        if let Some(lease) = lease {
            bytes.extend([LEASE_TIME, 4]);
            bytes.extend(lease.to_be_bytes());
        }
        bytes.push(END);
        let ports: [u16; 2] = if from_guest { [68, 67] } else { [67, 68] };
        let mut udp = ports.map(u16::to_be_bytes).concat();
        udp.extend((8 + bytes.len() as u16).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(bytes);
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]);
        frame.extend((20 + udp.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend(if from_guest { address } else { SERVER_ADDRESS });
        frame.extend([255; 4]);
        frame.extend(udp);
        frame
    }

    fn learner(servers: &[&str]) -> Learner {
        Learner::new(MAC, servers.iter().copied()).unwrap()
    }

    fn leased(last: u8, seconds: u32) -> Option<News> {
        Some(News::Leased {
            address: Ipv4Addr::new(10, 9, 0, last),
            seconds,
            server: SERVER_ADDRESS.into(),
        })
    }

    #[test]
    fn each_acknowledgement_counts_and_a_release_ends_it() {
        let mut learner = learner(&[]);
        let ack = |last, seconds| message(ACK, [10, 9, 0, last], Some(seconds));
        assert_eq!(learner.handle_answer(&ack(5, 600)), leased(5, 600));
        assert_eq!(learner.handle_answer(&ack(5, 700)), leased(5, 700));
        assert_eq!(learner.handle_answer(&ack(6, u32::MAX)), leased(6, LONGEST));
        let release = |last| message(RELEASE, [10, 9, 0, last], None);
        assert_eq!(learner.handle_question(&release(5)), None);
        assert_eq!(learner.handle_question(&release(6)), Some(News::Released));
        assert_eq!(learner.handle_question(&release(6)), None);
    }

    #[test]
    fn what_is_no_lease_of_the_guest_is_not_learned() {
        let good = message(ACK, [10, 9, 0, 5], Some(600));
        let mut strangers = learner(&["10.9.0.253"]);
        assert_eq!(strangers.handle_answer(&good), None);
        assert!(learner(&["10.9.0.254"]).handle_answer(&good).is_some());
        let mut own = learner(&[]);
        // An offer, an answer without a lease, no address, somebody else's, a guest that plays server.
        let offer = message(2, [10, 9, 0, 5], Some(600));
        let inform = message(ACK, [10, 9, 0, 5], None);
        let nobody = message(ACK, [0, 0, 0, 0], Some(600));
        let mut other = good.clone();
        other[14 + 28 + 28] ^= 1;
        for frame in [offer, inform, nobody, other] {
            assert_eq!(own.handle_answer(&frame), None);
        }
        assert_eq!(own.handle_question(&good), None);
        // With any two bytes changed it does no harm, and never becomes another guest's.
        for at in 0..good.len() * 256 {
            let mut changed = good.clone();
            changed[at / 256] = at as u8;
            let other = at.wrapping_mul(0x9e37_79b9) >> 8;
            changed[other % good.len()] ^= (other >> 16) as u8;
            let mut learner = learner(&[]);
            learner.handle_question(&changed);
            if learner.handle_answer(&changed).is_some() {
                assert_eq!(changed[70..76], good[70..76]);
            }
        }
        // Cut anywhere, it is nothing or still the same.
        for end in 0..good.len() {
            let news = learner(&[]).handle_answer(&good[..end]);
            assert!(news.is_none() || news == leased(5, 600), "{end}");
        }
    }
}
