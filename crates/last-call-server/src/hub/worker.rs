//! Workers' connections: what came with each registration, and their frames on the way to the dispatchers.
//!
//! Owns [`Connection`]. Refuses to judge a worker: whether it is asked is its dispatcher's decision.

use std::sync::Arc;

use last_call_proto::{Answer, ConnId, DispatcherInput, Load, Status, ToServer};
use livekit::server_message::Message as Down;
use livekit::worker_message::Message as Up;
use livekit_protocol as livekit;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::{Hub, Key, Place};
use crate::event::{Reply, What, brief, since_1970};
use crate::id;
use crate::wire::{self, Encoding};

/// Workers connected at once.
const WORKERS: usize = 1_000;
/// The release whose rules are kept.
const VERSION: &str = "1.13.5";
/// livekit-server 1.13.5's `types.CurrentProtocol`.
const PROTOCOL: i32 = 17;
/// livekit-server 1.13.5's `agent.CurrentProtocol`.
const AGENT_PROTOCOL: i32 = 1;

/// There are too many connections already.
#[derive(Debug)]
pub(crate) struct Refused;

/// One worker's socket.
#[derive(Debug)]
pub(super) struct Connection {
    /// Dropped to close the socket.
    outgoing: mpsc::Sender<Message>,
    id: String,
    encoding: Encoding,
    place: Place,
    permission: livekit::ParticipantPermission,
    /// What it said last: an update without a status keeps it.
    available: bool,
    /// Its clock at its latest ping.
    pinged: i64,
}

impl Connection {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    pub(super) fn permission(&self) -> &livekit::ParticipantPermission {
        &self.permission
    }

    /// Queues a message; false where the queue is full or the socket gone.
    pub(super) fn write(&mut self, message: Down) -> bool {
        self.outgoing.try_send(wire::encode(message, self.encoding)).is_ok()
    }
}

impl Hub {
    /// Takes a connection, whose frames are written from `outgoing`'s other end until that closes.
    ///
    /// # Errors
    /// When there are a thousand already.
    pub(crate) fn connected(&mut self, outgoing: mpsc::Sender<Message>) -> Result<ConnId, Refused> {
        let number = self.latest_connection.checked_add(1).filter(|_| self.connections.len() < WORKERS);
        self.latest_connection = number.ok_or(Refused)?;
        let conn = ConnId(self.latest_connection);
        let connection = Connection {
            outgoing,
            id: id::new("AW_"),
            encoding: Encoding::default(),
            place: Place::Lobby,
            permission: livekit::ParticipantPermission::default(),
            available: true,
            pinged: 0,
        };
        self.connections.insert(conn, connection);
        self.feed(Place::Lobby, DispatcherInput::Connected(conn));
        self.settle();
        Ok(conn)
    }

    /// A socket is gone, by whichever side.
    pub(crate) fn closed(&mut self, conn: ConnId) {
        if let Some(place) = self.connections.get(&conn).map(Connection::place) {
            self.forget(conn);
            self.feed(place, DispatcherInput::Closed(conn));
            self.settle();
        }
    }

