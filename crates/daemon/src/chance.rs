//! Bits by chance.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// 64 bits that nobody can foresee who does not see others of them.
pub(crate) fn bits() -> u64 {
    RandomState::new().build_hasher().finish()
}
