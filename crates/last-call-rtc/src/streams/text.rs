//! Owns text as chunks: cut between characters, and put together wherever others cut it. Refuses bytes that are no text.

use super::{CHUNK, StreamError};

/// The text in pieces that a chunk holds.
pub(crate) fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let mut end = text.len().min(CHUNK);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at_checked(end)?;
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Text that comes in chunks.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The beginning of a character.
    begun: Vec<u8>,
}

impl Decoder {
    /// The text as far as it is whole.
    pub(crate) fn push(&mut self, chunk: Vec<u8>) -> Result<String, StreamError> {
        let mut bytes = if self.begun.is_empty() {
            chunk
        } else {
            let mut bytes = std::mem::take(&mut self.begun);
            bytes.extend(chunk);
            bytes
        };
        if let Err(error) = std::str::from_utf8(&bytes) {
            if error.error_len().is_some() {
                return Err(StreamError::NotText);
            }
            self.begun = bytes.split_off(error.valid_up_to());
        }
        String::from_utf8(bytes).map_err(|_| StreamError::NotText)
    }

    /// Whether no character is left half.
    pub(crate) fn is_whole(&self) -> bool {
        self.begun.is_empty()
    }
}
