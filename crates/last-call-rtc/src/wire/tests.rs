//! What is framed comes out again, in whatever pieces the stream arrives.

use proptest::prelude::*;

use super::*;

/// The longest payload.
const MOST: usize = u16::MAX as usize;

fn all(framer: &mut Framer) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some(payload) = framer.next() {
        payloads.push(payload.to_vec());
    }
    payloads
}

#[test]
fn the_length_stands_in_front_big_endian() {
    let mut out = vec![9];
    frame(&[7; 258], &mut out).unwrap();
    assert_eq!(out[..4], [9, 1, 2, 7]);
    assert_eq!(out.len(), 1 + 2 + 258);
}

#[test]
fn the_longest_packet_fits_and_one_byte_more_does_not() {
    let mut out = Vec::new();
    assert_eq!(frame(&vec![0; MOST + 1], &mut out), Err(TooLong(65536)));
    assert!(out.is_empty());
    frame(&vec![1; MOST], &mut out).unwrap();
    let mut framer = Framer::new();
    framer.push(&out);
    assert_eq!(all(&mut framer), [vec![1; MOST]]);
}

#[test]
fn empty_frames_are_passed_over() {
    let mut framer = Framer::new();
    framer.push(&[0, 0, 0, 0, 0, 1, 5, 0, 0]);
    assert_eq!(all(&mut framer), [[5]]);
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_packets(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..12),
        cuts in prop::collection::vec(1..40usize, 1..30),
    ) {
        let mut stream = Vec::new();
        for packet in &packets {
            frame(packet, &mut stream).unwrap();
        }
        let mut framer = Framer::new();
        let mut got = Vec::new();
        let mut rest = stream.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            framer.push(now);
            got.extend(all(&mut framer));
            rest = later;
        }
        prop_assert_eq!(got, packets);
    }

    #[test]
    fn no_more_is_held_than_one_begun_frame_and_one_push(
        pushes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..60),
    ) {
        let mut framer = Framer::new();
        for bytes in &pushes {
            framer.push(bytes);
            prop_assert!(framer.buffer.len() <= HEADER + MOST + bytes.len());
            all(&mut framer);
        }
    }
}
