//! Owns a room's course: what each input of the driver means for the session, the participants, the tracks and the data,
//! and what is to be done. Refuses IO and the clock: time comes with every input.

mod data;
mod media;
mod routes;
mod rpc;
mod signal;
mod steps;
mod streams;
#[cfg(test)]
mod tests;
mod video;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    DataPacket, JoinResponse, ReconnectReason, ReconnectResponse, SessionDescription,
    UpdateParticipantMetadata,
};
use str0m::Candidate;
use str0m::net::{Protocol, Transmit};

use self::data::Data;
use self::media::Media;
use self::rpc::{Remote, RpcReply};
use self::steps::Steps;
use self::streams::Flows;
pub(crate) use self::streams::StreamCommand;
use crate::audio::{Attached, AudioSource};
use crate::error::RoomError;
use crate::event::{Publication, RoomEvent};
use crate::ladder::{Generation, Input};
use crate::people::People;
use crate::room::{PublishOptions, RoomOptions, Simulation, VideoOptions};
use crate::routes::{RouteId, RouteNews, Routes, SocketAction};
use crate::rpc::{Invocation, RpcError};
use crate::session::{Session, SessionOutput, Which};
use crate::shared::Shared;
use crate::video::{AttachedVideo, VideoSource};

/// How long the server may take to answer a request of ours.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where the answer to a command goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, RoomError>>;

/// Says this to whoever waits for it; to nobody, where nobody does any more.
fn answer<T>(waiting: oneshot::Sender<T>, what: T) {
    let _ = waiting.send(what);
}

/// What is needed to join.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) url: String,
    /// The newest: the server renews it while the room lasts.
    pub(crate) token: String,
    pub(crate) auto_subscribe: bool,
    /// One peer connection for everything, where the server can.
    pub(crate) single: bool,
}

/// What the handles ask for.
pub(crate) enum Command {
    PublishAudio {
        source: AudioSource,
        options: PublishOptions,
        reply: Reply<Publication>,
    },
    PublishVideo {
        source: VideoSource,
        options: VideoOptions,
        reply: Reply<Publication>,
    },
    Unpublish {
        track: String,
        reply: Reply<()>,
    },
    SetMuted {
        track: String,
        muted: bool,
    },
    /// Somebody listens to a track.
    Listen {
        track: String,
        stream: Attached,
    },
    /// Somebody watches a track.
    Watch {
        track: String,
        stream: AttachedVideo,
    },
    SetSubscribed {
        track: String,
        subscribed: bool,
    },
    Send {
        packet: Box<DataPacket>,
        reliable: bool,
        reply: Reply<()>,
    },
    /// To be shown differently.
    Update {
        wanted: UpdateParticipantMetadata,
        reply: Reply<()>,
    },
    Call {
        to: String,
        method: String,
        payload: String,
        within: Duration,
        reply: RpcReply,
    },
    /// A method is there to be called.
    Offer {
        method: String,
        invocations: mpsc::UnboundedSender<Invocation>,
    },
    Answer {
        caller: String,
        id: String,
        result: Result<String, RpcError>,
    },
    Stream(StreamCommand),
    NetworkChanged,
    Simulate(Simulation),
    Leave {
        reply: oneshot::Sender<()>,
    },
}

pub(crate) enum EngineInput {
    /// What [`EngineOutput::Bind`] asked for is done.
    Bound,
    /// What one signalling socket says.
    Heard(Generation, Heard),
    Command(Command),
    /// Of a socket that [`EngineOutput::Socket`] asked for.
    Route(RouteId, RouteNews),
    /// Nobody holds the room any more.
    Abandoned,
    Timeout,
}

/// What a signalling socket says.
pub(crate) enum Heard {
    Joined {
        join: Box<JoinResponse>,
        single: bool,
    },
    Resumed(ReconnectResponse),
    /// Neither joined nor resumed.
    Failed {
        failure: Failure,
        error: String,
    },
    Message(Box<Response>),
    Closed(String),
}

/// How a join or a resume failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Another attempt may fare better.
    Passing,
    /// Another attempt fares no better.
    Permanent,
    /// There is no such session any more.
    Gone,
}

