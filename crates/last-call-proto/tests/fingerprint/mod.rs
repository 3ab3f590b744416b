//! 128 bits of hash, by which explorations tell states apart.
//!
//! Owns that no two states are taken for one. Refuses to know what a state means.

use std::hash::{DefaultHasher, Hash, Hasher};

pub(crate) fn fingerprint(state: &impl Hash) -> u128 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    let low = hasher.finish();
    // Going on from the first digest with other bytes gives 64 bits that do not follow from it alone.
    0x9E37_79B9_7F4A_7C15_u64.hash(&mut hasher);
    (u128::from(hasher.finish()) << 64) | u128::from(low)
}
