//! End-to-end encryption, byte for byte as LiveKit's own SDKs have it: the keys and who uses which.
//!
//! Owns the keys of a room and what frames and data packets look like under them; refuses to know of tracks, of the
//! network and of the clock. AES-128-GCM and PBKDF2 are aws-lc's. Compatible with `FrameCryptor` and `DataCryptor` of
//! livekit/client-sdk-js (`src/e2ee/worker`) and of webrtc-sdk/webrtc (`api/crypto/frame_crypto_transformer.cc`), which
//! the Rust, Python and mobile SDKs use.
//!
//! Spoken: audio of any codec and VP8. Not spoken: H.264 and H.265 (their NAL units keep headers in the clear), VP9,
//! AV1 (which browsers do not encrypt), AES-256, and keys derived by HKDF (a browser's `ArrayBuffer` key). RED must be
//! off for an encrypted track, as in every SDK.
//!
//! Unlike the SDKs: a sender who has not ratcheted yet is still understood after another did, failures count by track,
//! and an IV is 12 bytes or refused.

mod cipher;
mod data;
mod frame;
mod ring;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use frame::{FrameDecryptor, FrameEncryptor, Media};

use cipher::Secret;
use ring::{Opened, Ring, Search, Slot, Trail, in_ring};

/// How many keys a participant has at once, by index: LiveKit's default ring.
pub const KEY_RING: u8 = 16;

/// What the parties of a room must agree on beside the keys. The defaults are those of the Rust and Python SDKs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct E2eeOptions {
    /// What keys are derived with; the same for all in a room. `LKFrameEncryptionKey` by default.
    pub ratchet_salt: Vec<u8>,
    /// How many ratchets ahead of the last known key a sender is looked for; 0 never looks. 16 by default.
    pub ratchet_window: u8,
    /// After how many failures in a row more than these a track's key counts as wrong, until another is set at its
    /// index; `None`, the default, never gives a key up.
    pub failure_tolerance: Option<u32>,
}

impl Default for E2eeOptions {
    fn default() -> Self {
        Self { ratchet_salt: b"LKFrameEncryptionKey".to_vec(), ratchet_window: 16, failure_tolerance: None }
    }
}

/// Why a frame or packet could not be encrypted or decrypted, or a key not be set. Never says a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum E2eeError {
    /// No such index in a key ring.
    #[error("key index {0} is past the {KEY_RING} of a key ring")]
    Index(u32),
    /// No key was set at this index.
    #[error("no key is set at index {0}")]
    NoKey(u8),
    /// The key does not open it: another key, or bytes that changed on the way.
    #[error("the key at index {0} does not open this")]
    Refused(u8),
    /// The key failed more often in a row than [`E2eeOptions::failure_tolerance`] lets it.
    #[error("the key at index {0} failed too often and is not tried until it is set again")]
    GivenUp(u8),
    /// Not the shape of something encrypted.
    #[error("not of the shape of an encrypted frame or packet")]
    Malformed,
    /// It claims to be the server's own, in the clear, and is none of the blank frames a server sends.
    #[error("it carries the server's trailer, but is no blank frame of a server")]
    Injected,
    /// The cipher cannot take it: in practice, too long.
    #[error("it cannot be encrypted")]
    Unsealable,
    /// A key is ratcheted 256 times at most; set another.
    #[error("the key at index {0} was ratcheted as often as it can be")]
    Spent(u8),
}

/// The keys of a room: one for all, or one for each participant, or both, in which case a participant's own goes
/// first. Cheap to clone; clones share their keys, so that a key set here is used at once in a running room.
///
/// Setting or ratcheting a key derives it (PBKDF2, 100,000 rounds of SHA-256): tens of milliseconds of this thread.
/// Keys are wiped from memory when dropped, and never shown: neither `Debug` nor an error tells them.
#[derive(Clone)]
pub struct E2ee {
    keys: Arc<Mutex<Keys>>,
}

impl E2ee {
    /// No key yet: what is sent is refused until one is set for the local participant or for all.
    pub fn new(options: E2eeOptions) -> Self {
        let keys = Keys { options, shared: Ring::default(), own: HashMap::new(), named: 0 };
        Self { keys: Arc::new(Mutex::new(keys)) }
    }

