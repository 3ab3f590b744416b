//! Where WebSocket frames and messages begin and end in a stream of bytes.
//!
//! Owns the bytes of a message until it is whole. Refuses more than 2 MiB of them, as livekit-server does, and what is
//! no WebSocket.

use std::io::Cursor;

use bytes::{Buf, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// livekit-server's limit on a message, and the longest header of a frame.
pub(super) const LIMIT: usize = (2 << 20) + 14;

/// Why no more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a message is over 2 MiB")]
    TooLong,
    #[error("the bytes are no WebSocket frames")]
    NotWebSocket,
}

/// What can be passed on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A ping, pong or close, which may stand within a message.
    Control { wire: Bytes },
    /// A whole message, of one frame or several.
    Message(Message),
}

/// A message, as it is on the wire and as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) wire: Bytes,
    pub(super) payload: Vec<u8>,
    pub(super) text: bool,
}

/// A message whose end has not come.
#[derive(Debug)]
struct Begun {
    wire: BytesMut,
    payload: Vec<u8>,
    text: bool,
}

/// Cuts a stream into pieces.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// What is read and not yet cut.
    pub(super) buffer: BytesMut,
    begun: Option<Begun>,
}

impl Splitter {
    /// The next whole piece; `None` until more is read.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Unreadable> {
        while let Some((header, wire, start)) = self.frame()? {
            let mut begun = match (header.opcode, self.begun.take()) {
                (OpCode::Control(_), begun) => {
                    self.begun = begun;
                    return Ok(Some(Piece::Control { wire }));
                }
                (OpCode::Data(Data::Continue), Some(begun)) => begun,
                (OpCode::Data(data @ (Data::Text | Data::Binary)), None) => {
                    Begun { wire: BytesMut::new(), payload: Vec::new(), text: data == Data::Text }
                }
                (OpCode::Data(_), _) => return Err(Unreadable::NotWebSocket),
            };
            let already = begun.payload.len();
            begun.payload.extend_from_slice(&wire[start..]);
            unmask(&mut begun.payload[already..], header.mask);
            if header.is_final && begun.wire.is_empty() {
                return Ok(Some(whole(wire, begun)));
            }
            begun.wire.extend_from_slice(&wire);
            if begun.wire.len() > LIMIT {
                return Err(Unreadable::TooLong);
            }
            if header.is_final {
                return Ok(Some(whole(begun.wire.split().freeze(), begun)));
            }
            self.begun = Some(begun);
        }
        Ok(None)
    }

    /// What has come of a message that has no end.
    pub(super) fn rest(self) -> Bytes {
        let mut rest = self.begun.map(|begun| begun.wire).unwrap_or_default();
        rest.extend_from_slice(&self.buffer);
        rest.freeze()
    }

    /// The next whole frame: its header, all its bytes, and where in them its payload starts.
    fn frame(&mut self) -> Result<Option<(FrameHeader, Bytes, usize)>, Unreadable> {
        let mut cursor = Cursor::new(&self.buffer[..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Unreadable::NotWebSocket)?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let start = self.buffer.len() - cursor.remaining();
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        match end.filter(|end| *end <= LIMIT) {
            None => Err(Unreadable::TooLong),
            Some(end) if end > self.buffer.len() => Ok(None),
            Some(end) => Ok(Some((header, self.buffer.split_to(end).freeze(), start))),
        }
    }
}

fn whole(wire: Bytes, begun: Begun) -> Piece {
    Piece::Message(Message { wire, payload: begun.payload, text: begun.text })
}

