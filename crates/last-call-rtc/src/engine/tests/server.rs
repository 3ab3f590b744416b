//! A server for one engine: a peer connection, the few messages that a room lives by, and a clock that is only ever told.
//!
//! Owns the way of every packet between the two. Refuses to be a server for more than one participant.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_channel::{mpsc, oneshot};
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{JoinResponse, ParticipantInfo, Room, SessionDescription};
use str0m::Candidate;
use str0m::net::Protocol;

use super::super::{Command, Dial, Engine, EngineInput, EngineOutput, Failure, Heard};
use crate::error::ConnectError;
use crate::event::RoomEvent;
use crate::ladder::Generation;
use crate::peer::{Label, Peer, PeerOutput};
use crate::room::RoomOptions;
use crate::session::Which;
use crate::shared::Shared;

/// What an engine has to say to one input, at most.
const MOST: usize = 100_000;

/// An engine and its server, at one moment.
pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    /// What the engine asked of the server and the server did not answer by itself.
    pub(super) asked: Vec<Request>,
    /// Every token that was joined with.
    pub(super) tokens: Vec<String>,
    /// How often the session was to be resumed.
    pub(super) resumes: usize,
    /// Offers wait for [`Rig::answer`].
    pub(super) slow: bool,
    pub(super) offers: Vec<SessionDescription>,
    /// What came through the channels.
    pub(super) data: Vec<(Label, Vec<u8>)>,
    pub(super) outcome: oneshot::Receiver<Result<(), ConnectError>>,
    pub(super) events: mpsc::UnboundedReceiver<RoomEvent>,
    pub(super) finished: bool,
    generation: Generation,
    server: Peer,
    server_due: Instant,
}

impl Rig {
    /// An engine that is about to join.
    pub(super) fn new(options: RoomOptions) -> Self {
        let now = Instant::now();
        let (joined, outcome) = oneshot::channel();
        let shared = Arc::new(Shared::new(joined));
        let events = shared.listen();
        let dial = Dial {
            url: "ws://server".to_owned(),
            token: "first".to_owned(),
            auto_subscribe: true,
            single: true,
        };
        Self {
            engine: Engine::new(now, dial, options, shared),
            now,
            asked: Vec::new(),
            tokens: Vec::new(),
            resumes: 0,
            slow: false,
            offers: Vec::new(),
            data: Vec::new(),
            outcome,
            events,
            finished: false,
            generation: 0,
            server: Peer::new(now, false),
            server_due: now,
        }
    }

    /// One that has joined: media and data flow.
    pub(super) fn joined(options: RoomOptions) -> Self {
        let mut rig = Self::new(options);
        rig.run(Duration::from_secs(2));
        assert!(matches!(rig.outcome.try_recv(), Ok(Some(Ok(())))), "no connection");
        rig
    }

