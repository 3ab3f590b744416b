//! What a server, or another participant, may send that is not what it should be.
//!
//! Owns messages that are nearly right: bytes at random are seldom a message at all. Refuses to judge what comes of them
//! but that nothing panics and nothing goes on for ever.

use std::sync::Mutex;
use std::time::Duration;

use livekit_protocol::data_packet::Value;
use livekit_protocol::data_stream::header::ContentHeader;
use livekit_protocol::data_stream::{ByteHeader, Chunk, Header, TextHeader, Trailer};
use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    ConnectionQualityInfo, ConnectionQualityUpdate, DataPacket, EncryptedPacket, LeaveRequest,
    MediaSectionsRequirement, MuteTrackRequest, ParticipantInfo, ParticipantUpdate, RequestResponse, Room,
    RoomMovedResponse, RoomUpdate, RpcAck, RpcRequest, RpcResponse, SessionDescription, SignalResponse,
    SipDtmf, SpeakerInfo, SpeakersChanged, SubscriptionResponse, TrackInfo, TrackPublishedResponse,
    TrackSubscribed, TrackUnpublishedResponse, Transcription, TranscriptionSegment, TrickleRequest,
    UserPacket, rpc_response,
};
use prost::Message;

use super::server::Rig;
use crate::e2ee::E2ee;
use crate::peer::Label;
use crate::room::RoomOptions;

fn text(text: &str) -> String {
    text.to_owned()
}

fn guest() -> ParticipantInfo {
    ParticipantInfo {
        sid: text("PA_guest"),
        identity: text("guest"),
        state: State::Active as i32,
        version: 2,
        attributes: [(text("a"), text("b"))].into(),
        tracks: vec![TrackInfo { sid: text("TR_1"), name: text("audio"), ..TrackInfo::default() }],
        ..ParticipantInfo::default()
    }
}

/// Every message that means something to an engine.
fn messages() -> Vec<Response> {
    let sid = || text("TR_1");
    let sdp = text(
        "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
    );
    let description = |kind: &str, id| SessionDescription {
        r#type: text(kind),
        sdp: sdp.clone(),
        id,
        mid_to_track_id: [(text("0"), sid())].into(),
    };
    let candidate = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.1 7882 typ host","sdpMid":"0"}"#;
    vec![
        Response::Answer(description("answer", 2)),
        Response::Offer(description("offer", 1)),
        Response::Trickle(TrickleRequest { candidate_init: text(candidate), ..TrickleRequest::default() }),
        Response::MediaSectionsRequirement(MediaSectionsRequirement { num_audios: 1, num_videos: 1 }),
        Response::Update(ParticipantUpdate { participants: vec![guest()] }),
        Response::SpeakersChanged(SpeakersChanged {
            speakers: vec![SpeakerInfo { sid: text("PA_guest"), level: 0.5, active: true }],
        }),
        Response::ConnectionQuality(ConnectionQualityUpdate {
            updates: vec![ConnectionQualityInfo {
                participant_sid: text("PA_guest"),
                quality: 1,
                score: 0.5,
            }],
        }),
        Response::RoomUpdate(RoomUpdate { room: Some(Room { metadata: text("m"), ..Room::default() }) }),
        Response::SubscriptionResponse(SubscriptionResponse { track_sid: sid(), err: 1 }),
        Response::TrackPublished(TrackPublishedResponse {
            cid: text("audio-1"),
            track: Some(TrackInfo { sid: sid(), ..TrackInfo::default() }),
        }),
        Response::TrackUnpublished(TrackUnpublishedResponse { track_sid: sid() }),
        Response::TrackSubscribed(TrackSubscribed { track_sid: sid() }),
        Response::Mute(MuteTrackRequest { sid: sid(), muted: true }),
        Response::RoomMoved(RoomMovedResponse {
            token: text("token"),
            other_participants: vec![guest()],
            ..RoomMovedResponse::default()
        }),
        Response::RefreshToken(text("token")),
        Response::RequestResponse(RequestResponse { request_id: 1, reason: 2, ..RequestResponse::default() }),
        Response::Leave(LeaveRequest { action: Action::Resume as i32, ..LeaveRequest::default() }),
    ]
}

