//! RFC 4571 framing: packets over a TCP stream, each behind its length in two bytes, big-endian, as ICE-TCP carries
//! STUN, DTLS and SRTP (RFC 6544 §10.1).
//!
//! Owns framing in both directions, and its bounds. Refuses sockets and the meaning of packets.

#[cfg(test)]
mod tests;

/// Bytes of the length in front of each payload.
const HEADER: usize = 2;

/// The payload is longer than a frame can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {0} bytes does not fit a frame, which carries 65535 at most")]
pub(crate) struct TooLong(pub(crate) usize);

/// Appends one frame with `payload` to `out`, which stays as it was on an error.
pub(crate) fn frame(payload: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
    let length = u16::try_from(payload.len()).map_err(|_| TooLong(payload.len()))?;
    out.reserve(HEADER + payload.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// Cuts a stream of bytes into payloads.
///
/// It holds what was pushed and not yet taken: one begun frame at most (65537 bytes), and what one `push` brings, as
/// long as [`Framer::next`] is called until `None` between two pushes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Framer {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out.
    taken: usize,
}

impl Framer {
    /// A framer at the start of a stream.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream, in any cut.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole payload. Empty frames carry nothing and are passed over.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let rest = self.buffer.get(self.taken..)?;
            let (header, body) = rest.split_first_chunk::<HEADER>()?;
            let length = usize::from(u16::from_be_bytes(*header));
            if body.len() < length {
                return None;
            }
            let start = self.taken + HEADER;
            self.taken = start + length;
            if length > 0 {
                return self.buffer.get(start..self.taken);
            }
        }
    }
}
