//! Encrypted data packets: user data, streams, chat and RPC.
//!
//! Owns which packets are encrypted and how (`EncryptedPacket` of LiveKit's `livekit_models.proto`: an encoded
//! `EncryptedPacketPayload` under AES-GCM, nothing authenticated beside it); refuses to know of channels and order.

use livekit_protocol as proto;
use prost::Message as _;
use proto::data_packet::Value as Clear;
use proto::encrypted_packet_payload::Value as Hidden;

use super::cipher::IV_LEN;
use super::ring::{Trail, in_ring};
use super::{E2ee, E2eeError};

impl E2ee {
    /// What `identity`, the local participant, sends in place of `value`. What LiveKit knows no encrypted form of
    /// (DTMF, transcriptions, metrics, speakers) and what is encrypted stays as it is. `iv` is random, and new for
    /// each packet.
    pub(crate) fn encrypt_data(
        &self,
        identity: &str,
        value: Clear,
        iv: [u8; IV_LEN],
    ) -> Result<Clear, E2eeError> {
        let hidden = match hide(value) {
            Ok(hidden) => hidden,
            Err(clear) => return Ok(*clear),
        };
        let (index, key) = self.sending(identity)?;
        let mut sealed = proto::EncryptedPacketPayload { value: Some(hidden) }.encode_to_vec();
        key.seal(iv, &[], &mut sealed, 0).ok_or(E2eeError::Unsealable)?;
        Ok(Clear::EncryptedPacket(proto::EncryptedPacket {
            encryption_type: proto::encryption::Type::Gcm.into(),
            iv: iv.to_vec(),
            key_index: index.into(),
            encrypted_value: sealed,
        }))
    }

    /// What `identity` encrypted. Looks a whole window of ratchets ahead at once, since no packet may be lost: that
    /// can hold the thread up for some hundred milliseconds, once for each key.
    pub(crate) fn decrypt_data(
        &self,
        identity: &str,
        packet: &proto::EncryptedPacket,
    ) -> Result<Clear, E2eeError> {
        let index = in_ring(packet.key_index)?;
        let iv: [u8; IV_LEN] = packet.iv.as_slice().try_into().map_err(|_| E2eeError::Malformed)?;
        let sealed = packet.encrypted_value.as_slice();
        let opened =
            self.open(identity, index, &mut Trail::default(), usize::MAX, |key| key.open(iv, &[], sealed))?;
        let payload = proto::EncryptedPacketPayload::decode(opened.value.as_slice());
        payload.ok().and_then(|payload| payload.value).map(show).ok_or(E2eeError::Malformed)
    }
}

/// The form that is encrypted; the packet itself where there is none.
fn hide(value: Clear) -> Result<Hidden, Box<Clear>> {
    #[expect(deprecated, reason = "what an old peer sends is passed on")]
    match value {
        Clear::User(user) => Ok(Hidden::User(user)),
        Clear::ChatMessage(message) => Ok(Hidden::ChatMessage(message)),
        Clear::RpcRequest(request) => Ok(Hidden::RpcRequest(request)),
        Clear::RpcAck(ack) => Ok(Hidden::RpcAck(ack)),
        Clear::RpcResponse(response) => Ok(Hidden::RpcResponse(response)),
        Clear::StreamHeader(header) => Ok(Hidden::StreamHeader(header)),
        Clear::StreamChunk(chunk) => Ok(Hidden::StreamChunk(chunk)),
        Clear::StreamTrailer(trailer) => Ok(Hidden::StreamTrailer(trailer)),
        clear @ (Clear::Speaker(_)
        | Clear::SipDtmf(_)
        | Clear::Transcription(_)
        | Clear::Metrics(_)
        | Clear::EncryptedPacket(_)) => Err(Box::new(clear)),
    }
}

fn show(hidden: Hidden) -> Clear {
    match hidden {
        Hidden::User(user) => Clear::User(user),
        Hidden::ChatMessage(message) => Clear::ChatMessage(message),
        Hidden::RpcRequest(request) => Clear::RpcRequest(request),
        Hidden::RpcAck(ack) => Clear::RpcAck(ack),
        Hidden::RpcResponse(response) => Clear::RpcResponse(response),
        Hidden::StreamHeader(header) => Clear::StreamHeader(header),
        Hidden::StreamChunk(chunk) => Clear::StreamChunk(chunk),
        Hidden::StreamTrailer(trailer) => Clear::StreamTrailer(trailer),
    }
}