    /// A message arrived.
    pub(crate) fn received(&mut self, conn: ConnId, message: Up, encoding: Encoding) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.encoding = encoding;
        let place = connection.place();
        let frame = match message {
            Up::Register(request) => {
                self.register(conn, place, request);
                return self.settle();
            }
            Up::Ping(ping) => {
                connection.pinged = ping.timestamp;
                ToServer::Ping
            }
            Up::UpdateWorker(update) => ToServer::Status(self.status(conn, &update)),
            Up::Availability(response) => self.answered(conn, response),
            Up::UpdateJob(update) => {
                let (job, report) = wire::report(&update);
                ToServer::Report(job, report)
            }
            Up::MigrateJob(request) => {
                ToServer::Migrate(request.job_ids.iter().map(|job| job.as_str().into()).collect())
            }
            Up::SimulateJob(_) => {
                return tracing::warn!(worker = connection.id, "SimulateJob is not supported: ignored");
            }
        };
        self.feed(place, DispatcherInput::Received(conn, frame));
        self.settle();
        self.answer = None;
    }

    /// Moves a connection from the lobby to its group. One that is in a group already is refused there.
    fn register(&mut self, conn: ConnId, place: Place, request: livekit::RegisterWorkerRequest) {
        let refusal = wire::check_deployment(&request.deployment).err();
        let unknown =
            livekit::JobType::try_from(request.r#type).is_err().then(|| "unknown job type".to_owned());
        if let Some(reason) = refusal.or(unknown) {
            tracing::warn!(agent = request.agent_name, reason, "a registration is refused");
            self.forget(conn);
            return self.feed(place, DispatcherInput::Closed(conn));
        }
        if place != Place::Lobby {
            return self.feed(place, DispatcherInput::Received(conn, ToServer::Register));
        }
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let key =
            Key { agent_name: request.agent_name, deployment: request.deployment, job_type: request.r#type };
        self.outlets.tell(|| What::WorkerRegistered {
            worker: connection.id.clone(),
            agent_name: brief(&key.agent_name),
            version: brief(&request.version),
        });
        let group = Place::Group(Arc::new(key));
        connection.place = group.clone();
        connection.permission = request.allowed_permissions.unwrap_or_else(default_permission);
        self.feed(Place::Lobby, DispatcherInput::Closed(conn));
        self.feed(group.clone(), DispatcherInput::Connected(conn));
        self.feed(group, DispatcherInput::Received(conn, ToServer::Register));
    }

    /// Reads a status: one that is absent keeps the last, a load that is absent is none.
    fn status(&mut self, conn: ConnId, update: &livekit::UpdateWorkerStatus) -> Status {
        let mut available = true;
        if let Some(connection) = self.connections.get_mut(&conn) {
            if let Some(status) = update.status {
                connection.available = status == i32::from(livekit::WorkerStatus::WsAvailable);
            }
            available = connection.available;
            self.outlets.tell(|| What::WorkerStatus {
                worker: connection.id.clone(),
                available,
                draining: update.draining,
                load: update.load,
                jobs: update.job_count,
            });
        }
        let load = Load::from_fraction(f64::from(update.load));
        Status { available, draining: update.draining, load, jobs: update.job_count }
    }

    fn answered(&mut self, conn: ConnId, response: livekit::AvailabilityResponse) -> ToServer {
        let answer = wire::answer(&response);
        self.outlets.tell(|| What::Answered {
            job: brief(&response.job_id),
            worker: self.connections.get(&conn).map(|worker| worker.id.clone()).unwrap_or_default(),
            reply: match answer {
                Answer::Accept => Reply::Accepted,
                Answer::Decline => Reply::Declined,
                Answer::Terminate => Reply::Terminated,
            },
        });
        let job = response.job_id.as_str().into();
        self.answer = Some(response);
        ToServer::Answer(job, answer)
    }

    pub(super) fn registered(&self, conn: ConnId) -> Option<Down> {
        let server = livekit::ServerInfo {
            edition: livekit::server_info::Edition::Standard.into(),
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            agent_protocol: AGENT_PROTOCOL,
            node_id: self.node.clone(),
            debug_info: concat!("last-call-server ", env!("CARGO_PKG_VERSION")).to_owned(),
            ..Default::default()
        };
        Some(Down::Register(livekit::RegisterWorkerResponse {
            worker_id: self.connections.get(&conn)?.id.clone(),
            server_info: Some(server),
            ..Default::default()
        }))
    }

    pub(super) fn pong(&self, conn: ConnId) -> Option<Down> {
        Some(Down::Pong(livekit::WorkerPong {
            last_timestamp: self.connections.get(&conn)?.pinged,
            timestamp: i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX),
        }))
    }
}

/// What an agent may do whose worker did not say.
fn default_permission() -> livekit::ParticipantPermission {
    livekit::ParticipantPermission {
        can_subscribe: true,
        can_publish: true,
        can_publish_data: true,
        can_update_metadata: true,
        ..Default::default()
    }
}
