//! Owns the WebSocket frame on the wire: where one ends, what it holds, how one is made. Refuses the protocol's rules (masks, order,
//! limits): stub and relay must be able to break each of them.

use std::io::Cursor;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// Splits the first whole frame off `buffer` as the bytes that were on the wire; `None` until it is whole.
///
/// # Errors
/// When the bytes are no frame header.
pub(crate) fn split(buffer: &mut BytesMut) -> Result<Option<Bytes>> {
    let mut cursor = Cursor::new(&buffer[..]);
    let Some((_, length)) = FrameHeader::parse(&mut cursor).context("not a WebSocket frame")? else {
        return Ok(None);
    };
    let whole = cursor.position().saturating_add(length);
    if whole > buffer.len() as u64 {
        return Ok(None);
    }
    Ok(Some(buffer.split_to(whole as usize).freeze()))
}

/// Opens one whole frame: its header, and its payload without the mask.
///
/// # Errors
/// When the bytes are no frame.
pub(crate) fn open(mut frame: Bytes) -> Result<(FrameHeader, Bytes)> {
    let mut cursor = Cursor::new(&frame[..]);
    let (header, _) = FrameHeader::parse(&mut cursor)
        .context("not a WebSocket frame")?
        .context("half a WebSocket frame")?;
    let start = cursor.position() as usize;
    frame.advance(start);
    let payload = match header.mask {
        None => frame,
        Some(mask) => frame.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect(),
    };
    Ok((header, payload))
}

/// One whole unmasked frame, as a server sends it.
pub(crate) fn frame(opcode: OpCode, payload: impl Into<Bytes>) -> Bytes {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut bytes = Vec::new();
    Frame::from_payload(header, payload.into()).format(&mut bytes).expect("a vector takes every write");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

    use super::*;

    #[test]
    fn frames_split_where_they_end_and_lose_their_mask() {
        let header = FrameHeader {
            opcode: OpCode::Data(Data::Binary),
            mask: Some([1, 2, 3, 4]),
            ..FrameHeader::default()
        };
        let mut wire = Vec::new();
        Frame::from_payload(header, Bytes::from(vec![7; 300])).format(&mut wire).expect("formats");
        wire.extend_from_slice(&frame(OpCode::Data(Data::Text), "next"));

        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in wire {
            buffer.extend_from_slice(&[byte]);
            frames.extend(split(&mut buffer).expect("a valid header"));
        }
        let payloads: Vec<Bytes> = frames.into_iter().map(|frame| open(frame).expect("whole").1).collect();
        assert_eq!(payloads, [Bytes::from(vec![7; 300]), Bytes::from("next")]);
        assert!(buffer.is_empty());
    }
}