    /// Lets so much time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.settle().min(self.server_due);
            if due > end || self.finished {
                self.now = end;
                return;
            }
            self.now = due.max(self.now);
            self.engine.input(self.now, EngineInput::Timeout);
            if self.server_due <= self.now {
                self.server.timeout(self.now).expect("a server that works");
            }
        }
    }

    pub(super) fn input(&mut self, input: EngineInput) {
        self.engine.input(self.now, input);
        self.settle();
    }

    pub(super) fn command(&mut self, command: Command) {
        self.input(EngineInput::Command(command));
    }

    /// The server says this.
    pub(super) fn say(&mut self, message: Response) {
        self.hear(Heard::Message(Box::new(message)));
    }

    pub(super) fn hear(&mut self, heard: Heard) {
        self.input(EngineInput::Heard(self.generation, heard));
    }

    /// The server answers the oldest offer that waits.
    pub(super) fn answer(&mut self) {
        let offer = self.offers.remove(0);
        let answer = self.server.accept(&offer).expect("an offer that can be answered");
        self.say(Response::Answer(answer));
    }

    /// This comes from where the server is.
    pub(super) fn datagram(&mut self, datagram: &[u8]) {
        self.engine.datagram(self.now, Which::Publisher, Protocol::Udp, theirs(), ours(), datagram);
        self.settle();
    }

    /// Everything that is to be done now is done; the engine's next deadline.
    fn settle(&mut self) -> Instant {
        for _ in 0..MOST {
            let due = match self.engine.poll() {
                Some(EngineOutput::Timeout(due)) => due,
                Some(output) => {
                    self.perform(output);
                    continue;
                }
                None => self.now,
            };
            if self.finished || !self.serve() {
                return due;
            }
        }
        panic!("it never has enough");
    }

    /// What the server has to say, as far as the engine must hear of it; false where there is nothing more.
    fn serve(&mut self) -> bool {
        match self.server.poll().expect("a server that works") {
            PeerOutput::Transmit(transmit) => {
                let sent = transmit.contents;
                self.engine.datagram(self.now, Which::Publisher, Protocol::Udp, theirs(), ours(), &sent);
            }
            PeerOutput::Data(label, data) => self.data.push((label, data)),
            PeerOutput::Timeout(due) => {
                self.server_due = due;
                return false;
            }
            PeerOutput::Connected
            | PeerOutput::Lost
            | PeerOutput::Restored
            | PeerOutput::Media(_)
            | PeerOutput::KeyframeWanted(_)
            | PeerOutput::Open
            | PeerOutput::Writable
            | PeerOutput::Closed => {}
        }
        true
    }

    fn perform(&mut self, output: EngineOutput) {
        match output {
            EngineOutput::Bind { .. } => {
                let own = Candidate::host(ours(), Protocol::Udp).expect("a candidate");
                self.engine.add_local_candidate(Which::Publisher, own);
                self.engine.input(self.now, EngineInput::Bound);
            }
            EngineOutput::Join { generation, dial, offer } => {
                self.tokens.push(dial.token);
                self.generation = generation;
                self.welcome(&offer.expect("the offer goes with the join"));
            }
            EngineOutput::Signal(Request::Offer(offer)) => {
                self.offers.push(offer);
                if !self.slow {
                    self.answer();
                }
            }
            EngineOutput::Signal(request) => self.asked.push(request),
            EngineOutput::Resume(generation, _) => {
                self.generation = generation;
                self.resumes += 1;
            }
            EngineOutput::Transmit(_, transmit) => {
                let sent = transmit.contents;
                let taken = self.server.receive(self.now, Protocol::Udp, ours(), theirs(), &sent);
                taken.expect("what a server understands");
                while self.serve() {}
            }
            EngineOutput::Finished(_) => self.finished = true,
            EngineOutput::Abandon
            | EngineOutput::Resumed
            | EngineOutput::Socket(..)
            | EngineOutput::Timeout(_) => {}
        }
    }

    /// A new session.
    fn welcome(&mut self, offer: &SessionDescription) {
        self.server = Peer::new(self.now, false);
        self.server.add_local_candidate(Candidate::host(theirs(), Protocol::Udp).expect("a candidate"));
        let answer = self.server.accept(offer).expect("an offer that can be answered");
        let join = JoinResponse {
            room: Some(Room { sid: "RM_1".to_owned(), name: "room".to_owned(), ..Room::default() }),
            participant: Some(ParticipantInfo {
                sid: format!("PA_{}", self.tokens.len()),
                identity: "agent".to_owned(),
                ..ParticipantInfo::default()
            }),
            ..JoinResponse::default()
        };
        self.hear(Heard::Joined { join: Box::new(join), single: true });
        self.say(Response::Answer(answer));
    }

    /// The session is gone, and the server says so to whoever resumes it.
    pub(super) fn forget_session(&mut self) {
        self.hear(Heard::Closed("the node is gone".to_owned()));
        for _ in 0..100 {
            if self.resumes > 0 {
                break;
            }
            self.run(Duration::from_millis(100));
        }
        self.hear(Heard::Failed { failure: Failure::Gone, error: "no such participant".to_owned() });
    }
}

fn ours() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000))
}

fn theirs() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 7882))
}
