//! A room without a server, for tests of agents: a [`Room`] that the agent is given as any other, and a [`Stage`] from which
//! the test plays everybody else and sees what the agent does. No socket, no clock.
//!
//! ```
//! use last_call_rtc::testing::{Deed, Guest, Stage};
//! use last_call_rtc::{DataOptions, Room, RoomError};
//!
//! async fn greet(room: Room) -> Result<(), RoomError> {
//!     let caller = room.wait_for_participant().await?;
//!     room.publish_data(format!("hello {}", caller.name()).into(), DataOptions::default()).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (room, mut stage) = Stage::open("lobby", "agent")?;
//! let agent = tokio::spawn(greet(room));
//! stage.enter(Guest { name: "Ann".into(), ..Guest::new("ann") });
//! let Some(Deed::Sent { payload, .. }) = stage.next().await else { panic!("nothing was sent") };
//! assert_eq!(payload, b"hello Ann");
//! agent.await??;
//! # Ok(())
//! # }
//! ```
//!
//! Owns the server's part as far as an agent sees it, with the same [`RoomEvent`]s: participants, tracks of sound, data,
//! procedures. Refuses what only a network does: packets, codecs, losses, reconnects, encryption, permissions. Sound is
//! handed over as samples, at once and unchanged. Streams of text and bytes are sent to nobody, and
//! none come; there is no video.

mod cast;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_channel::{mpsc, oneshot};
use livekit_protocol as proto;
use tokio::sync::Notify;

use self::cast::Cast;
use crate::audio::{AudioFrame, AudioSource};
use crate::driver;
use crate::engine::Command;
use crate::error::ConnectError;
use crate::event::{DisconnectReason, ParticipantKind, Publication, RoomEvent};
use crate::room::Room;
use crate::rpc::{Invocation, RpcError};
use crate::shared::Shared;

/// Who comes into a [`Stage`]'s room.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    /// Who it is.
    pub identity: String,
    /// The name for people. Default: empty.
    pub name: String,
    /// What its app says of it. Default: empty.
    pub metadata: String,
    /// What its app says of it, by key. Default: none.
    pub attributes: HashMap<String, String>,
    /// What it is. [`Guest::new`]: a person.
    pub kind: ParticipantKind,
}

impl Guest {
    /// A person.
    pub fn new(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), kind: ParticipantKind::Standard, ..Self::default() }
    }
}

/// What the agent has done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Deed {
    /// It publishes sound.
    Published(Voice),
    /// It took a track back: its sid.
    Unpublished(String),
    /// It muted or unmuted a track.
    Muted {
        /// The track's sid.
        track: String,
        /// Muted, or not any more.
        muted: bool,
    },
    /// It sent data.
    Sent {
        /// What it holds.
        payload: Vec<u8>,
        /// What it is about; empty for nothing.
        topic: String,
        /// Who gets it; nobody is everybody.
        destinations: Vec<String>,
        /// As it was sent.
        reliable: bool,
    },
    /// It calls a method of a guest's.
    Called(Called),
    /// It is shown differently now: [`Room::local`] says how.
    Shown,
    /// It left, or dropped its room: the last deed.
    Left,
}

/// Sound that the agent publishes.
#[derive(Debug)]
pub struct Voice {
    source: AudioSource,
    publication: Publication,
}

impl Voice {
    /// The track, as the others see it.
    #[must_use]
    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    /// What was spoken since the last call, once there is something. To the agent it has been played then. Cancel safe.
    pub async fn hear(&self) -> AudioFrame {
        let (sample_rate, channels) = (self.source.sample_rate(), self.source.channels());
        AudioFrame { samples: self.source.spoken().await, sample_rate, channels }
    }
}

/// A call of the agent's. Dropped without an answer, it fails.
#[derive(Debug)]
pub struct Called {
    /// Whom it calls.
    pub to: String,
    /// What.
    pub method: String,
    /// What it says.
    pub payload: String,
    reply: oneshot::Sender<Result<String, RpcError>>,
}

impl Called {
    /// Answers.
    pub fn answer(self, result: Result<String, RpcError>) {
        // Who called may wait no longer.
        let _ = self.reply.send(result);
    }
}

