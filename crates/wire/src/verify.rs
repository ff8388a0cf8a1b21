//! Whether the checksums of a frame are right, through tunnels and quotes.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::checksum;
use crate::icmp::Icmp;
use crate::layers::{DEPTH, Link, Packet, Transport, gre_checksum, quotes};
use crate::protocol;
use crate::sctp::{self, Sctp};
use crate::tcp::Tcp;
use crate::udp::Udp;

/// Which checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checksummed {
    /// The IPv4 header's.
    Ipv4Header,
    /// The header's of an IPv4 packet quoted by an ICMP error.
    QuotedIpv4Header,
    /// TCP's.
    Tcp,
    /// UDP's.
    Udp,
    /// ICMP's.
    Icmp,
    /// ICMPv6's.
    Icmpv6,
    /// SCTP's CRC32c.
    Sctp,
    /// GRE's.
    Gre,
}

impl fmt::Display for Checksummed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Header => "IPv4 header",
            Self::QuotedIpv4Header => "quoted IPv4 header",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
            Self::Icmpv6 => "ICMPv6",
            Self::Sctp => "SCTP",
            Self::Gre => "GRE",
        })
    }
}

/// What is wrong with a frame's checksums; `at` is the byte of the frame where the field starts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChecksumError {
    /// The field holds another number than the bytes give.
    #[error("{what} checksum at byte {at} is {found:#06x}, its bytes give {expected:#06x}")]
    Wrong {
        /// Which checksum.
        what: Checksummed,
        /// Where the field starts, bytes.
        at: usize,
        /// The field as read, network byte order.
        found: u32,
        /// What it should be.
        expected: u32,
    },
    /// The field holds the pseudo header's sum: the frame was captured before the sender's network
    /// device completed it, or forwarded past what should have.
    #[error(
        "{what} checksum at byte {at} is {found:#06x}, the sum of the pseudo header alone: \
         the sender left the rest to checksum offload"
    )]
    Offloaded {
        /// Which checksum.
        what: Checksummed,
        /// Where the field starts, bytes.
        at: usize,
        /// The field as read, network byte order.
        found: u32,
    },
    /// A UDP packet over IPv6 has no checksum and is no tunnel's.
    #[error("UDP checksum at byte {at} is 0, which IPv6 does not allow")]
    Missing {
        /// Where the field starts, bytes.
        at: usize,
    },
    /// The bytes end before what the checksum covers does, or a header contradicts itself.
    #[error("checksums can't be verified: {reason} at byte {at}")]
    Unreadable {
        /// As the text line marks it: `[|tcp]`, `[bad ip length]`.
        reason: String,
        /// Where the unreadable header starts, bytes.
        at: usize,
    },
}

/// Checks the IPv4 header checksum and the transport checksum of an Ethernet frame, and those of
/// packets it tunnels; the first wrong one from the outside is the error.
///
/// Frames that carry no IP are right. Of fragments only the header is checked, of packets quoted by
/// ICMP errors only the IPv4 header.
pub fn verify_checksums(frame: &[u8]) -> Result<(), ChecksumError> {
    let link = Link::parse(frame).map_err(|flaw| unreadable(flaw, 0))?;
    if let Some(flaw) = link.flaw {
        return Err(unreadable(flaw, offset(frame, link.payload)));
    }
    if !link.carries_ip() {
        return Ok(());
    }
    Verifier { frame }.packet(link.payload, DEPTH, false)
}

/// Checks a packet that starts with its IP header, as [`verify_checksums`] does a frame.
pub fn verify_packet_checksums(packet: &[u8]) -> Result<(), ChecksumError> {
    Verifier { frame: packet }.packet(packet, DEPTH, false)
}

fn unreadable(reason: impl fmt::Display, at: usize) -> ChecksumError {
    ChecksumError::Unreadable {
        reason: reason.to_string(),
        at,
    }
}

/// Where `part`, a slice of `whole`, starts in it.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}

struct Verifier<'a> {
    frame: &'a [u8],
}

