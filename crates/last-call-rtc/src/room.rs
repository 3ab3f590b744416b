//! Owns the handles of a room: what an agent calls. Refuses to hold any of the room's state but what the engine shows:
//! the engine does everything, on a thread of its own.

mod options;
mod rpc;
mod simulation;
mod streams;
mod transcription;
mod who;
mod writers;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use livekit_protocol::{DataPacket, UpdateParticipantMetadata};

pub use self::options::{DataOptions, PublishOptions, RoomOptions, VideoOptions};
pub use self::rpc::{RpcCall, RpcMethod};
pub use self::simulation::Simulation;
pub use self::streams::{ByteReader, ByteStreams, TextReader, TextStreams};
pub use self::transcription::{
    ATTRIBUTE_TRANSCRIPTION_FINAL, ATTRIBUTE_TRANSCRIPTION_SEGMENT_ID, ATTRIBUTE_TRANSCRIPTION_TRACK_ID,
    TOPIC_CHAT, TOPIC_TRANSCRIPTION,
};
pub use self::who::Who;
pub use self::writers::{ByteOptions, ByteWriter, TextOptions, TextWriter};
use crate::audio::{AudioSource, AudioStream, AudioStreamOptions};
use crate::driver;
use crate::engine::{Command, Dial, Engine, Reply};
use crate::error::{ConnectError, RoomError};
use crate::event::{DisconnectReason, Participant, Publication, RoomEvent, RoomInfo};
use crate::shared::Shared;
use crate::video::{VideoSource, VideoStream};

/// A room that this participant is in. Cheap to clone; every clone is the same room. When the last one is dropped, the
/// participant leaves.
#[derive(Clone)]
pub struct Room {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    encrypts: bool,
}

impl Room {
    /// Joins the room that `token` is for, on the server at `url` ("wss://…", or "ws://…"), and returns when audio and
    /// data can flow. `wss://` trusts the system's certificates. Must be dropped to give up: then nothing is joined.
    ///
    /// # Errors
    /// [`ConnectError`]: refused, unreachable for all of [`RoomOptions::connect_within`], or ended meanwhile.
    pub async fn connect(url: &str, token: &str, options: RoomOptions) -> Result<Self, ConnectError> {
        let (joined, outcome) = oneshot::channel();
        let (commands, to_do) = mpsc::unbounded();
        let shared = Arc::new(Shared::new(joined));
        let dial = Dial {
            url: url.to_owned(),
            token: token.to_owned(),
            auto_subscribe: options.auto_subscribe.by_server(),
            single: options.single_peer_connection,
        };
        let encrypts = options.e2ee.is_some();
        let engine = Engine::new(Instant::now(), dial, options, Arc::clone(&shared));
        driver::spawn(driver::run(engine, to_do)).map_err(|error| ConnectError::Local(error.to_string()))?;
        let room = Self { shared, commands, encrypts };
        match outcome.await {
            Ok(outcome) => outcome.map(|()| room),
            Err(oneshot::Canceled) => Err(ConnectError::Local("its thread is gone".to_owned())),
        }
    }

    /// The room as the server describes it.
    #[must_use]
    pub fn info(&self) -> RoomInfo {
        self.shared.view(|view| view.room.clone())
    }

    /// This participant, as it is now.
    #[must_use]
    pub fn local(&self) -> Participant {
        self.shared.view(|view| view.local.clone()).unwrap_or_default()
    }

    /// Everybody else, as they are now.
    #[must_use]
    pub fn participants(&self) -> Vec<Participant> {
        self.shared.view(|view| view.participants.clone())
    }

    /// The participant of that identity, if in the room.
    #[must_use]
    pub fn participant(&self, identity: &str) -> Option<Participant> {
        self.shared.view(|view| view.participants.iter().find(|one| one.identity() == identity).cloned())
    }

    /// Every event from now on; as many listeners as are asked for, each with its own queue, without bound: a listener
    /// that is kept must be read.
    #[must_use]
    pub fn events(&self) -> Events {
        Events(self.shared.listen())
    }

