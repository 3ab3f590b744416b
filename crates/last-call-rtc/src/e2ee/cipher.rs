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
    /// The key that encrypts, of what the application gave or what the last ratchet left.
    pub(super) fn derive(material: &[u8], salt: &[u8]) -> Self {
        let mut key = Zeroizing::new([0; 16]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, material, &mut *key);
        Self(key)
    }

    /// Encrypts the end of `buffer`, from `start` on, and appends the tag. `None` when it is too long for the cipher.
    pub(super) fn seal(&self, iv: [u8; IV_LEN], aad: &[u8], buffer: &mut Vec<u8>, start: usize) -> Option<()> {
        let nonce = Nonce::assume_unique_for_key(iv);
        let tag = self.cipher()?.seal_in_place_separate_tag(nonce, Aad::from(aad), buffer.get_mut(start..)?).ok()?;
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

/// What the next key is derived from.
pub(super) fn ratchet(material: &[u8], salt: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut next = Zeroizing::new(vec![0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, material, &mut next);
    next
}
