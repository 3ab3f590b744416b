//! A LiveKit room participant in pure Rust: it joins a room, publishes and hears audio, sends and receives data, and
//! keeps its place through what networks do.
//!
//! Owns the room client; refuses to know of jobs and workers: `last-call` does. The engine is sans-IO; the one place
//! that names sockets, clocks and tokio is `driver`.

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
mod routes;
mod rpc;
mod session;
mod shared;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod turn;
mod wire;

pub use audio::{AudioError, AudioFrame, AudioSource, AudioStream, AudioStreamOptions};
pub use e2ee::{E2ee, E2eeError, E2eeOptions, KEY_RING};
pub use error::{ConnectError, RoomError};
pub use event::{
    ConnectionQuality, DisconnectReason, Participant, ParticipantKind, Publication, RoomEvent, RoomInfo,
    TrackKind, TrackSource,
};
pub use people::AutoSubscribe;
pub use room::{DataOptions, Events, PublishOptions, Room, RoomOptions, RpcCall, RpcMethod, Simulation, Who};
pub use rpc::RpcError;
