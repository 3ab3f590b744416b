//! Owns redundant audio (RFC 2198): several frames in one packet. Refuses to know what a frame holds.

/// A header of a redundant frame: the flag and type, 14 bits of offset, 10 of length.
const HEADER: usize = 4;
/// The largest offset and length that fit.
const MAX_OFFSET: u32 = (1 << 14) - 1;
const MAX_LENGTH: usize = (1 << 10) - 1;

/// A frame in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// So much earlier than the packet.
    pub(super) offset: u32,
    pub(super) payload: &'a [u8],
}

/// A packet that ends within its headers or frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The frames of a packet, the newest last.
pub(super) fn blocks(packet: &[u8]) -> Result<impl Iterator<Item = Block<'_>> + Clone, Malformed> {
    let mut headers = packet;
    let mut redundant = 0;
    let mut length = 0;
    while let [first, rest @ ..] = headers
        && first & 0x80 != 0
    {
        let [high, middle, low, rest @ ..] = rest else { return Err(Malformed) };
        let _ = high;
        length += (usize::from(middle & 3) << 8) | usize::from(*low);
        redundant += 1;
        headers = rest;
    }
    // The last header is one byte.
    let [_, payloads @ ..] = headers else { return Err(Malformed) };
    if length > payloads.len() {
        return Err(Malformed);
    }
    let mut rest = payloads;
    Ok((0..=redundant).map(move |index| {
        if index == redundant {
            return Block { offset: 0, payload: rest };
        }
        let header = &packet[index * HEADER..][..HEADER];
        let offset = (u32::from(header[1]) << 6) | u32::from(header[2] >> 2);
        let (payload, after) = rest.split_at((usize::from(header[2] & 3) << 8) | usize::from(header[3]));
        rest = after;
        Block { offset, payload }
    }))
}

/// Puts each frame into the next packet once more.
#[derive(Debug, Default)]
pub(super) struct RedWriter {
    at: u32,
    /// Empty before the first.
    last: Vec<u8>,
}

impl RedWriter {
    /// `payload` with the frame before it, if that is near and small enough.
    pub(super) fn write(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let (offset, length) = (timestamp.wrapping_sub(self.at), self.last.len());
        let mut packet = Vec::with_capacity(HEADER + 1 + length + payload.len());
        if (1..=MAX_OFFSET).contains(&offset) && (1..=MAX_LENGTH).contains(&length) {
            let [.., high, low] = (offset << 2 | (length as u32 >> 8)).to_be_bytes();
            packet.extend([payload_type | 0x80, high, low, length as u8, payload_type]);
            packet.extend_from_slice(&self.last);
        } else {
            packet.push(payload_type);
        }
        packet.extend_from_slice(payload);
        self.at = timestamp;
        self.last.clear();
        self.last.extend_from_slice(payload);
        packet
    }
}
