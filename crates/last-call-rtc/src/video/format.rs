//! Owns how a frame of each codec is cut into payloads of RTP and put together again. Refuses sequence numbers and
//! timestamps: whoever calls has the packets of one frame, all of them, in order.

mod av1;
mod h264;
mod vp8;
mod vp9;

use super::{MOST, VideoCodec};

/// The most that a packet carries, in bytes: with the headers of SRTP, UDP and a relay it fits where 1,200 do.
const PACKET: usize = 1_100;

/// Whether the frame is a key frame, and its width and height where its first bytes say so.
pub(super) fn look(codec: VideoCodec, frame: &[u8]) -> (bool, Option<(u32, u32)>) {
    match codec {
        VideoCodec::Vp8 => vp8::look(frame),
        VideoCodec::H264 => (h264::is_keyframe(frame), None),
        VideoCodec::Vp9 => vp9::look(frame),
        VideoCodec::Av1 => (av1::is_keyframe(frame), None),
    }
}

/// The payloads of one frame; `None` if it is none. `picture` counts the frames.
pub(super) fn split(codec: VideoCodec, frame: &[u8], picture: u16) -> Option<Vec<Vec<u8>>> {
    let packets = match codec {
        VideoCodec::Vp8 => vp8::split(frame, picture),
        VideoCodec::H264 => h264::split(frame),
        VideoCodec::Vp9 => vp9::split(frame, picture),
        VideoCodec::Av1 => av1::split(frame)?,
    };
    (!packets.is_empty()).then_some(packets)
}

/// Whether a key frame begins with this payload.
pub(super) fn begins_keyframe(codec: VideoCodec, payload: &[u8]) -> bool {
    match codec {
        VideoCodec::Vp8 => vp8::begins_keyframe(payload),
        VideoCodec::H264 => h264::begins_keyframe(payload),
        VideoCodec::Vp9 => vp9::begins_keyframe(payload),
        VideoCodec::Av1 => av1::begins_keyframe(payload),
    }
}

/// The frame whose payloads these are; `None` if they are of none, or of one that is too large.
pub(super) fn join<'a>(codec: VideoCodec, payloads: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let frame = match codec {
        VideoCodec::Vp8 => vp8::join(payloads)?,
        VideoCodec::H264 => h264::join(payloads)?,
        VideoCodec::Vp9 => vp9::join(payloads)?,
        VideoCodec::Av1 => av1::join(payloads)?,
    };
    (!frame.is_empty() && frame.len() <= MOST).then_some(frame)
}

/// The picture's number, of 15 bits, as VP8 and VP9 write it.
fn picture_id(picture: u16) -> [u8; 2] {
    (picture | 0x8000).to_be_bytes()
}

/// What is left after a picture's number of one or two bytes.
fn skip_picture_id(rest: &[u8]) -> Option<&[u8]> {
    rest.get(if rest.first()? & 0x80 == 0 { 1 } else { 2 }..)
}
