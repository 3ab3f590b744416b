//! Owns how a room is joined, and how tracks and data are published. Refuses to know more of them.

use std::time::Duration;

use livekit_protocol::data_packet::Value;
use livekit_protocol::{DataPacket, UserPacket};

use crate::audio::SendOptions;
use crate::e2ee::E2ee;
use crate::error::RoomError;
use crate::event::TrackSource;
use crate::people::AutoSubscribe;

/// The most that a packet of data holds, in bytes: what the official SDKs send at most. The server's channels take 65,535
/// with everything around it.
const MOST: usize = 64_000;

/// How a room is joined.
#[derive(Clone, Debug)]
pub struct RoomOptions {
    /// What is subscribed to by itself. Default: everything.
    pub auto_subscribe: AutoSubscribe,
    /// One peer connection for everything, where the server can (1.9 and later do): half the sockets and handshakes.
    /// Default: true. Others get two, by themselves.
    pub single_peer_connection: bool,
    /// Audio is sent twice, one packet later again (RFC 2198), so that a lost packet is no gap. Default: true.
    pub red: bool,
    /// End-to-end encryption of audio and data: everybody in the room needs the same keys, and the server has none. Audio is
    /// then sent once ([`RoomOptions::red`] counts as false). Default: none.
    pub e2ee: Option<E2ee>,
    /// Media goes by the server's relays (TURN) and no other way: for networks that must not see where it goes. Else they
    /// are tried where the direct way does not stand within a second. Default: false.
    pub relay_only: bool,
    /// How long a join may take, with all of its attempts. Default: 15 s.
    pub connect_within: Duration,
}

impl Default for RoomOptions {
    fn default() -> Self {
        Self {
            auto_subscribe: AutoSubscribe::All,
            single_peer_connection: true,
            red: true,
            e2ee: None,
            relay_only: false,
            connect_within: Duration::from_secs(15),
        }
    }
}

/// How a track of audio is published.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// The track's name. Default: "audio".
    pub name: String,
    /// What it is. Default: a microphone.
    pub source: TrackSource,
    /// Silence is not sent (Opus DTX): what is perfectly still, as an agent's voice is between two sentences; where audio
    /// is sent once ([`RoomOptions::red`]), background noise too. Default: true.
    pub dtx: bool,
    /// Bits a second, as Opus has them. Default: 48,000.
    pub bitrate: u32,
    /// Tracks of the same stream are played in step. Default: empty, a stream of its own.
    pub stream: String,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            name: "audio".to_owned(),
            source: TrackSource::Microphone,
            dtx: true,
            bitrate: 48_000,
            stream: String::new(),
        }
    }
}

impl PublishOptions {
    pub(crate) fn send(&self, red: bool) -> SendOptions {
        SendOptions { red, dtx: self.dtx, bitrate: self.bitrate }
    }
}

/// How a track of video is published.
#[derive(Clone, Debug)]
pub struct VideoOptions {
    /// The track's name. Default: "video".
    pub name: String,
    /// What it is. Default: a camera.
    pub source: TrackSource,
    /// Bits a second that its encoder makes, as far as the server is to know; 0 says nothing. Default: 0.
    pub bitrate: u32,
    /// Tracks of the same stream are played in step. Default: empty, a stream of its own.
    pub stream: String,
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self { name: "video".to_owned(), source: TrackSource::Camera, bitrate: 0, stream: String::new() }
    }
}

/// Where a packet of data goes.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// Delivered once and in order, or never again if it is lost. Default: true.
    pub reliable: bool,
    /// What it is about, for those who receive it.
    pub topic: String,
    /// The identities that get it; none is everybody.
    pub destinations: Vec<String>,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self { reliable: true, topic: String::new(), destinations: Vec::new() }
    }
}

impl DataOptions {
    pub(crate) fn packet(self, payload: Vec<u8>) -> Result<DataPacket, RoomError> {
        if payload.len() > MOST {
            return Err(RoomError::TooLarge { size: payload.len(), most: MOST });
        }
        let topic = (!self.topic.is_empty()).then_some(self.topic);
        Ok(DataPacket {
            destination_identities: self.destinations,
            value: Some(Value::User(UserPacket { payload, topic, ..UserPacket::default() })),
            ..DataPacket::default()
        })
    }
}
