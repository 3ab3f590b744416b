//! AES-128-GCM and PBKDF2 with the parameters LiveKit fixed, over aws-lc.
//!
//! Owns those parameters; refuses to know whose keys they are and what is encrypted.

use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2;
use zeroize::Zeroizing;

pub(super) const IV_LEN: usize = 12;
pub(super) const TAG_LEN: usize = 16;

/// `iterations` of client-sdk-js `src/e2ee/utils.ts`.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).expect("not zero");

/// A key of AES-128-GCM.
#[derive(Clone)]
pub(super) struct Secret(Zeroizing<[u8; 16]>);

impl Secret {
    /// The key that encrypts, of what [`stretch`] made. LiveKit derives 128 bits for it, and from the same secret 256
    /// bits to ratchet on from: in PBKDF2 the former are the first half of the latter, so that one derivation is both.
    pub(super) fn of(stretched: &[u8; 32]) -> Self {
        let mut key = Zeroizing::new([0; 16]);
        key.copy_from_slice(&stretched[..16]);
        Self(key)
    }

    /// Encrypts the end of `buffer`, from `start` on, and appends the tag. `None` when it is too long for the cipher.
    pub(super) fn seal(
        &self,
        iv: [u8; IV_LEN],
        aad: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Option<()> {
        let nonce = Nonce::assume_unique_for_key(iv);
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(nonce, Aad::from(aad), buffer.get_mut(start..)?)
            .ok()?;
        buffer.extend_from_slice(tag.as_ref());
        Some(())
    }

    /// What was encrypted, when this is the key and no byte changed.
    pub(super) fn open(&self, iv: [u8; IV_LEN], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (text, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_LEN)?)?;
        let mut plain = vec![0; text.len()];
        let nonce = Nonce::assume_unique_for_key(iv);
        self.cipher()?.open_separate_gather(nonce, Aad::from(aad), text, tag, &mut plain).ok()?;
        Some(plain)
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_128_GCM, &*self.0).ok().map(LessSafeKey::new)
    }
}

/// What PBKDF2 makes of a passphrase, or of what it made before: a key, and what the next is made of.
pub(super) fn stretch(secret: &[u8], salt: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut stretched = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, secret, &mut *stretched);
    stretched
}
