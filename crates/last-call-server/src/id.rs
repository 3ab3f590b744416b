//! The ids of things, as LiveKit's own look: a prefix and twelve letters or digits.
//!
//! Owns their making. Refuses meaning: an id is not a secret and tells no time.

/// Letters and digits in an id.
const LENGTH: usize = 12;

/// A new id that begins with `prefix`.
pub(crate) fn new(prefix: &str) -> String {
    let mut id = String::with_capacity(prefix.len() + LENGTH);
    id.push_str(prefix);
    id.extend(std::iter::repeat_with(fastrand::alphanumeric).take(LENGTH));
    id
}
