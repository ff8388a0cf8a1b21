//! Bytes that both ends of a transfer can compute, so that a body can be compared to the last byte.

/// The byte at an offset; neighbouring blocks differ, so that a lost or doubled one shows.
pub const fn byte(offset: u64) -> u8 {
    (offset ^ (offset >> 8).wrapping_mul(7) ^ (offset >> 16).wrapping_mul(31)) as u8
}

/// `length` bytes from `start` on.
pub fn bytes(start: u64, length: usize) -> Vec<u8> {
    (start..).take(length).map(byte).collect()
}

/// Offset of the first byte that is not as it should be, the end of the shorter one included.
pub fn first_difference(found: &[u8], length: usize) -> Option<usize> {
    let wrong = found
        .iter()
        .enumerate()
        .position(|(at, found)| *found != byte(at as u64));
    match wrong {
        Some(at) if at < length => Some(at),
        _ if found.len() != length => Some(found.len().min(length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_missing_or_extra_byte_is_found_at_its_offset() {
        let whole = bytes(0, 70_000);
        assert_eq!(first_difference(&whole, 70_000), None);
        assert_eq!(first_difference(&whole[..69_000], 70_000), Some(69_000));
        assert_eq!(first_difference(&whole, 69_000), Some(69_000));
        let mut changed = whole.clone();
        changed[66_000] ^= 1;
        assert_eq!(first_difference(&changed, 70_000), Some(66_000));
        changed = whole;
        changed.drain(1448..2896);
        assert!(first_difference(&changed, 70_000).is_some_and(|at| (1448..2896).contains(&at)));
    }
}