/// Every packet of a channel that means something to an engine.
fn packets() -> Vec<Value> {
    let header = |content_header| Header {
        stream_id: text("stream"),
        topic: text("topic"),
        mime_type: text("text/plain"),
        total_length: Some(10),
        content_header: Some(content_header),
        ..Header::default()
    };
    let segment =
        TranscriptionSegment { id: text("SG_1"), text: text("hello"), ..TranscriptionSegment::default() };
    vec![
        Value::User(UserPacket { payload: vec![1], topic: Some(text("topic")), ..UserPacket::default() }),
        Value::RpcRequest(RpcRequest {
            id: text("1"),
            method: text("method"),
            payload: text("payload"),
            response_timeout_ms: 1000,
            version: 1,
            ..RpcRequest::default()
        }),
        Value::RpcAck(RpcAck { request_id: text("1") }),
        Value::RpcResponse(RpcResponse {
            request_id: text("1"),
            value: Some(rpc_response::Value::Payload(text("payload"))),
        }),
        Value::StreamHeader(header(ContentHeader::TextHeader(TextHeader::default()))),
        Value::StreamHeader(header(ContentHeader::ByteHeader(ByteHeader { name: text("file") }))),
        Value::StreamChunk(Chunk { stream_id: text("stream"), content: vec![65; 5], ..Chunk::default() }),
        Value::StreamTrailer(Trailer { stream_id: text("stream"), ..Trailer::default() }),
        Value::SipDtmf(SipDtmf { code: 1, digit: text("1") }),
        Value::Transcription(Transcription {
            transcribed_participant_identity: text("guest"),
            segments: vec![segment],
            ..Transcription::default()
        }),
        Value::EncryptedPacket(EncryptedPacket {
            iv: vec![0; 12],
            encrypted_value: vec![0; 40],
            ..EncryptedPacket::default()
        }),
    ]
}

/// The bytes of a message, with some of them changed, and perhaps cut off.
fn spoil(message: &impl Message, changes: &[(u16, u8)], cut: u8) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    for (at, byte) in changes {
        let at = usize::from(*at) % bytes.len().max(1);
        if let Some(old) = bytes.get_mut(at) {
            *old = *byte;
        }
    }
    bytes.truncate(bytes.len().saturating_sub(usize::from(cut)));
    bytes
}

/// One message: which, what of it is changed, how many bytes of its end are missing.
type Spoilt = (u8, Vec<(u16, u8)>, u8);

#[test]
fn whatever_the_signalling_says_harms_nothing() {
    let right = messages();
    bolero::check!().with_type::<Vec<Spoilt>>().for_each(|said| {
        let mut rig = Rig::new(RoomOptions::default());
        rig.run(Duration::ZERO);
        for (which, changes, cut) in said {
            let message = right[usize::from(*which) % right.len()].clone();
            let bytes = spoil(&SignalResponse { message: Some(message) }, changes, *cut % 4);
            if let Ok(SignalResponse { message: Some(message) }) = SignalResponse::decode(&*bytes) {
                rig.say(message);
            }
        }
        rig.run(Duration::from_millis(200));
    });
}

#[test]
fn whatever_comes_through_the_channels_harms_nothing() {
    let right = packets();
    bolero::check!().with_type::<(bool, Vec<Spoilt>)>().for_each(|(secret, sent)| {
        let e2ee = secret.then(|| E2ee::new(crate::e2ee::E2eeOptions::default()));
        let mut rig = Rig::new(RoomOptions { e2ee, ..RoomOptions::default() });
        rig.run(Duration::ZERO);
        for (number, (which, changes, cut)) in (1..).zip(sent) {
            let value = right[usize::from(*which) % right.len()].clone();
            let packet = DataPacket {
                participant_identity: text("guest"),
                participant_sid: text("PA_guest"),
                sequence: number,
                value: Some(value),
                ..DataPacket::default()
            };
            rig.engine.on_data(Label::Reliable, &spoil(&packet, changes, *cut % 4));
        }
        rig.run(Duration::from_millis(200));
    });
}

#[test]
fn whatever_comes_in_a_datagram_harms_nothing() {
    let rig = Mutex::new(Rig::joined(RoomOptions::default()));
    bolero::check!().with_type::<Vec<u8>>().for_each(|datagram| {
        rig.lock().expect("no panic before").datagram(datagram);
    });
    // And what is right is still understood.
    let mut rig = rig.into_inner().expect("no panic before");
    super::send(&mut rig, b"after all that".to_vec()).expect("room for it");
    rig.run(Duration::from_secs(2));
    assert_eq!(super::had(&mut rig), [b"after all that".to_vec()]);
}
