//! Ranges of a fixed number of places, handed out and taken back.

use std::collections::{BTreeMap, BTreeSet};

/// Free ranges, best fit, neighbours joined.
///
/// A range given back rests until [`Lines::settle`]: a packet on another processor may still be
/// reading what it held.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Length of each free range by its start.
    free: BTreeMap<u32, u32>,
    /// The same ranges, length and start.
    by_length: BTreeSet<(u32, u32)>,
    /// Ranges given back, start and length.
    resting: Vec<(u32, u32)>,
}

impl Lines {
    /// All of `0..size` free.
    pub(super) fn new(size: u32) -> Self {
        let mut lines = Self::default();
        lines.insert(0, size);
        lines
    }

    fn insert(&mut self, start: u32, length: u32) {
        if length != 0 {
            self.free.insert(start, length);
            self.by_length.insert((length, start));
        }
    }

    /// Removes the free range at `start`; its length.
    fn remove(&mut self, start: u32) -> Option<u32> {
        let length = self.free.remove(&start)?;
        self.by_length.remove(&(length, start));
        Some(length)
    }

    /// A range of `length`, or none; a range of length 0 starts anywhere.
    pub(super) fn take(&mut self, length: u32) -> Option<u32> {
        if length == 0 {
            return Some(0);
        }
        let fits = |lines: &Self| lines.by_length.range((length, 0)..).next().copied();
        let (size, start) = match fits(self) {
            Some(range) => range,
            None => {
                // Better a short rest than a refusal.
                self.settle();
                fits(self)?
            }
        };
        self.remove(start);
        self.insert(start + length, size - length);
        Some(start)
    }

    /// Takes exactly the range at `start`, if all of it is free.
    pub(super) fn claim(&mut self, start: u32, length: u32) -> bool {
        if length == 0 {
            return true;
        }
        let Some((&from, &size)) = self.free.range(..=start).next_back() else {
            return false;
        };
        let end = from + size;
        if start >= end || length > end - start {
            return false;
        }
        self.remove(from);
        self.insert(from, start - from);
        self.insert(start + length, end - start - length);
        true
    }

    /// Gives a range back.
    pub(super) fn give(&mut self, start: u32, length: u32) {
        if length != 0 {
            self.resting.push((start, length));
        }
    }

    /// Makes everything given back available again.
    pub(super) fn settle(&mut self) {
        for (start, length) in std::mem::take(&mut self.resting) {
            self.join(start, length);
        }
    }

    fn join(&mut self, start: u32, length: u32) {
        let mut start = start;
        let mut length = length;
        if let Some((&before, &size)) = self.free.range(..start).next_back()
            && before + size == start
        {
            self.remove(before);
            start = before;
            length += size;
        }
        if let Some(size) = self.remove(start + length) {
            length += size;
        }
        self.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_back_whole() {
        let mut lines = Lines::new(10);
        let a = lines.take(4).unwrap();
        let b = lines.take(4).unwrap();
        assert_eq!((a, b), (0, 4));
        assert_eq!(lines.take(4), None);
        lines.give(a, 4);
        lines.give(b, 4);
        assert_eq!(lines.take(2), Some(8), "what was given back rests");
        lines.give(8, 2);
        assert_eq!(lines.take(10), Some(0));
        assert_eq!(lines.take(1), None);
        assert_eq!(lines.take(0), Some(0));
    }

    #[test]
    fn a_claim_splits_and_refuses() {
        let mut lines = Lines::new(10);
        assert!(lines.claim(3, 2));
        assert!(!lines.claim(4, 1));
        assert!(!lines.claim(9, 2));
        assert_eq!(lines.take(5), Some(5));
        assert_eq!(lines.take(3), Some(0));
        lines.give(3, 2);
        lines.settle();
        assert!(lines.claim(3, 2));
    }
}
