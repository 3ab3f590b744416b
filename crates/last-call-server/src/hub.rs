//! Everything the server knows, and the dispatchers that decide.
//!
//! Owns connections, dispatchers and timers, and does what the dispatchers say. Refuses to wait: every method
//! returns at once, and what leaves for a socket goes into a bounded queue.

mod call;
mod dispatch;
mod outlets;
mod room;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use last_call_proto::{ConnId, Dispatcher, DispatcherInput, DispatcherOutput, FromServer, JobId, Load};
use livekit_protocol as livekit;
use tokio::time::Instant;

use crate::alarms::{Alarm, Alarms};
use crate::config::{Config, Keys, Rooms};
use crate::event::What;
use crate::id;

use call::Call;
use dispatch::Dispatch;
use room::Room;
use worker::Connection;

pub(crate) use outlets::Outlets;

/// What workers have in common that are asked for the same jobs.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    agent_name: String,
    deployment: String,
    job_type: i32,
}

/// Which dispatcher: the one of those that have not registered yet, or a group's.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Lobby,
    Group(Arc<Key>),
}

/// The server's state.
#[derive(Debug)]
pub(crate) struct Hub {
    keys: Keys,
    /// Whose rooms the assignments lead to.
    elsewhere: Option<Rooms>,
    target: Load,
    node: String,
    lobby: Dispatcher,
    groups: BTreeMap<Arc<Key>, Dispatcher>,
    inputs: VecDeque<(Place, DispatcherInput)>,
    connections: BTreeMap<ConnId, Connection>,
    latest_connection: u32,
    /// What the answer under way says of the participant.
    answer: Option<livekit::AvailabilityResponse>,
    rooms: BTreeMap<String, Room>,
    dispatches: BTreeMap<String, Dispatch>,
    calls: BTreeMap<JobId, Call>,
    alarms: Alarms,
    outlets: Outlets,
}

impl Hub {
    pub(crate) fn new(config: &Config, outlets: Outlets) -> Self {
        Self {
            keys: config.keys.clone(),
            elsewhere: config.rooms.clone(),
            target: config.target(),
            node: id::new("ND_"),
            lobby: Dispatcher::new(config.target()),
            groups: BTreeMap::new(),
            inputs: VecDeque::new(),
            connections: BTreeMap::new(),
            latest_connection: 0,
            answer: None,
            rooms: BTreeMap::new(),
            dispatches: BTreeMap::new(),
            calls: BTreeMap::new(),
            alarms: Alarms::default(),
            outlets,
        }
    }

    /// When [`Hub::wake`] is needed next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.alarms.first()
    }

    /// Does what is due by `now`.
    pub(crate) fn wake(&mut self, now: Instant) {
        while let Some(alarm) = self.alarms.pop_due(now) {
            match alarm {
                Alarm::Room(name) => self.finish_room(&name),
                Alarm::Core(timer) => {
                    use last_call_proto::DispatcherTimer::{Budget, Register};
                    let place = match &timer {
                        Register(_) => Some(Place::Lobby),
                        Budget(job) => self.calls.get(job).map(Call::place),
                    };
                    if let Some(place) = place {
                        self.feed(place, DispatcherInput::Fired(timer));
                    }
                }
            }
            self.settle();
        }
    }

    /// Closes every connection.
    pub(crate) fn hang_up(&mut self) {
        self.connections.clear();
    }

    fn feed(&mut self, place: Place, input: DispatcherInput) {
        self.inputs.push_back((place, input));
    }

    /// Gives the dispatchers their inputs, one at a time, and does all that they say.
    fn settle(&mut self) {
        while let Some((place, input)) = self.inputs.pop_front() {
            self.dispatcher(&place).handle(input);
            while let Some(output) = self.dispatcher(&place).poll_output() {
                self.perform(&place, output);
            }
            if let Place::Group(key) = &place
                && self.groups.get(key).is_some_and(Dispatcher::is_empty)
            {
                self.groups.remove(key);
            }
        }
    }

    fn dispatcher(&mut self, place: &Place) -> &mut Dispatcher {
        match place {
            Place::Lobby => &mut self.lobby,
            Place::Group(key) => {
                self.groups.entry(Arc::clone(key)).or_insert_with(|| Dispatcher::new(self.target))
            }
        }
    }

    fn perform(&mut self, place: &Place, output: DispatcherOutput) {
        match output {
            DispatcherOutput::Send(conn, frame) => self.send(place, conn, frame),
            DispatcherOutput::Close(conn) => self.forget(conn),
            DispatcherOutput::Choose(job, candidates) => {
                if let Some(conn) = draw(&candidates) {
                    self.feed(place.clone(), DispatcherInput::Chosen(job, conn));
                }
            }
            DispatcherOutput::Arm(timer) => {
                let at = Instant::now() + timer.wait();
                self.alarms.arm(Alarm::Core(timer), at);
            }
            DispatcherOutput::Disarm(timer) => self.alarms.disarm(&Alarm::Core(timer)),
            DispatcherOutput::Event(event) => self.happened(event),
        }
    }

    /// Writes a frame of the dispatcher's, completed with what only the driver knows.
    fn send(&mut self, place: &Place, conn: ConnId, frame: FromServer) {
        use livekit::server_message::Message as Down;
        let message = match frame {
            FromServer::Registered => self.registered(conn),
            FromServer::Offer(job) => self.offer(&job, conn),
            FromServer::Assignment(job) => self.assignment(&job, conn),
            FromServer::Termination(job) => {
                Some(Down::Termination(livekit::JobTermination { job_id: job.as_str().to_owned() }))
            }
            FromServer::Other => self.pong(conn),
            // A dispatcher never says it: this server does not send workers elsewhere.
            FromServer::GoAway => None,
        };
        let Some((connection, message)) = self.connections.get_mut(&conn).zip(message) else { return };
        if !connection.write(message) {
            tracing::warn!(worker = connection.id(), "a worker does not read what it is sent: closed");
            self.forget(conn);
            self.feed(place.clone(), DispatcherInput::Closed(conn));
        }
    }

    /// Drops a connection, which closes its socket.
    fn forget(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.remove(&conn)
            && connection.place() != Place::Lobby
        {
            self.outlets.tell(|| What::WorkerGone { worker: connection.id().to_owned() });
        }
    }
}

/// Draws one, each with its weight.
fn draw(candidates: &[(ConnId, u16)]) -> Option<ConnId> {
    let whole = candidates.iter().map(|(_, weight)| u32::from(*weight)).sum::<u32>();
    let mut left = fastrand::u32(0..whole.max(1));
    for (conn, weight) in candidates {
        match left.checked_sub(u32::from(*weight)) {
            Some(rest) => left = rest,
            None => return Some(*conn),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draw_follows_the_weights() {
        let candidates = [(ConnId(1), 900), (ConnId(2), 0), (ConnId(3), 100)];
        let mut drawn = BTreeMap::new();
        for _ in 0..10_000 {
            *drawn.entry(draw(&candidates).expect("one is drawn")).or_insert(0) += 1;
        }
        assert!(!drawn.contains_key(&ConnId(2)), "{drawn:?}");
        // 1,000 are expected, with a deviation of 30.
        assert!((700..1300).contains(&drawn[&ConnId(3)]), "{drawn:?}");
        assert_eq!(draw(&[]), None);
    }
}