#[expect(clippy::large_enum_variant, reason = "moved once, and never kept")]
pub(crate) enum EngineOutput {
    /// New sockets, one a connection, for a server at `url`; [`Engine::add_local_candidate`] for each.
    Bind {
        url: String,
        peers: Vec<Which>,
    },
    Join {
        generation: Generation,
        dial: Dial,
        offer: Option<SessionDescription>,
    },
    Signal(Request),
    Resume(Generation, ReconnectReason),
    /// The join or the resume that is under way is not waited for any more.
    Abandon,
    /// The session is as it was: requests that waited may go.
    Resumed,
    Transmit(Which, Transmit),
    /// For a way beside UDP.
    Socket(RouteId, SocketAction),
    /// Nothing more until then.
    Timeout(Instant),
    /// The room is over. These wait until the server has been told.
    Finished(Vec<oneshot::Sender<()>>),
}

/// What waits to be done by the driver.
#[expect(clippy::large_enum_variant, reason = "a few at a time")]
enum Due {
    Bind,
    Join(Generation),
    Signal(Request),
    Resume(Generation, ReconnectReason),
    Abandon,
    Resumed,
    Socket(RouteId, SocketAction),
    Finished,
}

pub(crate) struct Engine {
    dial: Dial,
    options: RoomOptions,
    session: Session,
    routes: Routes,
    people: People,
    steps: Steps,
    media: Media,
    /// What the server puts behind frames of its own, which nobody encrypts.
    trailer: Bytes,
    data: Data,
    remote: Remote,
    flows: Flows,
    due: VecDeque<Due>,
    shared: Arc<Shared>,
    now: Instant,
    left: Vec<oneshot::Sender<()>>,
    /// A session whose first offer waits for its sockets.
    unoffered: bool,
}

impl Engine {
    pub(crate) fn new(now: Instant, dial: Dial, mut options: RoomOptions, shared: Arc<Shared>) -> Self {
        // Who decrypts a redundant packet finds no frames in it.
        options.red &= options.e2ee.is_none();
        let mut engine = Self {
            session: Session::new(now, options.red, dial.single),
            routes: Routes::new(options.relay_only),
            people: People::new(options.auto_subscribe),
            steps: Steps::new(now, options.connect_within),
            media: Media::new(now),
            trailer: Bytes::new(),
            data: Data::default(),
            remote: Remote::default(),
            flows: Flows::default(),
            due: VecDeque::new(),
            left: Vec::new(),
            unoffered: false,
            dial,
            options,
            shared,
            now,
        };
        engine.climb();
        engine
    }

    pub(crate) fn add_local_candidate(&mut self, which: Which, candidate: Candidate) {
        if !self.options.relay_only
            && let Some(peer) = self.session.peer(which)
        {
            peer.add_local_candidate(candidate);
        }
    }

    pub(crate) fn datagram(
        &mut self,
        now: Instant,
        which: Which,
        proto: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
        datagram: &[u8],
    ) {
        self.now = now;
        self.session.receive(now, which, proto, source, destination, datagram);
        self.drain_session();
    }

    pub(crate) fn input(&mut self, now: Instant, input: EngineInput) {
        self.now = now;
        // Who is in the room changes with what the server says, and with nothing else.
        let may_differ = matches!(input, EngineInput::Heard(..));
        match input {
            EngineInput::Bound => self.on_bound(),
            EngineInput::Heard(generation, heard) => self.on_heard(generation, heard),
            EngineInput::Command(command) => self.on_command(command),
            EngineInput::Route(id, news) => {
                self.routes.news(now, id, news);
                self.drain_routes();
            }
            EngineInput::Abandoned => self.leave(),
            EngineInput::Timeout => self.on_timeout(),
        }
        self.drain_session();
        if may_differ {
            self.shared.keep(&self.people);
        }
        self.publish();
    }
}

impl Engine {
    fn on_command(&mut self, command: Command) {
        match command {
            Command::PublishAudio { source, options, reply } => self.publish_audio(&source, options, reply),
            Command::PublishVideo { source, options, reply } => self.publish_video(&source, options, reply),
            Command::Unpublish { track, reply } => self.unpublish(&track, reply),
            Command::SetMuted { track, muted } => self.set_muted(&track, muted),
            Command::Listen { track, stream } => self.media.listen(&track, stream),
            Command::Watch { track, stream } => self.watch(&track, stream),
            Command::SetSubscribed { track, subscribed } => self.people.set_subscribed(&track, subscribed),
            Command::Send { packet, reliable, reply } => self.send_data(*packet, reliable, reply),
            Command::Update { wanted, reply } => self.ask(wanted, reply),
            Command::Call { to, method, payload, within, reply } => {
                self.call(&to, method, payload, within, reply)
            }
            Command::Offer { method, invocations } => self.offer_method(method, invocations),
            Command::Answer { caller, id, result } => self.respond(&caller, &id, result),
            Command::Stream(command) => self.on_stream_command(command),
            Command::NetworkChanged => self.step(Input::NetworkChanged),
            Command::Simulate(simulation) => self.signal(Request::Simulate(simulation.request())),
            Command::Leave { reply } => {
                self.left.push(reply);
                self.leave();
            }
        }
    }

