//! Owns what goes through the data channels, and the requests that the server answers. Refuses to read what a user's
//! packet holds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use livekit_protocol::data_packet::Value;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{DataPacket, UpdateParticipantMetadata};
use prost::Message as _;

use super::{ANSWER_WITHIN, Engine, Reply, answer};
use crate::data::{Inbox, Outbox};
use crate::error::RoomError;
use crate::event::{Participant, RoomEvent};
use crate::peer::Label;
use crate::streams::Origin;

/// The most that waits for a channel, in bytes.
const MOST: usize = 8 << 20;

/// What waits for one channel, in order: a channel that is full does not hold the other one back.
struct Queue<T> {
    waiting: VecDeque<(T, usize, Option<Reply<()>>)>,
    bytes: usize,
}

/// A packet of the reliable channel's.
enum Reliable {
    /// Gets its number when it leaves: until then the session, which counts from one, may be another.
    New(Box<DataPacket>),
    /// Left before, with its number.
    Again(Bytes),
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Queue<T> {
    fn push(&mut self, what: T, length: usize, reply: Option<Reply<()>>) {
        self.bytes += length;
        self.waiting.push_back((what, length, reply));
    }

    fn pop(&mut self) {
        let Some((_, length, reply)) = self.waiting.pop_front() else { return };
        self.bytes -= length;
        if let Some(reply) = reply {
            answer(reply, Ok(()));
        }
    }
}

impl Queue<Reliable> {
    /// What goes again: before the rest, and instead of what was to go again.
    fn again(&mut self, missed: impl DoubleEndedIterator<Item = Bytes>) {
        self.waiting.retain(|(waiting, ..)| !matches!(waiting, Reliable::Again(_)));
        for message in missed.rev() {
            let length = message.len();
            self.waiting.push_front((Reliable::Again(message), length, None));
        }
        self.bytes = self.waiting.iter().map(|(_, length, _)| length).sum();
    }
}

/// A request whose answer is that the server does it.
struct Asked {
    wanted: UpdateParticipantMetadata,
    reply: Reply<()>,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Data {
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    reliable: Queue<Reliable>,
    /// The connection is being mended: whether this session goes on or another begins, nobody knows yet, and what is
    /// written to one that ends is lost.
    held: bool,
    lossy: Queue<Bytes>,
    asked: BTreeMap<u32, Asked>,
    last_request: u32,
}

impl Data {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked.values().map(|asked| asked.until).min()
    }

    /// A new session numbers its packets anew.
    pub(super) fn joined(&mut self) {
        self.outbox = Outbox::default();
        self.inbox = Inbox::default();
        self.reliable.again(std::iter::empty());
    }

    /// Who waits for the answer to the request.
    pub(super) fn answered(&mut self, request: u32) -> Option<Reply<()>> {
        Some(self.asked.remove(&request)?.reply)
    }
}

impl Engine {
    /// Sends a reliable packet whose way nobody waits for; false where it can't be.
    pub(super) fn send_quietly(&mut self, packet: DataPacket) -> bool {
        let prepared = self.prepared(packet, true);
        let prepared = prepared.inspect_err(|error| tracing::debug!(%error, "a packet is left out"));
        prepared.is_ok_and(|packet| {
            self.queue(packet, true, None);
            true
        })
    }

    pub(super) fn send_data(&mut self, packet: DataPacket, reliable: bool, reply: Reply<()>) {
        match self.prepared(packet, reliable) {
            Ok(packet) => self.queue(packet, reliable, Some(reply)),
            Err(error) => answer(reply, Err(error)),
        }
    }

    /// The packet as it leaves, if there is room for it.
    fn prepared(&self, mut packet: DataPacket, reliable: bool) -> Result<DataPacket, RoomError> {
        let waiting = if reliable { self.data.reliable.bytes } else { self.data.lossy.bytes };
        if waiting > MOST {
            return Err(RoomError::Full(waiting));
        }
        let (Some(keys), Some(own)) = (&self.options.e2ee, self.people.local()) else { return Ok(packet) };
        if let Some(value) = packet.value.take() {
            let mut iv = [0; 12];
            getrandom::fill(&mut iv).map_err(|error| RoomError::Unencrypted(error.to_string()))?;
            let value = keys.encrypt_data(own.identity(), value, iv);
            packet.value = Some(value.map_err(|error| RoomError::Unencrypted(error.to_string()))?);
        }
        Ok(packet)
    }

    fn queue(&mut self, packet: DataPacket, reliable: bool, reply: Option<Reply<()>>) {
        let length = packet.encoded_len();
        if reliable {
            self.data.reliable.push(Reliable::New(packet.into()), length, reply);
        } else {
            self.data.lossy.push(packet.encode_to_vec().into(), length, reply);
        }
        self.flush_data();
    }

    /// Keeps reliable packets while the connection is mended.
    pub(super) fn hold_data(&mut self, held: bool) {
        self.data.held = held;
        self.flush_data();
    }

