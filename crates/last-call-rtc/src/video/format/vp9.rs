//! VP9 in RTP (RFC 9628). Sent is one layer, without a scalability structure; read is any.

use super::{PACKET, picture_id, skip_picture_id};

const PICTURE: u8 = 0x80;
/// Predicted from a picture before.
const PREDICTED: u8 = 0x40;
const LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGIN: u8 = 0x08;
const END: u8 = 0x04;
/// A scalability structure follows.
const STRUCTURE: u8 = 0x02;

/// The frame's uncompressed header, as far as its size.
pub(super) fn look(frame: &[u8]) -> (bool, Option<(u32, u32)>) {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(frame).for_each(|(to, from)| *to = *from);
    let header = u128::from_be_bytes(bytes);
    let bits = |at: u32, count: u32| (header << at) >> (128 - count);
    if bits(0, 2) != 0b10 {
        return (false, None);
    }
    // Profile 3 has one more bit.
    let at = if bits(2, 2) == 0b11 { 5 } else { 4 };
    let keyframe = bits(at, 2) == 0;
    // Profile 0, in any colour space but that without subsampling, which it can't have.
    let known = keyframe && bits(2, 2) == 0 && bits(8, 24) == 0x0049_8342 && frame.len() > 8;
    (keyframe, known.then(|| (bits(36, 16) as u32 + 1, bits(52, 16) as u32 + 1)))
}

pub(super) fn split(frame: &[u8], picture: u16) -> Vec<Vec<u8>> {
    let [high, low] = picture_id(picture);
    let predicted = if look(frame).0 { 0 } else { PREDICTED };
    let last = frame.chunks(PACKET).len().saturating_sub(1);
    let packet = |(index, part): (usize, &[u8])| {
        let begin = if index == 0 { BEGIN } else { 0 };
        let end = if index == last { END } else { 0 };
        [&[PICTURE | predicted | begin | end, high, low], part].concat()
    };
    frame.chunks(PACKET).enumerate().map(packet).collect()
}

struct Read<'a> {
    flags: u8,
    spatial: u8,
    part: &'a [u8],
}

fn read(payload: &[u8]) -> Option<Read<'_>> {
    let (&flags, mut rest) = payload.split_first()?;
    let has = |flag: u8| flags & flag != 0;
    let mut spatial = 0;
    if has(PICTURE) {
        rest = skip_picture_id(rest)?;
    }
    if has(LAYERS) {
        spatial = (rest.first()? >> 1) & 0x07;
        // With the number of the lowest layer's picture, where nothing else says what depends on what.
        rest = rest.get(if has(FLEXIBLE) { 1 } else { 2 }..)?;
    }
    if has(FLEXIBLE) && has(PREDICTED) {
        // At most three pictures that this one needs; each says whether another follows.
        for _ in 0..3 {
            let (&difference, after) = rest.split_first()?;
            rest = after;
            if difference & 1 == 0 {
                break;
            }
        }
    }
    if has(STRUCTURE) {
        rest = skip_structure(rest)?;
    }
    Some(Read { flags, spatial, part: rest })
}

fn skip_structure(rest: &[u8]) -> Option<&[u8]> {
    let (&first, mut rest) = rest.split_first()?;
    if first & 0x10 != 0 {
        // Width and height of each layer.
        rest = rest.get((usize::from(first >> 5) + 1) * 4..)?;
    }
    if first & 0x08 != 0 {
        let (&pictures, after) = rest.split_first()?;
        rest = after;
        for _ in 0..pictures {
            let (&picture, after) = rest.split_first()?;
            rest = after.get(usize::from((picture >> 2) & 0x03)..)?;
        }
    }
    Some(rest)
}

pub(super) fn begins_keyframe(payload: &[u8]) -> bool {
    read(payload).is_some_and(|read| read.flags & (BEGIN | PREDICTED) == BEGIN && read.spatial == 0)
}

pub(super) fn join<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    // The layers of a picture follow each other, each with a begin and an end.
    let mut within = false;
    for payload in payloads {
        let read = read(payload)?;
        if within == (read.flags & BEGIN != 0) {
            return None;
        }
        within = read.flags & END == 0;
        frame.extend_from_slice(read.part);
    }
    (!within).then_some(frame)
}
