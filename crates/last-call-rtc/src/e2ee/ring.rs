//! The key ring: sixteen keys by index, each with the keys it ratchets to.
//!
//! Owns the search for the key that opens something; refuses to know whose ring it is. A ratcheted key is derived once
//! and kept for all who share the slot, so that what a stranger sends costs PBKDF2 for a window of keys at most, and
//! not for each frame as in the SDKs.

#[cfg(test)]
mod tests;

use zeroize::Zeroizing;

use super::cipher::{Secret, stretch};
use super::{E2eeError, E2eeOptions, KEY_RING};

/// How often a key ratchets: a bound on the keys that one who has the key can make us derive and keep.
const MAX_RATCHETS: usize = 256;

/// The index, when a ring has it.
pub(super) fn in_ring(index: u32) -> Result<u8, E2eeError> {
    u8::try_from(index).ok().filter(|index| *index < KEY_RING).ok_or(E2eeError::Index(index))
}

/// The keys of one participant, or of all.
#[derive(Default)]
pub(super) struct Ring {
    slots: [Option<Slot>; KEY_RING as usize],
    /// The index set last: the one to send with.
    current: u8,
}

impl Ring {
    pub(super) fn set(&mut self, index: u8, slot: Slot) {
        if let Some(place) = self.slots.get_mut(usize::from(index)) {
            *place = Some(slot);
            self.current = index;
        }
    }

    pub(super) fn slot(&mut self, index: u8) -> Result<&mut Slot, E2eeError> {
        let place = self.slots.get_mut(usize::from(index)).ok_or(E2eeError::Index(index.into()))?;
        place.as_mut().ok_or(E2eeError::NoKey(index))
    }

    /// The index and the key to send with.
    pub(super) fn sending(&self) -> Result<(u8, Secret), E2eeError> {
        let slot = self.slots.get(usize::from(self.current)).and_then(Option::as_ref);
        let key = slot.and_then(|slot| slot.chain.get(slot.sending)).cloned();
        Ok((self.current, key.ok_or(E2eeError::NoKey(self.current))?))
    }
}

/// A key that was set, and those it ratchets to.
pub(super) struct Slot {
    /// Tells this key from one set at the same index before or after.
    name: u64,
    /// The keys known so far, each a ratchet on from the one before.
    chain: Vec<Secret>,
    /// What the last of the chain is part of, and the next will be made of.
    material: Zeroizing<[u8; 32]>,
    /// Which of the chain to send with.
    sending: usize,
    /// The furthest of the chain that anyone was heard with.
    heard: usize,
}

/// What one listener knows of the sender at an index.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trail {
    /// The slot this is true of.
    slot: u64,
    /// Which of the slot's chain opened the last frame.
    step: usize,
    /// How many failed since.
    failures: u32,
}

/// How to look for a key.
pub(super) struct Search<'a> {
    pub(super) index: u8,
    pub(super) options: &'a E2eeOptions,
    pub(super) trail: &'a mut Trail,
    /// How many keys to derive at most.
    pub(super) derived: usize,
}

/// What was opened.
pub(super) struct Opened<T> {
    pub(super) value: T,
    /// The sender went on to a later key of the chain.
    pub(super) ratcheted: bool,
}

impl Slot {
    pub(super) fn new(name: u64, key: &[u8], salt: &[u8]) -> Self {
        let material = stretch(key, salt);
        Self { name, chain: vec![Secret::of(&material)], material, sending: 0, heard: 0 }
    }

    /// Sends with the next key from now on.
    pub(super) fn ratchet(&mut self, index: u8, salt: &[u8]) -> Result<(), E2eeError> {
        let next = self.sending + 1;
        if self.chain.len() <= next && !self.lengthen(salt) {
            return Err(E2eeError::Spent(index));
        }
        self.sending = next;
        Ok(())
    }

    pub(super) fn open<T>(
        &mut self,
        search: Search<'_>,
        attempt: impl Fn(&Secret) -> Option<T>,
    ) -> Result<Opened<T>, E2eeError> {
        let Search { index, options, trail, derived } = search;
        if trail.slot != self.name {
            *trail = Trail { slot: self.name, ..Trail::default() };
        }
        if options.failure_tolerance.is_some_and(|tolerance| trail.failures > tolerance) {
            return Err(E2eeError::GivenUp(index));
        }
        let found =
            self.find_known(trail.step, &attempt).or_else(|| self.find_ahead(options, derived, &attempt));
        let Some((step, value)) = found else {
            trail.failures = trail.failures.saturating_add(1);
            return Err(E2eeError::Refused(index));
        };
        let ratcheted = step > trail.step;
        *trail = Trail { slot: self.name, step, failures: 0 };
        self.heard = self.heard.max(step);
        Ok(Opened { value, ratcheted })
    }

    /// Tries the keys known so far, the likeliest first.
    fn find_known<T>(&self, likeliest: usize, attempt: impl Fn(&Secret) -> Option<T>) -> Option<(usize, T)> {
        let others = (0..self.chain.len()).filter(|step| *step != likeliest);
        std::iter::once(likeliest)
            .chain(others)
            .find_map(|step| Some((step, attempt(self.chain.get(step)?)?)))
    }

    /// Tries keys not known yet, within the window.
    fn find_ahead<T>(
        &mut self,
        options: &E2eeOptions,
        derived: usize,
        attempt: impl Fn(&Secret) -> Option<T>,
    ) -> Option<(usize, T)> {
        let last = self.heard.max(self.sending) + usize::from(options.ratchet_window);
        for _ in 0..derived {
            if self.chain.len() > last || !self.lengthen(&options.ratchet_salt) {
                return None;
            }
            if let Some(value) = self.chain.last().and_then(&attempt) {
                return Some((self.chain.len() - 1, value));
            }
        }
        None
    }

    /// Derives the next key; says whether it could.
    fn lengthen(&mut self, salt: &[u8]) -> bool {
        if self.chain.len() > MAX_RATCHETS {
            return false;
        }
        self.material = stretch(&*self.material, salt);
        self.chain.push(Secret::of(&self.material));
        true
    }
}
