//! Encrypted media frames.
//!
//! Owns their layout, the IV and what a server may send in the clear; refuses packets: a frame is what a codec made,
//! before it is cut into packets and after it is put together again (without VP8's payload descriptor).
//!
//! A frame is the codec's header in the clear (and authenticated), what AES-GCM made of the rest with its tag of 16
//! bytes, the IV of 12, then two bytes: 12, and the index of the key (`FrameCryptor.ts`, `encodeFunction`).

use bytes::Bytes;

use super::cipher::{IV_LEN, TAG_LEN};
use super::ring::{Trail, in_ring};
use super::{E2ee, E2eeError, KEY_RING};

const TRAILER_LEN: usize = IV_LEN + 2;

/// What a frame holds, as far as encryption is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// One byte stays in the clear: Opus' table of contents.
    Audio,
    /// Of a key frame ten bytes stay in the clear, of any other three (RFC 6386, 9.1).
    Vp8,
}

impl Media {
    /// How many bytes of this frame stay in the clear.
    fn clear(self, frame: &[u8]) -> usize {
        match self {
            Self::Audio => 1,
            Self::Vp8 if frame.first().is_some_and(|tag| tag & 1 == 0) => 10,
            Self::Vp8 => 3,
        }
    }

    /// Whether this is the blank frame that a LiveKit server makes up, say for a muted track (livekit/livekit
    /// `pkg/sfu/downtrack.go`; the frames `sifPayload.ts` lets through). Nothing else may come in the clear: who knew
    /// the trailer could otherwise speak as anyone.
    fn is_blank(self, frame: &[u8]) -> bool {
        match self {
            Self::Audio => {
                frame.len() == 80 && frame.starts_with(&OPUS_SILENCE) && frame[3..].iter().all(|b| *b == 0)
            }
            Self::Vp8 => frame == VP8_BLANK,
        }
    }
}

/// Followed by 77 zeros.
const OPUS_SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// A key frame of 8 by 8 pixels.
const VP8_BLANK: [u8; 31] = [
    0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x08, 0x00, 0x08, 0x00, 0x00, 0x47, 0x08, 0x85, 0x85, 0x88, 0x85,
    0x84, 0x88, 0x02, 0x02, 0x00, 0x0c, 0x0d, 0x60, 0x00, 0xfe, 0xff, 0xab, 0x50, 0x80,
];

/// Encrypts the frames of one track of the local participant. One for each SSRC, for as long as it is sent: the IV
/// must not come twice.
#[derive(Debug)]
pub(crate) struct FrameEncryptor {
    keys: E2ee,
    identity: String,
    media: Media,
    ssrc: u32,
    sent: u32,
}

impl FrameEncryptor {
    /// `first` is where the count in the IV starts: random, as in the SDKs.
    pub(crate) fn new(keys: E2ee, identity: &str, media: Media, ssrc: u32, first: u16) -> Self {
        Self { keys, identity: identity.to_owned(), media, ssrc, sent: first.into() }
    }

    /// The frame as it goes out, 30 bytes longer; an empty one stays empty. `timestamp` is its RTP timestamp.
    pub(crate) fn encrypt(&mut self, timestamp: u32, frame: &[u8]) -> Result<Vec<u8>, E2eeError> {
        if frame.is_empty() {
            return Ok(Vec::new());
        }
        let header = frame.get(..self.media.clear(frame)).ok_or(E2eeError::Malformed)?;
        let (index, key) = self.keys.sending(&self.identity)?;
        let iv = self.next_iv(timestamp);
        let mut sealed = Vec::with_capacity(frame.len() + TAG_LEN + TRAILER_LEN);
        sealed.extend_from_slice(frame);
        key.seal(iv, header, &mut sealed, header.len()).ok_or(E2eeError::Unsealable)?;
        sealed.extend_from_slice(&iv);
        sealed.extend_from_slice(&[IV_LEN as u8, index]);
        Ok(sealed)
    }

    /// The SSRC, the timestamp, and the timestamp less a count of frames (`FrameCryptor.ts`, `makeIV`).
    fn next_iv(&mut self, timestamp: u32) -> [u8; IV_LEN] {
        let count = self.sent % 0xffff;
        self.sent = self.sent.wrapping_add(1);
        let mut iv = [0; IV_LEN];
        let words = [self.ssrc, timestamp, timestamp.wrapping_sub(count)];
        for (part, word) in iv.chunks_exact_mut(4).zip(words) {
            part.copy_from_slice(&word.to_be_bytes());
        }
        iv
    }
}

/// A frame as the codec made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decrypted {
    pub(crate) frame: Vec<u8>,
    pub(crate) origin: Origin,
}

/// Who made a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Someone who has the key at this index.
    Sender {
        index: u8,
        /// With this frame the sender went on to a later key.
        ratcheted: bool,
    },
    /// The server, in the clear; or nobody, the frame being empty.
    Server,
}

/// Decrypts the frames of one track of a remote participant.
#[derive(Debug)]
pub(crate) struct FrameDecryptor {
    keys: E2ee,
    identity: String,
    media: Media,
    sif_trailer: Bytes,
    trails: [Trail; KEY_RING as usize],
}

impl FrameDecryptor {
    /// `sif_trailer` is that of the server's `JoinResponse`: what it ends its own frames with. Empty, it sends none.
    pub(crate) fn new(keys: E2ee, identity: &str, media: Media, sif_trailer: Bytes) -> Self {
        Self { keys, identity: identity.to_owned(), media, sif_trailer, trails: Default::default() }
    }

    /// The frame as the sender's codec made it. A frame that fails derives one key ahead at most, so that a sender
    /// with another key cannot hold the thread up; one who ratcheted is understood again after as many frames.
    pub(crate) fn decrypt(&mut self, frame: &[u8]) -> Result<Decrypted, E2eeError> {
        if frame.is_empty() {
            return Ok(Decrypted { frame: Vec::new(), origin: Origin::Server });
        }
        if let Some(blank) = self.injected(frame) {
            let known = self.media.is_blank(blank).then(|| blank.to_vec()).ok_or(E2eeError::Injected)?;
            return Ok(Decrypted { frame: known, origin: Origin::Server });
        }
        let Parts { header, sealed, iv, index } = Parts::of(frame, self.media).ok_or(E2eeError::Malformed)?;
        let index = in_ring(index.into())?;
        let trail = self.trails.get_mut(usize::from(index)).ok_or(E2eeError::Index(index.into()))?;
        let opened = self.keys.open(&self.identity, index, trail, 1, |key| key.open(iv, header, sealed))?;
        let frame = [header, &opened.value].concat();
        Ok(Decrypted { frame, origin: Origin::Sender { index, ratcheted: opened.ratcheted } })
    }

    /// What comes before the server's trailer, when the frame ends with it.
    fn injected<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        if self.sif_trailer.is_empty() {
            return None;
        }
        frame.strip_suffix(&*self.sif_trailer)
    }
}

/// An encrypted frame, taken apart.
struct Parts<'a> {
    header: &'a [u8],
    sealed: &'a [u8],
    iv: [u8; IV_LEN],
    index: u8,
}

impl<'a> Parts<'a> {
    fn of(frame: &'a [u8], media: Media) -> Option<Self> {
        let (rest, &[iv_len, index]) = frame.split_last_chunk::<2>()?;
        if usize::from(iv_len) != IV_LEN {
            return None;
        }
        let (rest, iv) = rest.split_last_chunk::<IV_LEN>()?;
        let (header, sealed) = rest.split_at_checked(media.clear(frame))?;
        (sealed.len() >= TAG_LEN).then_some(Self { header, sealed, iv: *iv, index })
    }
}
