//! AV1 in RTP (the Alliance's "RTP Payload Format For AV1", 1.0): OBUs without their sizes, each behind its length.

use super::PACKET;

/// The first element goes on with the last packet's last.
const CONTINUES: u8 = 0x80;
/// The last element goes on in the next packet.
const GOES_ON: u8 = 0x40;
/// A coded video sequence begins.
const NEW: u8 = 0x08;
const EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;

fn write_leb128(mut number: usize, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn read_leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(index + 1..)?));
        }
    }
    None
}

struct Obu<'a> {
    /// One byte or two, as if it had no size.
    header: Vec<u8>,
    has_size: bool,
    /// With its size, if it has one.
    rest: &'a [u8],
}

impl<'a> Obu<'a> {
    fn of(obu: &'a [u8]) -> Option<Self> {
        let first = obu.first()?;
        let (header, rest) = obu.split_at_checked(if first & EXTENSION == 0 { 1 } else { 2 })?;
        let mut header = header.to_vec();
        header.iter_mut().take(1).for_each(|first| *first &= !HAS_SIZE);
        Some(Self { header, has_size: first & HAS_SIZE != 0, rest })
    }

    fn kind(&self) -> u8 {
        self.header.first().map_or(0, |first| (first >> 3) & 0x0f)
    }

    /// Its payload, and what follows it.
    fn payload(&self) -> Option<(&'a [u8], &'a [u8])> {
        if !self.has_size {
            return Some((self.rest, &[]));
        }
        let (size, rest) = read_leb128(self.rest)?;
        rest.split_at_checked(size)
    }
}

/// The OBUs of a temporal unit with their payloads; `None` in place of one that is broken.
fn obus(mut rest: &[u8]) -> impl Iterator<Item = Option<(Obu<'_>, &[u8])>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = Obu::of(rest).and_then(|obu| obu.payload().map(|(payload, after)| (obu, payload, after)));
        rest = read.as_ref().map_or(&[], |(.., after)| after);
        Some(read.map(|(obu, payload, _)| (obu, payload)))
    })
}

pub(super) fn is_keyframe(frame: &[u8]) -> bool {
    obus(frame).flatten().any(|(obu, payload)| {
        // A frame that is not shown again from before, of the type 0.
        matches!(obu.kind(), FRAME | FRAME_HEADER) && payload.first().is_some_and(|first| first & 0xe0 == 0)
    })
}

pub(super) fn split(frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut new = false;
    for obu in obus(frame) {
        let (obu, payload) = obu?;
        if obu.kind() == TEMPORAL_DELIMITER {
            continue;
        }
        new |= obu.kind() == SEQUENCE_HEADER;
        let element = [&*obu.header, payload].concat();
        let mut rest = &*element;
        while !rest.is_empty() {
            // A length takes two bytes at most.
            let room = packets.last().map_or(0, |packet| PACKET.saturating_sub(packet.len() + 2));
            let whole = rest.len() == element.len();
            if room == 0 || packets.is_empty() {
                if let Some(last) =
                    packets.last_mut().and_then(|packet| packet.first_mut()).filter(|_| !whole)
                {
                    *last |= GOES_ON;
                }
                packets.push(vec![if whole { 0 } else { CONTINUES }]);
                continue;
            }
            let (part, after) = rest.split_at_checked(room.min(rest.len()))?;
            if let Some(packet) = packets.last_mut() {
                write_leb128(part.len(), packet);
                packet.extend_from_slice(part);
            }
            rest = after;
        }
    }
    if let Some(first) = packets.first_mut().and_then(|packet| packet.first_mut()).filter(|_| new) {
        *first |= NEW;
    }
    Some(packets)
}

pub(super) fn begins_keyframe(payload: &[u8]) -> bool {
    payload.first().is_some_and(|first| first & (CONTINUES | NEW) == NEW)
}

/// The elements of a payload, without its first byte.
fn elements(first: u8, mut rest: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    // How many there are, where it says so: then the last has no length.
    let mut left = usize::from((first >> 4) & 0x03);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let element = if left == 1 {
            Some((rest, &[][..]))
        } else {
            read_leb128(rest).and_then(|(length, rest)| rest.split_at_checked(length))
        };
        left = left.saturating_sub(1);
        rest = element.map_or(&[], |(_, after)| after);
        Some(element.map(|(element, _)| element))
    })
}

pub(super) fn join<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    let mut pending: Option<Vec<u8>> = None;
    for payload in payloads {
        let (&first, rest) = payload.split_first()?;
        let mut continues = first & CONTINUES != 0;
        if continues != pending.is_some() {
            return None;
        }
        for element in elements(first, rest) {
            let element = element?;
            if !std::mem::take(&mut continues)
                && let Some(whole) = pending.take()
            {
                add(&whole, &mut frame)?;
            }
            pending.get_or_insert_default().extend_from_slice(element);
        }
        if first & GOES_ON == 0
            && let Some(whole) = pending.take()
        {
            add(&whole, &mut frame)?;
        }
    }
    pending.is_none().then_some(frame)
}

/// An OBU, with its size.
fn add(obu: &[u8], frame: &mut Vec<u8>) -> Option<()> {
    let read = Obu::of(obu)?;
    let (payload, _) = read.payload()?;
    if read.kind() == TEMPORAL_DELIMITER {
        return Some(());
    }
    let (first, extension) = read.header.split_first()?;
    frame.push(first | HAS_SIZE);
    frame.extend_from_slice(extension);
    write_leb128(payload.len(), frame);
    frame.extend_from_slice(payload);
    Some(())
}