    fn on_timeout(&mut self) {
        self.session.timeout(self.now);
        self.routes.timeout(self.now);
        self.drain_routes();
        self.drain_session();
        for input in self.steps.due(self.now) {
            self.step(input);
        }
        self.time_out_asked();
        self.rpc_due();
        self.tick();
    }

    /// Says goodbye, and ends.
    fn leave(&mut self) {
        self.step(Input::Close);
    }

    fn signal(&mut self, request: Request) {
        self.due.push_back(Due::Signal(request));
    }

    /// What the people module has to say goes to whoever listens; what it wants goes to the server.
    fn publish(&mut self) {
        for subscription in self.people.take_subscriptions() {
            self.signal(Request::Subscription(subscription));
        }
        while let Some(event) = self.people.next_event() {
            self.media.on_event(&event);
            self.see_video(&event);
            if let RoomEvent::ParticipantDisconnected(gone) = &event {
                self.rpc_left(gone.identity());
                self.streams_left(gone.sid(), gone.identity());
            }
            self.shared.tell(&event);
        }
    }

    /// Takes over what the session has to say, up to its next deadline.
    fn drain_session(&mut self) {
        // What is to be sent stays in the session: `poll` fetches it.
        while let Some(output) = self.session.poll_told() {
            match output {
                SessionOutput::Signal(request) => self.signal(request),
                SessionOutput::Connected => {
                    self.routes.connected(self.now);
                    self.step(Input::PeerConnected { generation: self.steps.generation() })
                }
                SessionOutput::Lost => {
                    self.routes.seek(self.now);
                    self.step(Input::PeerFailed { generation: self.steps.generation() });
                }
                SessionOutput::Passive(which, address) => self.routes.passive(which, address),
                SessionOutput::Bound(sid) => self.people.bound(&sid),
                SessionOutput::Unbound(sid) => self.people.unbound(&sid),
                SessionOutput::Media(sid, packet) => {
                    let keys = self.options.e2ee.as_ref().map(|keys| (keys, &self.people, &self.trailer));
                    self.media.receive(self.now, &sid, &packet, keys);
                }
                SessionOutput::KeyframeWanted(cid) => self.media.keyframe_wanted(&cid),
                SessionOutput::Open | SessionOutput::Writable => self.flush_data(),
                SessionOutput::Data(label, bytes) => self.on_data(label, &bytes),
            }
        }
    }

    /// Whether somebody spoke into a source of ours: a timeout is due. Wakes when they do.
    pub(crate) fn poll_captured(&mut self, context: &Context<'_>) -> Poll<()> {
        self.media.poll_captured(context)
    }

    /// What is to be done next; to be called until it is a timeout.
    pub(crate) fn poll(&mut self) -> Option<EngineOutput> {
        while let Some((which, transmit)) = self.session.poll_transmit() {
            if !self.routes.send(self.now, which, &transmit) {
                return Some(EngineOutput::Transmit(which, transmit));
            }
        }
        self.drain_routes();
        if let Some(due) = self.due.pop_front() {
            return Some(match due {
                Due::Bind => {
                    EngineOutput::Bind { url: self.dial.url.clone(), peers: self.session.peers().collect() }
                }
                Due::Join(generation) => EngineOutput::Join {
                    generation,
                    dial: self.dial.clone(),
                    offer: self.session.first_offer(),
                },
                Due::Signal(request) => EngineOutput::Signal(request),
                Due::Resume(generation, reason) => EngineOutput::Resume(generation, reason),
                Due::Abandon => EngineOutput::Abandon,
                Due::Resumed => EngineOutput::Resumed,
                Due::Socket(id, action) => EngineOutput::Socket(id, action),
                Due::Finished => EngineOutput::Finished(std::mem::take(&mut self.left)),
            });
        }
        let deadlines = [
            Some(self.session.deadline()),
            self.steps.deadline(),
            self.media.deadline(self.now, self.session.is_connected()),
            self.data.deadline(),
            self.remote.deadline(),
            self.routes.deadline(),
        ];
        deadlines.into_iter().flatten().min().map(EngineOutput::Timeout)
    }
}