    /// Waits for a caller, as [`Who::default`] has it, and so never for an agent: the first that is in the room, or comes.
    /// Cancel safe.
    ///
    /// # Errors
    /// [`RoomError::Closed`] when the room ends before.
    pub async fn wait_for_participant(&self) -> Result<Participant, RoomError> {
        let who = Who::default();
        self.wait_for(|participant| who.fits(participant)).await
    }

    /// As [`Room::wait_for_participant`], for any participant that fits: `|one| who.fits(one)`, with a [`Who`].
    ///
    /// # Errors
    /// [`RoomError::Closed`] when the room ends before.
    pub async fn wait_for(&self, fits: impl Fn(&Participant) -> bool) -> Result<Participant, RoomError> {
        let mut events = self.events();
        loop {
            let (found, ended) = self.shared.view(|view| {
                (view.participants.iter().find(|one| one.is_active() && fits(one)).cloned(), view.ended)
            });
            if let Some(found) = found {
                return Ok(found);
            }
            if ended.is_some() || events.next().await.is_none() {
                return Err(RoomError::Closed);
            }
        }
    }

    /// Waits until `identity` is not in the room any more; at once if it is not. Cancel safe.
    pub async fn left(&self, identity: &str) {
        let mut events = self.events();
        while self.participant(identity).is_some() && events.next().await.is_some() {}
    }

    /// Waits until the room is over for this participant, and says why. Cancel safe.
    pub async fn closed(&self) -> DisconnectReason {
        let mut events = self.events();
        loop {
            if let Some(reason) = self.shared.view(|view| view.ended) {
                return reason;
            }
            if events.next().await.is_none() {
                // The thread is gone without a word: nothing comes any more.
                return self.shared.view(|view| view.ended).unwrap_or(DisconnectReason::Unknown);
            }
        }
    }

    /// Publishes what `source` is given as an audio track: Opus, 48 kHz. Returns when the server has it. Dropped before,
    /// the track is published all the same.
    ///
    /// # Errors
    /// Refused (may this participant publish?), no answer within 10 s, audio that can't be encoded, the room is over.
    pub async fn publish_audio(
        &self,
        source: &AudioSource,
        options: PublishOptions,
    ) -> Result<Publication, RoomError> {
        let source = source.clone();
        self.ask(|reply| Command::PublishAudio { source, options, reply }).await
    }

    /// Publishes what `source` is given as a video track, in one layer: without simulcast. Returns when the server has it.
    /// Dropped before, the track is published all the same.
    ///
    /// # Errors
    /// Refused (may this participant publish?), no answer within 10 s, a codec that can't be encrypted in a room that is
    /// (only VP8 can), AV1, which is received only, the room is over.
    pub async fn publish_video(
        &self,
        source: &VideoSource,
        options: VideoOptions,
    ) -> Result<Publication, RoomError> {
        let source = source.clone();
        self.ask(|reply| Command::PublishVideo { source, options, reply }).await
    }

    /// Takes a track of ours back, by its sid.
    ///
    /// # Errors
    /// [`RoomError::Unknown`], [`RoomError::Closed`].
    pub async fn unpublish(&self, track: &str) -> Result<(), RoomError> {
        let track = track.to_owned();
        self.ask(|reply| Command::Unpublish { track, reply }).await
    }

    /// Mutes or unmutes a track of ours, by its sid. What its source is given meanwhile goes by unheard, in time.
    pub fn set_muted(&self, track: &str, muted: bool) {
        self.tell(Command::SetMuted { track: track.to_owned(), muted });
    }

    /// The audio of another's track, by its sid: from now on, once it is subscribed, until it is unpublished or
    /// unsubscribed. As many streams as are asked for.
    ///
    /// # Errors
    /// A rate or a count of channels that can't be.
    pub fn audio_stream(&self, track: &str, options: &AudioStreamOptions) -> Result<AudioStream, RoomError> {
        let (stream, attached) =
            AudioStream::new(options).map_err(|error| RoomError::Audio(error.to_string()))?;
        self.tell(Command::Listen { track: track.to_owned(), stream: attached });
        Ok(stream)
    }

    /// The video of another's track, by its sid, as it was encoded: from a key frame on, which is asked for, once it is
    /// subscribed, until it is unpublished or unsubscribed. As many streams as are asked for. A track that nobody watches
    /// is not sent to this participant. Of encrypted tracks only VP8 is understood; of others nothing comes.
    #[must_use]
    pub fn video_stream(&self, track: &str) -> VideoStream {
        let (stream, attached) = VideoStream::new();
        self.tell(Command::Watch { track: track.to_owned(), stream: attached });
        stream
    }

