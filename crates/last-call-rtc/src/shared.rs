//! Owns what a room's engine tells its handles: the room as it is, and every event to everyone who listens. Refuses to
//! change the room: that is the engine's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_channel::{mpsc, oneshot};

use crate::error::ConnectError;
use crate::event::{DisconnectReason, Participant, RoomEvent, RoomInfo};
use crate::people::People;

/// What a handle sees.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) room: RoomInfo,
    pub(crate) local: Option<Participant>,
    pub(crate) participants: Vec<Participant>,
    pub(crate) ended: Option<DisconnectReason>,
}

#[derive(Default)]
struct State {
    view: View,
    listeners: Vec<mpsc::UnboundedSender<RoomEvent>>,
    joined: Option<oneshot::Sender<Result<(), ConnectError>>>,
}

#[derive(Default)]
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    /// A room whose join is awaited.
    pub(crate) fn new(joined: oneshot::Sender<Result<(), ConnectError>>) -> Self {
        Self(Mutex::new(State { joined: Some(joined), ..State::default() }))
    }

    /// Everything from now on, to the new listener too.
    pub(crate) fn listen(&self) -> mpsc::UnboundedReceiver<RoomEvent> {
        let (listener, events) = mpsc::unbounded();
        let mut state = self.lock();
        if state.view.ended.is_none() {
            state.listeners.push(listener);
        }
        events
    }

    pub(crate) fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.lock().view)
    }

    /// The room as it is now.
    pub(crate) fn keep(&self, people: &People) {
        let mut state = self.lock();
        state.view.room = people.room();
        state.view.local = people.local();
        state.view.participants = people.participants();
    }

    pub(crate) fn tell(&self, event: &RoomEvent) {
        let mut state = self.lock();
        if let RoomEvent::Disconnected { reason } = event {
            state.view.ended = Some(*reason);
        }
        state.listeners.retain(|listener| listener.unbounded_send(event.clone()).is_ok());
        if state.view.ended.is_some() {
            state.listeners.clear();
        }
    }

    /// The join is over, one way or the other; only the first time counts.
    pub(crate) fn joined(&self, outcome: Result<(), ConnectError>) {
        if let Some(joined) = self.lock().joined.take() {
            // Who asked may have given up.
            let _ = joined.send(outcome);
        }
    }

    pub(crate) fn is_joining(&self) -> bool {
        self.lock().joined.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every section is a few assignments: what a panicking holder leaves behind is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
