//! Frames of every codec through loss and disorder, and the queues at both ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::assemble::Assembler;
use super::receive::ReceiveVideo;
use super::*;

const CODECS: [VideoCodec; 4] = [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1];

/// A frame with the right headers, and this in it.
fn frame(codec: VideoCodec, key: bool, body: &[u8]) -> Vec<u8> {
    let delta = u8::from(!key);
    // No start code comes of it, as in a NAL unit whose zeros were escaped.
    let escaped: Vec<u8> = body.iter().map(|byte| byte | 1).collect();
    match codec {
        VideoCodec::Vp8 => [&[0x10 | delta, 2, 0, 0x9d, 1, 0x2a, 64, 1, 240, 0], body].concat(),
        VideoCodec::H264 if key => {
            let (some, rest) = escaped.split_at(escaped.len() / 2);
            let start: &[u8] = &[0, 0, 0, 1];
            [start, &[0x67, 66, 1], start, &[0x68, 9], start, &[0x65], some, start, &[0x65, 1], rest].concat()
        }
        VideoCodec::H264 => [&[0, 0, 0, 1, 0x41, 1], &*escaped].concat(),
        // 320 by 240.
        VideoCodec::Vp9 if key => [&[0x82, 0x49, 0x83, 0x42, 0, 0x13, 0xf0, 0x0e, 0xf0], body].concat(),
        VideoCodec::Vp9 => [&[0x86], body].concat(),
        VideoCodec::Av1 => {
            let mut unit = if key { vec![0x0a, 3, 0, 0, 7] } else { Vec::new() };
            let size = body.len() + 1;
            unit.extend([0x32, (size & 0x7f) as u8 | 0x80, (size >> 7) as u8, if key { 0x10 } else { 0x30 }]);
            unit.extend(body);
            unit
        }
    }
}

/// What a sender makes of these frames, every `gop`th a key frame, 30 a second.
fn sent(codec: VideoCodec, bodies: &[Vec<u8>], gop: usize) -> (Vec<Vec<u8>>, Vec<Packet>) {
    let (mut frames, mut packets) = (Vec::new(), Vec::new());
    for (index, body) in bodies.iter().enumerate() {
        let frame = frame(codec, index.is_multiple_of(gop), body);
        let payloads = format::split(codec, &frame, index as u16).expect("a frame");
        assert!(payloads.iter().all(|payload| payload.len() <= 1_110), "larger than a packet");
        let last = payloads.len() - 1;
        for (part, payload) in payloads.into_iter().enumerate() {
            packets.push(Packet {
                sequence: 100 + packets.len() as u64,
                timestamp: (index as u32).wrapping_mul(3_000).wrapping_sub(6_000),
                marker: part == last,
                codec,
                payload: payload.into(),
            });
        }
        frames.push(frame);
    }
    (frames, packets)
}

fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    // AV1's sizes here have two bytes.
    vec(vec(any::<u8>(), 130..4_000), 1..12)
}

