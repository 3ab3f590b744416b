//! Owns a server on a thread of its own, and a worker that registers and does what the test says. Refuses to know
//! what is right.

use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::Duration;

use last_call_server::{Config, Event, Keys, Notes, Server, What};
use last_call_testkit::{Api, proto};
use livekit_token::{AccessToken, VideoGrants};
use prost::Message as _;
use proto::server_message::Message as Down;
use proto::worker_message::Message as Up;
use tokio::sync::{broadcast, oneshot};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

/// More than anything here takes on the busiest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const KEY: &str = "devkey";
pub(crate) const SECRET: &str = "secret-of-a-server-that-only-tests-know";

pub(crate) fn keys() -> Keys {
    Keys { key: KEY.into(), secret: SECRET.into() }
}

/// A server. Dropped, it ends without a panic.
pub(crate) struct Running {
    pub(crate) authority: String,
    pub(crate) events: broadcast::Receiver<Event>,
    pub(crate) notes: Notes,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking(), "the server panicked");
    }
}

impl Running {
    pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(([127, 0, 0, 1], 0).into(), keys());
        change(&mut config);
        let server = Server::bind(config).expect("a free port");
        let (authority, events, notes) = (server.address().to_string(), server.events(), server.notes());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(server.run(async {
                let _ = stopped.await;
            }));
        });
        Self { authority, events, notes, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn env(&self) -> [(&'static str, String); 3] {
        let url = format!("ws://{}", self.authority);
        [("LIVEKIT_URL", url), ("LIVEKIT_API_KEY", KEY.into()), ("LIVEKIT_API_SECRET", SECRET.into())]
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(format!("http://{}", self.authority), KEY, SECRET)
    }

    /// The next event that `find` makes something of.
    pub(crate) fn event<R>(&mut self, mut find: impl FnMut(&What) -> Option<R>) -> R {
        loop {
            let event = self.events.blocking_recv().expect("the server runs, and we keep up");
            if let Some(found) = find(&event.what) {
                return found;
            }
        }
    }
}

/// A registered worker on a blocking socket.
pub(crate) struct Worker(pub(crate) WebSocket<TcpStream>);

impl Worker {
    pub(crate) fn start(server: &Running, agent_name: &str) -> Self {
        let grants = VideoGrants { agent: true, ..Default::default() };
        let token = AccessToken::with_api_key(KEY, SECRET).with_grants(grants).to_jwt().expect("a token");
        let mut request =
            format!("ws://{}/agent", server.authority).into_client_request().expect("a request");
        request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().expect("a header"));
        let stream = TcpStream::connect(&server.authority).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut worker = Self(client(request, stream).expect("an upgrade").0);
        worker.send(Up::Register(proto::RegisterWorkerRequest {
            agent_name: agent_name.into(),
            version: "test".into(),
            ..Default::default()
        }));
        assert!(matches!(worker.next(), Some(Down::Register(_))));
        worker
    }

    pub(crate) fn send(&mut self, message: Up) {
        let message = proto::WorkerMessage { message: Some(message) };
        self.0.send(Message::Binary(message.encode_to_vec().into())).expect("it is written");
    }

    /// The next message; none where the server closed.
    pub(crate) fn next(&mut self) -> Option<Down> {
        loop {
            match self.0.read() {
                Ok(Message::Binary(bytes)) => {
                    return proto::ServerMessage::decode(bytes).expect("a message").message;
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Text(_) | Message::Frame(_)) => panic!("only binary frames are asked for"),
                Ok(Message::Close(_)) | Err(_) => return None,
            }
        }
    }

    /// Takes the next offer, as `agent`; its assignment.
    pub(crate) fn take(&mut self, identity: &str) -> proto::JobAssignment {
        let Some(Down::Availability(offer)) = self.next() else { panic!("no offer") };
        self.send(Up::Availability(proto::AvailabilityResponse {
            job_id: offer.job.expect("a job").id,
            available: true,
            participant_identity: identity.into(),
            ..Default::default()
        }));
        let Some(Down::Assignment(assignment)) = self.next() else { panic!("no assignment") };
        assignment
    }

    pub(crate) fn report(&mut self, job: &str, status: proto::JobStatus, error: &str) {
        let (job_id, error) = (job.to_owned(), error.to_owned());
        self.send(Up::UpdateJob(proto::UpdateJobStatus { job_id, status: status.into(), error }));
    }
}