    /// One key for all, at index 0, with the default options: the passphrase of a browser's
    /// `ExternalE2EEKeyProvider.setKey`, or the bytes of Python's `KeyProviderOptions.shared_key`.
    pub fn shared(key: impl AsRef<[u8]>) -> Self {
        let e2ee = Self::new(E2eeOptions::default());
        let slot = e2ee.derive(key.as_ref());
        e2ee.lock().shared.set(0, slot);
        e2ee
    }

    /// Sets the key of all at `index`; the local participant sends with the index set last.
    ///
    /// # Errors
    /// [`E2eeError::Index`].
    pub fn set_shared_key(&self, index: u8, key: impl AsRef<[u8]>) -> Result<(), E2eeError> {
        in_ring(index.into())?;
        let slot = self.derive(key.as_ref());
        self.lock().shared.set(index, slot);
        Ok(())
    }

    /// Sets the key of `identity` at `index`; when that is the local participant, it sends with it from now on.
    ///
    /// # Errors
    /// [`E2eeError::Index`].
    pub fn set_key(&self, identity: &str, index: u8, key: impl AsRef<[u8]>) -> Result<(), E2eeError> {
        in_ring(index.into())?;
        let slot = self.derive(key.as_ref());
        self.lock().own.entry(identity.to_owned()).or_default().set(index, slot);
        Ok(())
    }

    /// Forgets every key of `identity`'s own.
    pub fn remove_keys(&self, identity: &str) {
        self.lock().own.remove(identity);
    }

    /// Moves the key of all at `index` one ratchet on for what is sent. Others follow by themselves when they look
    /// ahead ([`E2eeOptions::ratchet_window`]); who did not yet is still understood.
    ///
    /// # Errors
    /// [`E2eeError::Index`], [`E2eeError::NoKey`], [`E2eeError::Spent`].
    pub fn ratchet_shared_key(&self, index: u8) -> Result<(), E2eeError> {
        let keys = &mut *self.lock();
        keys.shared.slot(index)?.ratchet(index, &keys.options.ratchet_salt)
    }

    /// As [`Self::ratchet_shared_key`], for the key of `identity`'s own.
    ///
    /// # Errors
    /// [`E2eeError::Index`], [`E2eeError::NoKey`], [`E2eeError::Spent`].
    pub fn ratchet_key(&self, identity: &str, index: u8) -> Result<(), E2eeError> {
        let keys = &mut *self.lock();
        let ring = keys.own.get_mut(identity).ok_or(E2eeError::NoKey(index))?;
        ring.slot(index)?.ratchet(index, &keys.options.ratchet_salt)
    }

    /// What `identity` sends with: the index, and the key.
    fn sending(&self, identity: &str) -> Result<(u8, Secret), E2eeError> {
        let keys = &mut *self.lock();
        keys.own.get(identity).unwrap_or(&keys.shared).sending()
    }

    /// Opens something of `identity`'s under the key at `index`, `attempt` trying one key. No more than `derived` new
    /// keys are derived for it.
    fn open<T>(
        &self,
        identity: &str,
        index: u8,
        trail: &mut Trail,
        derived: usize,
        attempt: impl Fn(&Secret) -> Option<T>,
    ) -> Result<Opened<T>, E2eeError> {
        let Keys { options, shared, own, .. } = &mut *self.lock();
        let slot = own.get_mut(identity).unwrap_or(shared).slot(index)?;
        slot.open(Search { index, options, trail, derived }, attempt)
    }

    /// A slot of this key, under a name no other slot has. The lock is not held while it is derived.
    fn derive(&self, key: &[u8]) -> Slot {
        let (salt, name) = {
            let mut keys = self.lock();
            keys.named += 1;
            (keys.options.ratchet_salt.clone(), keys.named)
        };
        Slot::new(name, key, &salt)
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for E2ee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("E2ee").finish_non_exhaustive()
    }
}

struct Keys {
    options: E2eeOptions,
    shared: Ring,
    /// By identity.
    own: HashMap<String, Ring>,
    /// How many slots were named so far.
    named: u64,
}