fn codec() -> impl Strategy<Value = VideoCodec> {
    prop::sample::select(CODECS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn out_of_order_and_twice_every_frame_comes_once(
        codec in codec(), bodies in bodies(), swaps in vec((any::<prop::sample::Index>(), 1_usize..8), 0..30),
        twice in any::<prop::sample::Index>(),
    ) {
        let (frames, mut packets) = sent(codec, &bodies, 4);
        let again = packets[twice.index(packets.len())].clone();
        packets.push(again);
        for (at, by) in swaps {
            let at = at.index(packets.len());
            let other = (at + by).min(packets.len() - 1);
            packets.swap(at, other);
        }
        let (now, mut assembler) = (Instant::now(), Assembler::default());
        // The first packet says where the line begins: before it, a key frame is the first that begins.
        packets.iter().for_each(|packet| assembler.insert(now, packet.clone()));
        let out: Vec<EncodedFrame> = assembler.poll(now).into();
        prop_assert_eq!(out.iter().map(|frame| frame.payload.clone()).collect::<Vec<_>>(), frames);
        for (index, frame) in out.iter().enumerate() {
            prop_assert_eq!(frame.keyframe, index.is_multiple_of(4));
            // The timestamps wrap on the way.
            prop_assert_eq!(frame.timestamp, Duration::from_nanos(index as u64 * 3_000 * 100_000 / 9));
            let sized = frame.keyframe && matches!(codec, VideoCodec::Vp8 | VideoCodec::Vp9);
            prop_assert_eq!(frame.size, sized.then_some((320, 240)));
        }
    }

    #[test]
    fn after_a_loss_nothing_comes_but_what_a_decoder_can_take(
        codec in codec(), bodies in bodies(), lost in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let (frames, packets) = sent(codec, &bodies, 4);
        let lost: Vec<usize> = lost.iter().map(|lost| lost.index(packets.len())).collect();
        let (mut now, mut assembler) = (Instant::now(), Assembler::default());
        let mut out = Vec::new();
        for (index, packet) in packets.iter().enumerate() {
            now += Duration::from_millis(5);
            if !lost.contains(&index) {
                assembler.insert(now, packet.clone());
            }
            out.extend(assembler.poll(now));
        }
        now += Duration::from_secs(1);
        out.extend(assembler.poll(now));
        let whole: Vec<bool> = (0..frames.len() as u32).map(|frame| {
            let of_it = |(index, packet): (usize, &Packet)| {
                packet.timestamp != frame.wrapping_mul(3_000).wrapping_sub(6_000) || !lost.contains(&index)
            };
            packets.iter().enumerate().all(of_it)
        }).collect();
        let mut expected = Vec::new();
        let mut decodes = false;
        for (index, frame) in frames.iter().enumerate() {
            decodes = whole[index] && (decodes || index.is_multiple_of(4));
            if decodes {
                expected.push(frame.clone());
            }
        }
        prop_assert_eq!(out.into_iter().map(|frame| frame.payload).collect::<Vec<_>>(), expected);
        // A loss at the very end is one only when something follows it.
        if !decodes && !lost.contains(&(packets.len() - 1)) {
            prop_assert!(assembler.is_broken());
        }
    }

    #[test]
    fn what_is_no_packet_harms_nothing(
        codec in codec(), payloads in vec(vec(any::<u8>(), 0..40), 1..60), order in vec(0_u64..80, 60),
        markers in any::<u64>(),
    ) {
        let (mut now, mut assembler) = (Instant::now(), Assembler::default());
        for (index, payload) in payloads.iter().enumerate() {
            let _ = format::look(codec, payload);
            let _ = format::split(codec, payload, 0);
            let _ = format::join(codec, std::iter::once(&**payload));
            now += Duration::from_millis(20);
            let (sequence, timestamp) = (order[index], order[index] as u32 / 3);
            let marker = markers >> index & 1 == 1;
            let packet =
                Packet { sequence, timestamp, marker, codec, payload: (&**payload).into() };
            assembler.insert(now, packet);
            let _ = assembler.poll(now);
        }
    }
}

#[test]
fn packets_that_hold_nothing_are_passed() {
    for codec in CODECS {
        let bodies: Vec<Vec<u8>> = (0..8).map(|body| vec![body; 1_500]).collect();
        let (frames, packets) = sent(codec, &bodies, 8);
        let (now, mut assembler) = (Instant::now(), Assembler::default());
        let mut sequence = 0;
        let mut out = Vec::new();
        for packet in packets {
            let end =
                packet.marker.then(|| Packet { payload: Arc::from([]), marker: false, ..packet.clone() });
            for packet in [Some(packet), end].into_iter().flatten() {
                sequence += 1;
                assembler.insert(now, Packet { sequence, ..packet });
                out.extend(assembler.poll(now).into_iter().map(|frame| frame.payload));
            }
        }
        assert_eq!(out, frames, "{codec:?}");
    }
}

#[test]
fn stap_a_and_vp9_structures_are_read() {
    let aggregated: [&[u8]; 2] = [&[0x78, 0, 2, 0x67, 66, 0, 1, 0x68], &[0x65, 1, 2]];
    assert!(format::begins_keyframe(VideoCodec::H264, aggregated[0]));
    let frame = format::join(VideoCodec::H264, aggregated.into_iter()).expect("a frame");
    assert_eq!(frame, [0, 0, 0, 1, 0x67, 66, 0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65, 1, 2]);
    // As libwebrtc has it: flexible, a picture's number, layers, and what the layers are: one, with a size, one picture.
    let key = [0xbe, 0x81, 0x02, 0x00, 0x18, 1, 64, 0, 240, 1, 0x04, 1, 0x82, 7, 7];
    assert!(format::begins_keyframe(VideoCodec::Vp9, &key));
    assert_eq!(format::join(VideoCodec::Vp9, std::iter::once(&key[..])), Some(vec![0x82, 7, 7]));
    // Predicted from two pictures.
    let delta = [0xfc, 0x81, 0x02, 0x00, 0x03, 0x04, 0x86, 7];
    assert!(!format::begins_keyframe(VideoCodec::Vp9, &delta));
}

/// A stream that never holds together costs a bounded window.
#[test]
fn a_window_is_bounded() {
    let (now, mut receive) = (Instant::now(), ReceiveVideo::default());
    let (mut stream, attached) = VideoStream::new();
    receive.attach(attached);
    let payload: Arc<[u8]> = vec![0x90; 1_000].into();
    for sequence in 0..20_000 {
        let codec = VideoCodec::Vp8;
        let payload = payload.clone();
        receive.packet(now, Packet { sequence: sequence * 2, timestamp: 0, marker: false, codec, payload });
        assert!(receive.waiting() <= 6 << 20, "{} bytes", receive.waiting());
    }
    receive.hand_over(now, |_| true);
    assert!(futures_now(&mut stream).is_none());
}

fn futures_now(stream: &mut VideoStream) -> Option<EncodedFrame> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(stream.next()).poll(&mut context) {
        std::task::Poll::Ready(frame) => frame,
        std::task::Poll::Pending => None,
    }
}