fn unmask(payload: &mut [u8], mask: Option<[u8; 4]>) {
    if let Some(mask) = mask {
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// A frame of the server with this message.
pub(super) fn frame(payload: Vec<u8>, text: bool) -> Option<Bytes> {
    let opcode = OpCode::Data(if text { Data::Text } else { Data::Binary });
    let mut wire = Vec::with_capacity(payload.len() + 10);
    Frame::message(payload, opcode, true).format(&mut wire).ok()?;
    Some(wire.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8], step: usize) -> (Vec<Piece>, Result<(), Unreadable>, Bytes) {
        let (mut splitter, mut pieces) = (Splitter::default(), Vec::new());
        for (number, chunk) in bytes.chunks(step.max(1)).enumerate() {
            splitter.buffer.extend_from_slice(chunk);
            loop {
                match splitter.next() {
                    Ok(Some(piece)) => pieces.push(piece),
                    Ok(None) => break,
                    Err(error) => {
                        let after = &bytes[(bytes.len()).min((number + 1) * step.max(1))..];
                        let rest = [&splitter.rest()[..], after].concat();
                        return (pieces, Err(error), rest.into());
                    }
                }
            }
        }
        (pieces, Ok(()), splitter.rest())
    }

    fn wire(piece: &Piece) -> &[u8] {
        match piece {
            Piece::Control { wire } | Piece::Message(Message { wire, .. }) => wire,
        }
    }

    #[test]
    fn however_bytes_come_each_passes_once() {
        bolero::check!().with_type::<(Vec<u8>, u8)>().for_each(|(bytes, step)| {
            let (pieces, ended, rest) = pieces(bytes, usize::from(*step));
            // A control frame overtakes the beginning of its message.
            let passed: usize = pieces.iter().map(|piece| wire(piece).len()).sum();
            if ended.is_ok() {
                assert_eq!(passed + rest.len(), bytes.len());
            }
        });
    }

    #[test]
    fn a_masked_message_in_parts_is_read_whole_and_passes_as_it_came() {
        let part = |opcode, is_final, mask, payload: &'static [u8]| {
            let header = FrameHeader { is_final, opcode: OpCode::Data(opcode), mask, ..Default::default() };
            let mut wire = Vec::new();
            Frame::from_payload(header, payload.into())
                .format(&mut wire)
                .expect("a vector takes every write");
            wire
        };
        let ping = [0x89, 0x80, 1, 2, 3, 4];
        let begin = part(Data::Binary, false, Some([1, 2, 3, 4]), b"one and ");
        let end = part(Data::Continue, true, Some([9, 8, 7, 6]), b"two");
        let bytes = [&begin[..], &ping, &end].concat();
        for step in [1, 3, 100] {
            let (pieces, ended, rest) = pieces(&bytes, step);
            let message = Message {
                wire: [&begin[..], &end].concat().into(),
                payload: b"one and two".into(),
                text: false,
            };
            assert_eq!(pieces, [Piece::Control { wire: ping.to_vec().into() }, Piece::Message(message)]);
            assert_eq!((ended, rest.len()), (Ok(()), 0));
        }
        let (pieces, ended, rest) = pieces(&begin, 100);
        assert_eq!((pieces, ended, &rest[..]), (vec![], Ok(()), &begin[..]));
    }

    #[test]
    fn what_is_too_long_or_no_frame_ends_it() {
        let claims = |length: u64| [&[0x82, 127][..], &length.to_be_bytes()].concat();
        assert_eq!(pieces(&claims(2 << 20), 100).1, Ok(()));
        assert_eq!(pieces(&claims((2 << 20) + 5), 100).1, Err(Unreadable::TooLong));
        assert_eq!(pieces(&claims(u64::MAX), 100).1, Err(Unreadable::TooLong));
        // Parts without a payload have a header each.
        let endless = [vec![0x02, 0], [0x00, 0].repeat(LIMIT / 2)].concat();
        assert_eq!(pieces(&endless, 1 << 20).1, Err(Unreadable::TooLong));
        for bytes in [&[0x83, 0][..], &[0x80, 0], &[0x02, 0, 0x82, 0]] {
            assert_eq!(pieces(bytes, 100).1, Err(Unreadable::NotWebSocket), "{bytes:?}");
        }
    }
}
