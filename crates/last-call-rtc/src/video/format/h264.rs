//! H.264 in RTP (RFC 6184): single NAL units, and FU-A for those that are larger than a packet. Read is STAP-A too.

use super::PACKET;

const IDR: u8 = 5;
const SEQUENCE: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FIRST: u8 = 0x80;
const LAST: u8 = 0x40;

fn kind(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |header| header & 0x1f)
}

/// The NAL units of an access unit in Annex B.
fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    const START: [u8; 3] = [0, 0, 1];
    let find = |rest: &[u8]| rest.windows(START.len()).position(|window| window == START);
    // What is before the first start code is nothing.
    rest = find(rest).and_then(|at| rest.get(at + START.len()..)).unwrap_or_default();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = find(rest).unwrap_or(rest.len());
        let (unit, after) = rest.split_at_checked(end)?;
        rest = after.get(START.len()..).unwrap_or_default();
        // No unit ends with a zero: it is the next start code's.
        let length = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        unit.get(..length)
    })
    .filter(|unit| !unit.is_empty())
}

pub(super) fn is_keyframe(frame: &[u8]) -> bool {
    units(frame).any(|unit| kind(unit) == IDR)
}

pub(super) fn split(frame: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for unit in units(frame) {
        let Some((&header, body)) = unit.split_first().filter(|_| unit.len() > PACKET) else {
            packets.push(unit.to_vec());
            continue;
        };
        let last = body.chunks(PACKET).len() - 1;
        for (index, part) in body.chunks(PACKET).enumerate() {
            let ends = (if index == 0 { FIRST } else { 0 }) | (if index == last { LAST } else { 0 });
            packets.push([&[(header & 0xe0) | FU_A, (header & 0x1f) | ends], part].concat());
        }
    }
    packets
}

/// The units of a STAP-A, without its header.
fn aggregated(mut rest: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let unit = after.split_at_checked(u16::from_be_bytes(*length).into());
        rest = unit.map_or(&[], |(_, after)| after);
        Some(unit.map(|(unit, _)| unit))
    })
}

/// A key frame that a decoder can begin with has the parameters of its sequence before it.
pub(super) fn begins_keyframe(payload: &[u8]) -> bool {
    match (kind(payload), payload) {
        (SEQUENCE, _) => true,
        (STAP_A, [_, rest @ ..]) => aggregated(rest).flatten().any(|unit| kind(unit) == SEQUENCE),
        (FU_A, [_, ends, ..]) => ends & FIRST != 0 && ends & 0x1f == SEQUENCE,
        _ => false,
    }
}

pub(super) fn join<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    const START: [u8; 4] = [0, 0, 0, 1];
    let mut frame = Vec::new();
    // Between the first and the last part of a unit.
    let mut within = false;
    let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| frame.extend_from_slice(part));
    for payload in payloads {
        match (kind(payload), payload) {
            (1..=23, unit) if !within => add(&[&START, unit]),
            (STAP_A, [_, rest @ ..]) if !within => {
                for unit in aggregated(rest) {
                    add(&[&START, unit?]);
                }
            }
            (FU_A, [header, ends, part @ ..]) if within == (ends & FIRST == 0) => {
                if !within {
                    add(&[&START, &[(header & 0xe0) | (ends & 0x1f)]]);
                }
                add(&[part]);
                within = ends & LAST == 0;
            }
            _ => return None,
        }
    }
    (!within).then_some(frame)
}
