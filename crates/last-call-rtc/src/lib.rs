//! A LiveKit room participant in pure Rust: it joins a room, publishes and hears audio, sends and sees encoded video, sends
//! and receives data, and keeps its place through what networks do.
//!
//! Owns the room client; refuses to know of jobs and workers: `last-call` does. The engine is sans-IO; the one place
//! that names sockets, clocks and tokio is `driver`.

mod audio;
mod bell;
mod data;
mod driver;
mod e2ee;
mod engine;
mod error;
mod event;
mod ladder;
mod peer;
mod people;
mod room;
mod routes;
mod rpc;
mod session;
mod shared;
mod streams;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod turn;
mod video;
mod wire;

pub use audio::{AudioError, AudioFrame, AudioSource, AudioStream, AudioStreamOptions};
pub use e2ee::{E2ee, E2eeError, E2eeOptions, KEY_RING};
pub use error::{ConnectError, RoomError};
pub use event::{
    ConnectionQuality, DisconnectReason, Participant, ParticipantKind, Publication, RoomEvent, RoomInfo,
    TrackKind, TrackSource, Transcription, TranscriptionSegment,
};
pub use people::AutoSubscribe;
pub use room::{
    ATTRIBUTE_TRANSCRIPTION_FINAL, ATTRIBUTE_TRANSCRIPTION_SEGMENT_ID, ATTRIBUTE_TRANSCRIPTION_TRACK_ID,
    ByteOptions, ByteReader, ByteStreams, ByteWriter, DataOptions, Events, PublishOptions, Room, RoomOptions,
    RpcCall, RpcMethod, Simulation, TOPIC_CHAT, TOPIC_TRANSCRIPTION, TextOptions, TextReader, TextStreams,
    TextWriter, VideoOptions, Who,
};
pub use rpc::RpcError;
pub use streams::{StreamError, StreamInfo};
pub use video::{EncodedFrame, VideoCodec, VideoError, VideoSource, VideoStream};
