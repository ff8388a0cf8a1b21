//! The frames the generator sends: minimal Ethernet, IPv4 and TCP.

/// Frame length in octets: the least Ethernet allows, without its checksum, all of it used.
pub(crate) const LENGTH: usize = 60;

/// Offset of the TCP source port.
pub(crate) const SOURCE_PORT: i16 = 34;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// TCP flags of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flags {
    Syn = 0x02,
    Ack = 0x10,
    SynAck = 0x12,
}

/// One TCP segment with its addresses; ports in host byte order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) macs: (Mac, Mac),
    pub(crate) from: ([u8; 4], u16),
    pub(crate) to: ([u8; 4], u16),
    pub(crate) flags: Flags,
}

impl Segment {
    /// The whole frame with right checksums.
    pub(crate) fn frame(&self) -> [u8; LENGTH] {
        let mut frame = [0; LENGTH];
        frame[0..6].copy_from_slice(&self.macs.1);
        frame[6..12].copy_from_slice(&self.macs.0);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let ip = &mut frame[14..];
        let total = ip.len() as u16;
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip[6] = 0x40;
        ip[8..10].copy_from_slice(&[64, 6]);
        ip[12..16].copy_from_slice(&self.from.0);
        ip[16..20].copy_from_slice(&self.to.0);
        let checksum = checksum(&[&ip[..20]]);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());

        let (ip, tcp) = ip.split_at_mut(20);
        tcp[0..2].copy_from_slice(&self.from.1.to_be_bytes());
        tcp[2..4].copy_from_slice(&self.to.1.to_be_bytes());
        let (sequence, acknowledged) = match self.flags {
            Flags::Syn => (1000_u32, 0_u32),
            Flags::SynAck => (2000, 1001),
            Flags::Ack => (1001, 2001),
        };
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        tcp[12..14].copy_from_slice(&[0x50, self.flags as u8]);
        tcp[14..16].copy_from_slice(&0x2000_u16.to_be_bytes());
        tcp[20..].copy_from_slice(b"lab...");
        let length = tcp.len() as u8;
        let checksum = self::checksum(&[&ip[12..20], &[0, 6, 0, length], tcp]);
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        frame
    }
}

/// The Internet checksum over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks_exact(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_verify() {
        let segment = Segment {
            macs: ([2; 6], [4; 6]),
            from: ([10, 1, 0, 2], 40_000),
            to: ([10, 9, 0, 1], 80),
            flags: Flags::Ack,
        };
        let frame = segment.frame();
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        assert_eq!(checksum(&[&frame[26..34], &[0, 6, 0, 26], &frame[34..]]), 0);
        // RFC 1071's example
        assert_eq!(
            checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
            !0xddf2
        );
    }
}