    /// Subscribes to a track of another's, or not, by its sid: for rooms that do not subscribe by themselves
    /// ([`RoomOptions::auto_subscribe`]), and to save what nobody looks at.
    pub fn set_subscribed(&self, track: &str, subscribed: bool) {
        self.tell(Command::SetSubscribed { track: track.to_owned(), subscribed });
    }

    /// Sends a packet of data to everybody, or to [`DataOptions::destinations`]; returns when it is on its way.
    ///
    /// # Errors
    /// Larger than 64,000 bytes; too much waits to be sent already; the room is over.
    pub async fn publish_data(&self, payload: Vec<u8>, options: DataOptions) -> Result<(), RoomError> {
        let reliable = options.reliable;
        let packet = options.packet(payload)?;
        self.send(packet, reliable).await
    }

    /// A room whose commands go to a test.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn staged(shared: Arc<Shared>, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { shared, commands, encrypts: false }
    }

    pub(crate) async fn send(&self, packet: DataPacket, reliable: bool) -> Result<(), RoomError> {
        self.ask(|reply| Command::Send { packet: Box::new(packet), reliable, reply }).await
    }

    /// Sets this participant's metadata; its token must allow it. Returns when the server shows it.
    ///
    /// # Errors
    /// Refused, no answer, the room is over.
    pub async fn set_metadata(&self, metadata: &str) -> Result<(), RoomError> {
        let local = self.local();
        self.update(metadata.to_owned(), local.name().to_owned(), HashMap::new()).await
    }

    /// Sets this participant's name; as [`Room::set_metadata`].
    ///
    /// # Errors
    /// Refused, no answer, the room is over.
    pub async fn set_name(&self, name: &str) -> Result<(), RoomError> {
        let local = self.local();
        self.update(local.metadata().to_owned(), name.to_owned(), HashMap::new()).await
    }

    /// Sets some of this participant's attributes, and leaves the others; an empty value takes one away. As
    /// [`Room::set_metadata`].
    ///
    /// # Errors
    /// Refused, no answer, the room is over.
    pub async fn set_attributes(&self, attributes: HashMap<String, String>) -> Result<(), RoomError> {
        let local = self.local();
        self.update(local.metadata().to_owned(), local.name().to_owned(), attributes).await
    }

    async fn update(
        &self,
        metadata: String,
        name: String,
        attributes: HashMap<String, String>,
    ) -> Result<(), RoomError> {
        let wanted = UpdateParticipantMetadata { metadata, name, attributes, request_id: 0 };
        self.ask(|reply| Command::Update { wanted, reply }).await
    }

    /// Says that this machine's network is another: the connection is mended at once, where it would be found broken only
    /// seconds later.
    pub fn network_changed(&self) {
        self.tell(Command::NetworkChanged);
    }

    /// Asks the server to fail, for tests of what an agent does then. Nothing says that it will.
    pub fn simulate(&self, what: Simulation) {
        self.tell(Command::Simulate(what));
    }

    /// Leaves the room; returns when the server has been told. At once if it is over.
    pub async fn leave(&self) {
        let (reply, left) = oneshot::channel();
        if self.commands.unbounded_send(Command::Leave { reply }).is_ok() {
            // The engine that is gone has left.
            let _ = left.await;
        }
    }

    fn tell(&self, command: Command) {
        // A room that is over does nothing more.
        let _ = self.commands.unbounded_send(command);
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, RoomError> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply));
        answer.await.unwrap_or(Err(RoomError::Closed))
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("name", &self.info().name()).finish_non_exhaustive()
    }
}

/// The events of a room, in order. Ends with the room.
#[derive(Debug)]
pub struct Events(mpsc::UnboundedReceiver<RoomEvent>);

impl Events {
    /// The next event; `None` once the room is over. Cancel safe.
    pub async fn next(&mut self) -> Option<RoomEvent> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Events {
    type Item = RoomEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<RoomEvent>> {
        Pin::new(&mut self.0).poll_next(context)
    }
}
