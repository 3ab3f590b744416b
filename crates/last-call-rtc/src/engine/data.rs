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

struct Waiting {
    label: Label,
    message: Bytes,
    reply: Option<Reply<()>>,
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
    waiting: VecDeque<Waiting>,
    bytes: usize,
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
    }

    /// Who waits for the answer to the request.
    pub(super) fn answered(&mut self, request: u32) -> Option<Reply<()>> {
        Some(self.asked.remove(&request)?.reply)
    }

    fn push(&mut self, label: Label, message: Bytes, reply: Option<Reply<()>>) {
        self.bytes += message.len();
        self.waiting.push_back(Waiting { label, message, reply });
    }
}

impl Engine {
    /// Sends a reliable packet that nobody waits for.
    pub(super) fn send_quietly(&mut self, packet: DataPacket) {
        let Ok(mut packet) = self.encrypted(packet) else { return };
        let message = self.data.outbox.stamp(&mut packet);
        self.data.push(Label::Reliable, message, None);
        self.flush_data();
    }

    /// The packet as it leaves.
    fn encrypted(&self, mut packet: DataPacket) -> Result<DataPacket, RoomError> {
        let (Some(keys), Some(own)) = (&self.options.e2ee, self.people.local()) else { return Ok(packet) };
        if let Some(value) = packet.value.take() {
            let mut iv = [0; 12];
            getrandom::fill(&mut iv).map_err(|error| RoomError::Unencrypted(error.to_string()))?;
            let value = keys.encrypt_data(own.identity(), value, iv);
            packet.value = Some(value.map_err(|error| RoomError::Unencrypted(error.to_string()))?);
        }
        Ok(packet)
    }

    pub(super) fn send_data(&mut self, packet: DataPacket, reliable: bool, reply: Reply<()>) {
        if self.data.bytes > MOST {
            answer(reply, Err(RoomError::Full(self.data.bytes)));
            return;
        }
        let mut packet = match self.encrypted(packet) {
            Ok(packet) => packet,
            Err(error) => {
                answer(reply, Err(error));
                return;
            }
        };
        let (label, message) = if reliable {
            (Label::Reliable, self.data.outbox.stamp(&mut packet))
        } else {
            (Label::Lossy, Bytes::from(packet.encode_to_vec()))
        };
        self.data.push(label, message, Some(reply));
        self.flush_data();
    }

    /// Writes what waits, as far as the channels take it.
    pub(super) fn flush_data(&mut self) {
        while let Some(next) = self.data.waiting.front() {
            if !self.session.write_data(next.label, &next.message) {
                return;
            }
            let Some(Waiting { message, reply, .. }) = self.data.waiting.pop_front() else { return };
            self.data.bytes -= message.len();
            if let Some(reply) = reply {
                answer(reply, Ok(()));
            }
        }
    }

    /// What the server has not had of ours, after a resume.
    pub(super) fn replay_data(&mut self, last: u32) {
        let missed: Vec<Bytes> = self.data.outbox.replay(last).cloned().collect();
        for message in missed.into_iter().rev() {
            self.data.bytes += message.len();
            self.data.waiting.push_front(Waiting { label: Label::Reliable, message, reply: None });
        }
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