    /// Writes what waits, as far as the channels take it.
    pub(super) fn flush_data(&mut self) {
        while let Some((message, ..)) = self.data.lossy.waiting.front() {
            if !self.session.write_data(Label::Lossy, message) {
                break;
            }
            self.data.lossy.pop();
        }
        while let Some((next, ..)) = self.data.reliable.waiting.front_mut()
            && !self.data.held
        {
            let (message, new) = match next {
                Reliable::New(packet) => (self.data.outbox.stamp(packet), true),
                Reliable::Again(message) => (message.clone(), false),
            };
            if !self.session.write_data(Label::Reliable, &message) {
                return;
            }
            if new {
                self.data.outbox.sent(message);
            }
            self.data.reliable.pop();
        }
    }

    /// What the server has not had of ours, after a resume.
    pub(super) fn replay_data(&mut self, last: u32) {
        let Data { outbox, reliable, .. } = &mut self.data;
        reliable.again(outbox.replay(last).cloned());
        self.flush_data();
    }

    pub(super) fn on_data(&mut self, label: Label, bytes: &[u8]) {
        if label == Label::DataTrack {
            return;
        }
        let packet = match DataPacket::decode(bytes) {
            Ok(packet) => packet,
            Err(error) => {
                tracing::debug!(%error, "a data packet that can't be read: left out");
                return;
            }
        };
        if label == Label::Reliable && !self.data.inbox.take(&packet) {
            return;
        }
        self.on_packet(packet, label == Label::Reliable);
    }

    /// Asks the server to show this participant differently.
    pub(super) fn ask(&mut self, wanted: UpdateParticipantMetadata, reply: Reply<()>) {
        self.data.last_request = self.data.last_request.wrapping_add(1);
        let wanted = UpdateParticipantMetadata { request_id: self.data.last_request, ..wanted };
        let asked = Asked { wanted: wanted.clone(), reply, until: self.now + ANSWER_WITHIN };
        self.data.asked.insert(self.data.last_request, asked);
        self.signal(Request::UpdateMetadata(wanted));
        self.see_asked();
    }

    /// The server answers an update that it makes only by showing it.
    pub(super) fn see_asked(&mut self) {
        let Some(local) = self.people.local() else { return };
        let done: Vec<u32> = self
            .data
            .asked
            .iter()
            .filter(|(_, asked)| shows(&local, &asked.wanted))
            .map(|(id, _)| *id)
            .collect();
        for reply in done.into_iter().filter_map(|id| self.data.answered(id)) {
            answer(reply, Ok(()));
        }
    }

    pub(super) fn time_out_asked(&mut self) {
        let late: Vec<u32> =
            self.data.asked.iter().filter(|(_, asked)| asked.until <= self.now).map(|(id, _)| *id).collect();
        for reply in late.into_iter().filter_map(|id| self.data.answered(id)) {
            answer(reply, Err(RoomError::Timeout(ANSWER_WITHIN)));
        }
    }
}

/// Whether the participant is as it was asked to be.
fn shows(local: &Participant, wanted: &UpdateParticipantMetadata) -> bool {
    let attributes = |(key, value): (&String, &String)| {
        local.attributes().get(key).map_or(value.is_empty(), |shown| shown == value)
    };
    local.metadata() == wanted.metadata
        && local.name() == wanted.name
        && wanted.attributes.iter().all(attributes)
}

impl Engine {
    /// A packet that is new.
    fn on_packet(&mut self, mut packet: DataPacket, reliable: bool) {
        let encrypted = matches!(packet.value, Some(Value::EncryptedPacket(_)));
        if let (Some(Value::EncryptedPacket(hidden)), Some(keys)) = (&packet.value, &self.options.e2ee) {
            match keys.decrypt_data(&packet.participant_identity, hidden) {
                Ok(value) => packet.value = Some(value),
                Err(error) => tracing::debug!(%error, "a data packet can't be decrypted"),
            }
        }
        let participant = self.people.participant(&packet.participant_identity).cloned();
        let event = match packet.value {
            Some(Value::User(user)) => {
                RoomEvent::DataReceived { payload: user.payload, topic: user.topic, participant, reliable }
            }
            Some(Value::SipDtmf(dtmf)) => {
                RoomEvent::DtmfReceived { code: dtmf.code, digit: dtmf.digit, participant }
            }
            Some(value @ (Value::RpcRequest(_) | Value::RpcAck(_) | Value::RpcResponse(_))) => {
                return self.on_rpc(&packet.participant_identity, value);
            }
            Some(value @ (Value::StreamHeader(_) | Value::StreamChunk(_) | Value::StreamTrailer(_))) => {
                let (sid, identity) = (&packet.participant_sid, &packet.participant_identity);
                return self.on_stream(Origin { sid, identity, encrypted }, value);
            }
            Some(Value::Transcription(transcription)) => {
                RoomEvent::TranscriptionReceived(transcription.into())
            }
            _ => return,
        };
        self.shared.tell(&event);
    }
}
