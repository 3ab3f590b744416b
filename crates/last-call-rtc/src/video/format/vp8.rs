//! VP8 in RTP (RFC 7741).

use super::{PACKET, picture_id, skip_picture_id};

const EXTENDED: u8 = 0x80;
const START: u8 = 0x10;
/// A picture's number follows.
const PICTURE: u8 = 0x80;
const LAYER_ZERO: u8 = 0x40;
const TEMPORAL: u8 = 0x20;
const KEY_INDEX: u8 = 0x10;

pub(super) fn look(frame: &[u8]) -> (bool, Option<(u32, u32)>) {
    let keyframe = frame.first().is_some_and(|tag| tag & 1 == 0);
    let size = match frame.get(3..10) {
        Some(&[0x9d, 0x01, 0x2a, w, wide, h, high]) if keyframe => {
            let pixels = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            Some((pixels(w, wide), pixels(h, high)))
        }
        _ => None,
    };
    (keyframe, size)
}

pub(super) fn split(frame: &[u8], picture: u16) -> Vec<Vec<u8>> {
    let [high, low] = picture_id(picture);
    let packet = |(index, part): (usize, &[u8])| {
        let first = if index == 0 { EXTENDED | START } else { EXTENDED };
        [&[first, PICTURE, high, low], part].concat()
    };
    frame.chunks(PACKET).enumerate().map(packet).collect()
}

/// Whether a frame begins here, and what of it is in this payload.
fn read(payload: &[u8]) -> Option<(bool, &[u8])> {
    let (&first, mut rest) = payload.split_first()?;
    if first & EXTENDED != 0 {
        let (&extension, after) = rest.split_first()?;
        rest = after;
        if extension & PICTURE != 0 {
            rest = skip_picture_id(rest)?;
        }
        for bits in [LAYER_ZERO, TEMPORAL | KEY_INDEX] {
            rest = rest.get(usize::from(extension & bits != 0)..)?;
        }
    }
    // The first partition has the number 0.
    Some((first & START != 0 && first & 0x07 == 0, rest))
}

pub(super) fn begins_keyframe(payload: &[u8]) -> bool {
    read(payload).is_some_and(|(first, frame)| first && frame.first().is_some_and(|tag| tag & 1 == 0))
}

pub(super) fn join<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    for (index, payload) in payloads.enumerate() {
        let (first, part) = read(payload)?;
        if first != (index == 0) {
            return None;
        }
        frame.extend_from_slice(part);
    }
    Some(frame)
}
