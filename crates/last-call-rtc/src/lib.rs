//! A LiveKit room participant in pure Rust: it joins a room, publishes and hears audio, sends and sees encoded video, sends
//! and receives data, and keeps its place through what networks do.
//!
//! Owns the room client; refuses to know of jobs and workers: `last-call` does. The engine is sans-IO; the one file
//! that names sockets, clocks and tokio is `driver.rs`.

mod audio;
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
mod rpc;
mod session;
mod shared;
#[cfg_attr(not(test), expect(dead_code, reason = "complete and tested; no connection goes by a relay yet"))]
mod turn;
mod video;
#[cfg_attr(not(test), expect(dead_code, reason = "complete and tested; no connection goes over TCP yet"))]
mod wire;

pub use audio::{AudioError, AudioFrame, AudioSource, AudioStream, AudioStreamOptions};
pub use e2ee::{E2ee, E2eeError, E2eeOptions, KEY_RING};
pub use error::{ConnectError, RoomError};
pub use event::{
    ConnectionQuality, DisconnectReason, Participant, ParticipantKind, Publication, RoomEvent, RoomInfo,
    TrackKind, TrackSource,
};
pub use people::AutoSubscribe;
pub use room::{DataOptions, Events, PublishOptions, Room, RoomOptions, RpcCall, RpcMethod, VideoOptions};
pub use rpc::RpcError;
pub use video::{EncodedFrame, VideoCodec, VideoError, VideoSource, VideoStream};
