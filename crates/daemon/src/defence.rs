//! Whether short memory makes IPVS's automatic defence work (`drop_entry` 1 and 2).

/// The mode that follows `mode` when memory is `short` or not: 1 becomes 2 while it is, and returns;
/// 0 and 3 stay.
pub fn next_mode(mode: u32, short: bool) -> u32 {
    match (mode, short) {
        (1, true) => 2,
        (2, false) => 1,
        _ => mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_automatic_modes_follow_memory() {
        let after: Vec<_> = (0..4)
            .map(|mode| (next_mode(mode, false), next_mode(mode, true)))
            .collect();
        assert_eq!(after, [(0, 0), (1, 2), (1, 2), (3, 3)]);
    }
}