fn numbered(index: u64, key: bool) -> EncodedFrame {
    let payload = frame(VideoCodec::Vp8, key, &index.to_be_bytes());
    EncodedFrame::new(VideoCodec::Vp8, payload, Duration::from_millis(index * 33))
}

#[test]
fn a_slow_reader_goes_on_with_a_key_frame() {
    let (mut stream, attached) = VideoStream::new();
    assert!(!attached.push(&numbered(0, false)), "a stream begins with a key frame");
    assert!(attached.push(&numbered(1, true)));
    for index in 2..100 {
        attached.push(&numbered(index, false));
    }
    assert!(futures_now(&mut stream).is_none(), "frames without the one before");
    assert!(attached.push(&numbered(100, true)) && attached.push(&numbered(101, false)));
    let seen: Vec<bool> =
        std::iter::from_fn(|| futures_now(&mut stream)).map(|frame| frame.keyframe).collect();
    assert_eq!(seen, [true, false]);
    assert_eq!(stream.dropped(), 100);
}

#[test]
fn a_key_frame_is_asked_for_twice_a_second_at_most() {
    let (start, mut receive) = (Instant::now(), ReceiveVideo::default());
    let (stream, attached) = VideoStream::new();
    receive.attach(attached);
    let delta = format::split(VideoCodec::Vp8, &numbered(0, false).payload, 0).expect("a frame");
    let mut asked = Vec::new();
    for tick in 0..200_u64 {
        let now = start + Duration::from_millis(tick * 20);
        let (sequence, timestamp) = (tick, tick as u32 * 1_800);
        let payload = delta[0].clone().into();
        let codec = VideoCodec::Vp8;
        receive.packet(now, Packet { sequence, timestamp, marker: true, codec, payload });
        receive.hand_over(now, |_| true);
        if receive.asks(now) {
            asked.push(tick);
        }
    }
    assert_eq!(asked, (0..200).step_by(25).collect::<Vec<_>>());
    // Who loses his way asks too; and nobody asks for nothing.
    let key = format::split(VideoCodec::Vp8, &numbered(0, true).payload, 0).expect("a frame");
    let now = start + Duration::from_secs(10);
    let (sequence, timestamp, marker, payload) = (200, 400_000, true, key[0].clone().into());
    let codec = VideoCodec::Vp8;
    receive.packet(now, Packet { sequence, timestamp, marker, codec, payload });
    receive.hand_over(now, |_| true);
    let _ = receive.asks(now);
    assert!(!receive.asks(now + Duration::from_secs(5)));
    stream.request_keyframe();
    assert!(receive.asks(now + Duration::from_secs(5)));
}

#[test]
fn a_source_says_no_to_what_it_can_not_send() {
    let source = VideoSource::new(VideoCodec::H264, 640, 480);
    let other = EncodedFrame::new(VideoCodec::Vp8, vec![0; 20], Duration::ZERO);
    assert!(matches!(source.push(other), Err(VideoError::Codec { .. })));
    let none = EncodedFrame::new(VideoCodec::H264, vec![1; 20], Duration::ZERO);
    assert_eq!(source.push(none), Err(VideoError::Malformed(VideoCodec::H264)));
    let large = EncodedFrame::new(VideoCodec::H264, vec![1; MOST + 1], Duration::ZERO);
    assert_eq!(source.push(large), Err(VideoError::TooLarge(MOST + 1)));
}

#[test]
fn a_source_sends_what_a_decoder_can_take() {
    let source = VideoSource::new(VideoCodec::Vp8, 640, 480);
    let mut track = SendVideo::new(&source, u32::MAX);
    let mut next = || Some(track.next(|_, frame| Some(frame))?.first()?.timestamp);
    source.push(numbered(0, false)).expect("it is of VP8");
    assert_eq!(next(), None, "nothing depends on it");
    for index in 1..100 {
        source.push(numbered(index, index == 1)).expect("it is of VP8");
    }
    assert_eq!(next(), None, "its queue was full");
    assert_eq!(source.dropped(), 100);
    source.push(numbered(100, true)).expect("it is of VP8");
    source.push(numbered(101, false)).expect("it is of VP8");
    assert_eq!([next(), next(), next()], [Some(3_300 * 90 - 1), Some(3_333 * 90 - 1), None]);
}
