//! Frames for tests, made from a number.

/// Makes frames from a number, out of values that the filters name and others.
pub struct Maker {
    state: u64,
    number: u64,
}

pub const MACS: &[[u8; 6]] = &[
    [2, 0, 0x73, 0xb6, 0x53, 0xc8],
    [2, 0, 0x73, 0xb6, 0x53, 0x99],
    [0x84, 0x78, 0xac, 0x27, 0x6c, 0x41],
    [6, 0xaa, 0xbb, 0xcc, 0xdd, 0xee],
];
pub const GROUPS: &[[u8; 6]] = &[[0xff; 6], [0x33, 0x33, 0xff, 0, 0, 1], [3, 0, 0, 0, 0, 1]];
pub const IPS: &[[u8; 4]] = &[
    [10, 9, 0, 200],
    [10, 9, 0, 1],
    [10, 1, 1, 1],
    [10, 1, 1, 2],
    [10, 1, 1, 3],
    [172, 16, 1, 1],
    [192, 0, 2, 9],
    [0, 0, 0, 0],
];
pub const PORTS: &[u16] = &[22, 67, 80, 137, 138, 1000];

impl Maker {
    pub fn new(number: u64) -> Self {
        Self {
            state: number,
            number,
        }
    }

    /// splitmix64
    pub fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ word >> 31) >> 8) as usize % limit
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    pub fn frame(&mut self) -> Vec<u8> {
        let mut frame = Vec::new();
        let to = if self.below(3) == 0 { GROUPS } else { MACS };
        frame.extend(self.of(to));
        frame.extend(self.of(MACS));
        let kind = self.below(10);
        if self.below(6) == 0 && kind != 8 {
            let tag = self.of(&[100u16, 200, 0x6064]);
            frame.extend([0x81, 0]);
            frame.extend(tag.to_be_bytes());
        }
        match kind {
            0..4 => self.ipv4(&mut frame),
            4 | 5 => self.ipv6(&mut frame),
            6 | 7 => self.arp(&mut frame),
            8 => self.stp(&mut frame),
            _ => {
                frame.extend(self.of(&[0x88b5u16, 0x88cc, 0x88f7, 0x2048]).to_be_bytes());
                frame.extend([0; 40]);
            }
        }
        // What makes a frame known again.
        frame.extend(self.number.to_be_bytes());
        frame.resize(frame.len().max(60), 0);
        frame
    }

    /// A transport header, and the frame's number.
    fn payload(&mut self, protocol: u8) -> Vec<u8> {
        let mut bytes = match protocol {
            1 | 58 => vec![self.of(&[0u8, 3, 8, 128, 134, 135]), 0, 0, 0],
            _ => [self.of(PORTS), self.of(PORTS)]
                .map(u16::to_be_bytes)
                .concat(),
        };
        bytes.resize(if protocol == 6 { 20 } else { 8 }, 0);
        if protocol == 6 {
            bytes[12] = 0x50;
        }
        bytes.extend(self.number.to_be_bytes());
        bytes
    }

    fn ipv4(&mut self, frame: &mut Vec<u8>) {
        let protocol = self.of(&[1u8, 6, 6, 17, 17, 50]);
        let payload = self.payload(protocol);
        let length = 20 + payload.len() as u16;
        let fragment = self.of(&[0u16, 0, 0, 0, 0x4000, 0x2000, 0x00b9]);
        let mut header = vec![0x45, self.of(&[0u8, 0x28, 0x0a, 0x10])];
        header.extend(
            [length, self.number as u16, fragment]
                .map(u16::to_be_bytes)
                .concat(),
        );
        header.extend([64, protocol, 0, 0]);
        header.extend(self.of(IPS));
        header.extend(self.of(IPS));
        let sum: u32 = header
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend([8, 0]);
        frame.extend(header);
        frame.extend(payload);
    }

    fn ipv6(&mut self, frame: &mut Vec<u8>) {
        let protocol = self.of(&[6u8, 17, 58, 58]);
        let payload = self.payload(protocol);
        frame.extend([
            0x86,
            0xdd,
            0x60,
            0,
            0,
            0,
            0,
            payload.len() as u8,
            protocol,
            64,
        ]);
        for _ in 0..2 {
            let first = self.of(&[0xfe80u16, 0xfd00, 0x2001, 0xff02]);
            frame.extend(first.to_be_bytes());
            frame.extend([0; 13]);
            frame.push(1);
        }
        frame.extend(payload);
    }

    fn arp(&mut self, frame: &mut Vec<u8>) {
        let sender = self.of(IPS);
        let target = if self.below(3) == 0 {
            sender
        } else {
            self.of(IPS)
        };
        frame.extend(self.of(&[0x0806u16, 0x0806, 0x8035]).to_be_bytes());
        frame.extend([
            0,
            self.of(&[1u8, 1, 6]),
            8,
            0,
            6,
            4,
            0,
            self.of(&[1u8, 2, 3]),
        ]);
        frame.extend(self.of(MACS));
        frame.extend(sender);
        frame.extend(self.of(GROUPS));
        frame.extend(target);
        frame.extend([0; 18]);
    }

    /// A bridge's configuration message, or one that is broken.
    fn stp(&mut self, frame: &mut Vec<u8>) {
        frame[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 0]);
        frame.extend([0, 46, 0x42, 0x42, 3, 0, 0, 0]);
        frame.extend([
            self.of(&[0u8, 0x80]),
            self.of(&[0u8, 1]),
            0,
            self.of(&[50u8, 200]),
        ]);
        frame.extend([self.of(&[2u8, 4]), 0, 0, 0, 0, 1]);
        frame.extend((0..20).map(|_| self.below(3) as u8).collect::<Vec<_>>());
    }
}
