//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are kept in the byte order in which words lie in memory; one's complement addition does
//! not care, as long as everything added was loaded the same way.

/// A running difference between old and new words: what a checksum over them has to follow.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(Debug))]
#[repr(transparent)]
pub struct Difference(pub u32);

impl Difference {
    /// Nothing changed.
    pub const NONE: Self = Self(0);

    /// Notes that the 16-bit word `old` became `new`.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u32 + new as u32)
    }

    /// Notes that the 32-bit word `old` became `new`.
    #[inline(always)]
    #[must_use]
    pub const fn long(self, old: u32, new: u32) -> Self {
        self.word((old >> 16) as u16, (new >> 16) as u16)
            .word(old as u16, new as u16)
    }

    /// Notes that a four-word address changed. 8 words fit well below overflow.
    #[inline(always)]
    #[must_use]
    pub const fn address(self, old: &[u32; 4], new: &[u32; 4]) -> Self {
        self.long(old[0], new[0])
            .long(old[1], new[1])
            .long(old[2], new[2])
            .long(old[3], new[3])
    }

    /// The checksum field after the change; `check` as it lies in memory.
    #[inline(always)]
    pub const fn apply(self, check: u16) -> u16 {
        !fold((!check) as u32 + fold(self.0) as u32)
    }
}

/// Folds carries until the sum fits 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Adds the words of `bytes` to `sum`, an odd last byte padded with zero.
pub fn add(mut sum: u32, bytes: &[u8]) -> u32 {
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        sum += u32::from(u16::from_ne_bytes([word[0], word[1]]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if let [last] = words.remainder() {
        sum += u32::from(u16::from_ne_bytes([*last, 0]));
    }
    sum
}

/// The checksum of `bytes`, as it has to lie in memory; 0 when `bytes` include a right checksum.
pub fn of(bytes: &[u8]) -> u16 {
    !fold(add(0, bytes))
}

/// The sum of a pseudo header (RFC 793, RFC 8200 section 8.1) for [`add`]; addresses as bytes.
pub fn pseudo_header(source: &[u8], destination: &[u8], protocol: u8, length: u32) -> u32 {
    let sum = add(add(0, source), destination);
    let sum = add(sum, &length.to_be_bytes());
    add(sum, &[0, protocol])
}