impl<'a> Verifier<'a> {
    fn packet(&self, bytes: &'a [u8], depth: usize, partial: bool) -> Result<(), ChecksumError> {
        let at = offset(self.frame, bytes);
        let Some(depth) = depth.checked_sub(1) else {
            return Err(unreadable("nested too deeply", at));
        };
        let packet = Packet::parse(bytes).map_err(|flaw| unreadable(flaw, at))?;
        self.ipv4_header(&packet, Checksummed::Ipv4Header)?;
        if packet.is_partial() {
            return Ok(());
        }
        let transport = packet.transport();
        if let Transport::Flawed(flaw) = transport {
            return Err(unreadable(flaw, offset(self.frame, packet.payload)));
        }
        let covered = matches!(
            transport,
            Transport::Tcp { .. }
                | Transport::Udp { .. }
                | Transport::Sctp { .. }
                | Transport::Icmp { .. }
        ) || gre_checksum(packet.payload).is_some();
        if covered && packet.payload.len() < packet.length {
            return Err(unreadable("[|payload]", offset(self.frame, packet.payload)));
        }
        let inner = packet.tunnelled(&transport);
        match &transport {
            _ if partial => {}
            Transport::Tcp { .. } => {
                self.segment(&packet, packet.payload, Checksummed::Tcp, Tcp::CHECKSUM)?;
            }
            Transport::Udp { header, length, .. } => {
                let checksum = packet.payload.len().min(length + Udp::LEN as usize);
                if header.checksum.raw() != 0 {
                    let covered = &packet.payload[..checksum];
                    self.segment(&packet, covered, Checksummed::Udp, Udp::CHECKSUM)?;
                } else if packet.version == 6 && inner.is_none() {
                    let at = offset(self.frame, packet.payload) + Udp::CHECKSUM as usize;
                    return Err(ChecksumError::Missing { at });
                }
            }
            Transport::Icmp { .. } if packet.version == 6 => {
                self.segment(&packet, packet.payload, Checksummed::Icmpv6, Icmp::CHECKSUM)?;
            }
            Transport::Icmp { .. } => {
                self.sum(
                    packet.payload,
                    0,
                    Checksummed::Icmp,
                    Icmp::CHECKSUM as usize,
                )?;
            }
            Transport::Sctp { header, .. } => self.sctp(packet.payload, header)?,
            Transport::Gre { .. } if gre_checksum(packet.payload).is_some() => {
                self.sum(packet.payload, 0, Checksummed::Gre, 4)?;
            }
            _ => {}
        }
        if let Transport::Icmp { header, body } = &transport
            && quotes(packet.version, header.kind)
            && let Ok(quoted) = Packet::parse(body)
        {
            self.ipv4_header(&quoted, Checksummed::QuotedIpv4Header)?;
        }
        match inner {
            Some(inner) => self.packet(inner.bytes, depth, inner.partial),
            None => Ok(()),
        }
    }

    fn ipv4_header(&self, packet: &Packet<'_>, what: Checksummed) -> Result<(), ChecksumError> {
        if packet.version == 4 {
            self.sum(packet.header, 0, what, 10)
        } else {
            Ok(())
        }
    }

    /// A checksum with pseudo header, at byte `field` of `segment`.
    fn segment(
        &self,
        packet: &Packet<'_>,
        segment: &[u8],
        what: Checksummed,
        field: u32,
    ) -> Result<(), ChecksumError> {
        let protocol = match what {
            Checksummed::Tcp => protocol::TCP,
            Checksummed::Udp => protocol::UDP,
            _ => protocol::ICMPV6,
        };
        let length = segment.len() as u32;
        let pseudo = match (packet.source, packet.final_destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                checksum::pseudo_header(&source.octets(), &destination.octets(), protocol, length)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                checksum::pseudo_header(&source.octets(), &destination.octets(), protocol, length)
            }
            // One packet has addresses of one version.
            _ => return Ok(()),
        };
        self.sum(segment, pseudo, what, field as usize)
    }

    /// Checks `bytes` with `sum` added, whose checksum lies at byte `field`.
    fn sum(
        &self,
        bytes: &[u8],
        sum: u32,
        what: Checksummed,
        field: usize,
    ) -> Result<(), ChecksumError> {
        let total = checksum::fold(checksum::add(sum, bytes));
        if total == 0xffff {
            return Ok(());
        }
        let found = bytes
            .get(field..)
            .and_then(|rest| rest.first_chunk().copied());
        let at = offset(self.frame, bytes) + field;
        let Some(found) = found.map(u16::from_ne_bytes) else {
            return Err(unreadable("[|checksum]", at));
        };
        // Take the field out of the sum; what is left wants its complement there.
        let expected = !checksum::fold(u32::from(total) + u32::from(!found));
        // UDP keeps 0 for "no checksum".
        let expected = if what == Checksummed::Udp && expected == 0 {
            0xffff
        } else {
            expected
        };
        let network = |word: u16| u32::from(u16::from_be(word));
        if sum != 0 && found == checksum::fold(sum) {
            return Err(ChecksumError::Offloaded {
                what,
                at,
                found: network(found),
            });
        }
        let (found, expected) = (network(found), network(expected));
        Err(ChecksumError::Wrong {
            what,
            at,
            found,
            expected,
        })
    }

    fn sctp(&self, packet: &[u8], header: &Sctp) -> Result<(), ChecksumError> {
        let field = Sctp::CHECKSUM as usize;
        let (before, after) = (&packet[..field], &packet[field + 4..]);
        let expected = sctp::crc32c(&[before, &[0; 4], after]).swap_bytes();
        let found = u32::from_be_bytes(header.checksum);
        if found == expected {
            return Ok(());
        }
        let at = offset(self.frame, packet) + field;
        Err(ChecksumError::Wrong {
            what: Checksummed::Sctp,
            at,
            found,
            expected,
        })
    }
}
