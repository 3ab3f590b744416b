//! Owns the judgement on single WebSocket frames. Refuses to parse more than a frame's header: what the payload means is the test's.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame as Wire, FrameHeader};

use super::Direction;
use crate::wire;

/// A frame on its way.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its connection, numbered from 1.
    pub connection: u64,
    /// Where it goes.
    pub direction: Direction,
    /// 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// Its payload without the mask.
    pub payload: Bytes,
    header: FrameHeader,
}

impl Frame {
    pub(super) fn open(connection: u64, direction: Direction, wire: Bytes) -> Result<Self> {
        let (header, payload) = wire::open(wire)?;
        Ok(Self { connection, direction, opcode: header.opcode.into(), payload, header })
    }

    /// The bytes of a frame of the same kind and mask with another payload, for [`Verdict::Replace`].
    pub fn with_payload(&self, payload: impl Into<Bytes>) -> Bytes {
        let mut bytes = Vec::new();
        let frame = Wire::from_payload(self.header.clone(), payload.into());
        frame.format(&mut bytes).expect("a vector takes every write");
        bytes.into()
    }
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is lost.
    Drop,
    /// It goes on so much later, and those behind it not before it.
    Delay(Duration),
    /// It goes on behind the next frame of its direction that passes.
    Hold,
    /// These bytes go on in its place; they need not be a frame.
    Replace(Bytes),
    /// Nothing goes on: the connection is closed towards both sides.
    Close,
}

type Judge = dyn FnMut(&Frame) -> Verdict + Send;

/// The test's judgement, if it has one.
#[derive(Default)]
pub(super) struct Script(Option<Mutex<Box<Judge>>>);

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.0.is_some()).finish()
    }
}

impl Script {
    pub(super) fn new(judge: impl FnMut(&Frame) -> Verdict + Send + 'static) -> Self {
        Self(Some(Mutex::new(Box::new(judge))))
    }

    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn judge(&self, frame: &Frame) -> Verdict {
        let Some(judge) = &self.0 else { return Verdict::Pass };
        judge.lock().unwrap_or_else(PoisonError::into_inner)(frame)
    }
}

/// Cuts a stream into what is to be judged: the upgrade and garbage pass as they are.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    buffer: BytesMut,
    upgraded: bool,
    garbage: bool,
}

/// A piece of the stream.
pub(super) enum Piece {
    /// Passes unseen.
    Plain(Bytes),
    /// One whole frame.
    Frame(Bytes),
}

impl Cutter {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole piece.
    pub(super) fn next(&mut self) -> Option<Piece> {
        if self.buffer.is_empty() {
            return None;
        }
        if !self.upgraded {
            let end = self.buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            self.upgraded = true;
            return Some(Piece::Plain(self.buffer.split_to(end).freeze()));
        }
        if !self.garbage {
            match wire::split(&mut self.buffer) {
                Ok(frame) => return frame.map(Piece::Frame),
                Err(_) => self.garbage = true,
            }
        }
        Some(Piece::Plain(self.buffer.split().freeze()))
    }

    /// What is left at the end of the stream.
    pub(super) fn rest(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
}