/// The test's side of a room. Dropped, nothing comes into the room any more.
#[derive(Debug)]
pub struct Stage {
    inner: Arc<Inner>,
    deeds: mpsc::UnboundedReceiver<Deed>,
}

struct Inner {
    shared: Arc<Shared>,
    cast: Mutex<Cast>,
    /// Something is different.
    news: Notify,
    deeds: mpsc::UnboundedSender<Deed>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Stage {
    /// An empty room called `room`, and the agent `agent` in it.
    ///
    /// # Errors
    /// [`ConnectError::Local`]: no thread can be had.
    pub fn open(room: &str, agent: &str) -> Result<(Room, Self), ConnectError> {
        let (commands, to_do) = mpsc::unbounded();
        let (did, deeds) = mpsc::unbounded();
        let shared = Arc::new(Shared::default());
        let inner = Arc::new(Inner {
            cast: Mutex::new(Cast::new(room, agent)),
            shared: Arc::clone(&shared),
            news: Notify::new(),
            deeds: did,
        });
        inner.change(|_| ());
        let engine = Arc::clone(&inner);
        driver::spawn(async move { engine.run(to_do).await })
            .map_err(|error| ConnectError::Local(error.to_string()))?;
        Ok((Room::staged(shared, commands), Self { inner, deeds }))
    }

    /// Somebody comes, with its media connected. Who is there already under this identity is gone before.
    pub fn enter(&self, guest: Guest) {
        self.inner.change(|cast| cast.enter(guest));
    }

    /// Somebody leaves; nobody, if it is not there.
    pub fn leave(&self, identity: &str) {
        self.inner.change(|cast| cast.leave(identity));
    }

    /// A guest publishes sound, which the agent is subscribed to; the track's sid. `None` if it is not there.
    #[must_use]
    pub fn publish(&self, identity: &str) -> Option<String> {
        self.inner.change(|cast| cast.publish(identity))
    }

    /// A guest's track says `samples`, to each of the agent's streams of it: in the streams' own rate and count of
    /// channels. Waits until the agent listens. Cancel safe.
    pub async fn speak(&self, track: &str, samples: &[i16]) {
        self.inner.until(|cast| cast.speak(track, samples)).await;
    }

    /// A guest sends data to the agent, reliably.
    pub fn send(&self, identity: &str, topic: &str, payload: impl Into<Vec<u8>>) {
        let participant = self.inner.change(|cast| cast.participant(identity));
        let topic = (!topic.is_empty()).then(|| topic.to_owned());
        let payload = payload.into();
        self.inner.shared.tell(&RoomEvent::DataReceived { payload, topic, participant, reliable: true });
    }

    /// A guest calls a method of the agent's, and waits for its answer. Waits until the agent offers it.
    ///
    /// # Errors
    /// What the method answers; [`RpcError::RECIPIENT_DISCONNECTED`] when the room ends before.
    pub async fn call(
        &self,
        identity: &str,
        method: &str,
        payload: impl Into<String>,
    ) -> Result<String, RpcError> {
        let (payload, caller) = (payload.into(), identity.to_owned());
        let call = |cast: &mut Cast| {
            let (id, within) = (cast.number().to_string(), Duration::from_secs(15));
            let (caller, method, payload) = (caller.clone(), method.to_owned(), payload.clone());
            cast.call(Invocation { id, caller, method, payload, within })
        };
        let gone = || RpcError::standard(RpcError::RECIPIENT_DISCONNECTED);
        let answer = self.inner.until(call).await.ok_or_else(gone)?;
        answer.await.unwrap_or_else(|oneshot::Canceled| Err(gone()))
    }

    /// The room is over for the agent.
    pub fn end(&self, reason: DisconnectReason) {
        self.inner.end(reason);
    }

    /// What the agent does next; `None` behind [`Deed::Left`], and once the room has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Deed> {
        use futures_core::Stream;
        std::future::poll_fn(|context| std::pin::Pin::new(&mut self.deeds).poll_next(context)).await
    }
}

impl Inner {
    /// Plays the server to the agent's commands.
    async fn run(&self, mut commands: mpsc::UnboundedReceiver<Command>) {
        use futures_core::Stream;
        loop {
            let ended = self.until(|cast| cast.ended.then_some(()));
            let next = std::future::poll_fn(|context| std::pin::Pin::new(&mut commands).poll_next(context));
            tokio::select! {
                // First: what is asked of a room that is over gets no answer.
                biased;
                _ = ended => return,
                command = next => match command {
                    Some(command) => self.obey(command),
                    None => return self.leave(),
                },
            }
        }
    }

    fn obey(&self, command: Command) {
        match command {
            Command::PublishAudio { source, options, reply } => {
                let publication = self.change(|cast| cast.published(&options));
                self.shared.tell(&RoomEvent::LocalTrackPublished(publication.clone()));
                self.did(Deed::Published(Voice { source, publication: publication.clone() }));
                let _ = reply.send(Ok(publication));
            }
            Command::Unpublish { track, reply } => {
                let taken = self.change(|cast| cast.unpublished(&track));
                if let Ok(publication) = &taken {
                    self.shared.tell(&RoomEvent::LocalTrackUnpublished(publication.clone()));
                    self.did(Deed::Unpublished(track));
                }
                let _ = reply.send(taken.map(drop));
            }
            Command::SetMuted { track, muted } => self.did(Deed::Muted { track, muted }),
            Command::Listen { track, stream } => self.change(|cast| cast.listen(track, stream)),
            Command::SetSubscribed { track, subscribed } => {
                self.change(|cast| cast.subscribe(&track, subscribed));
            }
            Command::Send { packet, reliable, reply } => {
                let destinations = packet.destination_identities;
                if let Some(proto::data_packet::Value::User(user)) = packet.value {
                    let (payload, topic) = (user.payload, user.topic.unwrap_or_default());
                    self.did(Deed::Sent { payload, topic, destinations, reliable });
                }
                let _ = reply.send(Ok(()));
            }
            Command::Update { wanted, reply } => {
                self.change(|cast| cast.show(wanted));
                self.did(Deed::Shown);
                let _ = reply.send(Ok(()));
            }
            Command::Call { to, method, payload, reply, .. } => {
                if self.change(|cast| cast.participant(&to)).is_some() {
                    self.did(Deed::Called(Called { to, method, payload, reply }));
                } else {
                    let _ = reply.send(Err(RpcError::standard(RpcError::RECIPIENT_NOT_FOUND)));
                }
            }
            Command::Offer { method, invocations } => self.change(|cast| cast.offer(method, invocations)),
            Command::Answer { id, result, .. } => self.change(|cast| cast.answered(&id, result)),
            Command::Leave { reply } => {
                self.leave();
                let _ = reply.send(());
            }
            Command::PublishVideo { reply, .. } => {
                let _ = reply.send(Err(crate::RoomError::Video("a stage shows no video".to_owned())));
            }
            Command::Watch { .. } | Command::Stream(_) | Command::NetworkChanged | Command::Simulate(_) => {}
        }
    }

    fn leave(&self) {
        self.did(Deed::Left);
        self.end(DisconnectReason::ClientInitiated);
    }

    fn end(&self, reason: DisconnectReason) {
        if !self.change(Cast::end) {
            self.shared.tell(&RoomEvent::Disconnected { reason });
            self.deeds.close_channel();
        }
    }

    /// Changes who is there, and tells.
    fn change<T>(&self, change: impl FnOnce(&mut Cast) -> T) -> T {
        let mut cast = self.lock();
        let changed = change(&mut cast);
        self.shared.keep(&cast.people);
        while let Some(event) = cast.people.next_event() {
            self.shared.tell(&event);
        }
        drop(cast);
        self.news.notify_waiters();
        changed
    }

    /// Waits until `look` finds something; `None` once the room has ended.
    async fn until<T>(&self, mut look: impl FnMut(&mut Cast) -> Option<T>) -> Option<T> {
        loop {
            let news = self.news.notified();
            {
                let mut cast = self.lock();
                let found = look(&mut cast);
                if found.is_some() || cast.ended {
                    return found;
                }
            }
            news.await;
        }
    }

    fn did(&self, deed: Deed) {
        // The test may be done.
        let _ = self.deeds.unbounded_send(deed);
    }

    fn lock(&self) -> MutexGuard<'_, Cast> {
        // A test whose thread panicked has failed.
        self.cast.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
