//! Several registrations of one worker, which is the test itself: its process only says where guard is.
//!
//! Owns what becomes of one registration's calls by what happens to another. Refuses SDKs, which do none of this at will.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use last_call_testkit::proto::participant_info::Kind;
use last_call_testkit::proto::server_message::Message as Down;
use last_call_testkit::proto::worker_message::Message as Up;
use last_call_testkit::proto::{self, JobStatus, WorkerStatus};
use last_call_testkit::{Event, Job, Launch, Signal, Stub, What};
use livekit_token::{AccessToken, VideoGrants};
use prost::Message as _;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::rig::{Rig, SECRET, SOON, guarded, log, settled, until};

/// Says where guard is, tells what a shim would, and ends a process every now and then.
const WORKER: &str = r#"
    echo "$LIVEKIT_URL" > "$0.part" && mv "$0.part" "$0"
    while :; do
        sleep 0.2
        if [ -e "$0.news" ]; then cat "$0.news" > "${PYTHONPATH%%:*}/news"; rm "$0.news"; fi
    done"#;

fn rig(options: &[&str], url: impl FnOnce(&Stub) -> String) -> Rig {
    let directory = tempfile::tempdir().expect("a directory");
    let stub = Stub::auto().expect("a stub");
    let program = Launch::new("sh").args(["-c", WORKER]).arg(directory.path().join("url"));
    let guard = guarded(settled(program, &url(&stub)), options).spawn().expect("it starts");
    Rig { stub, directory, guard }
}

/// A worker with one registration, which has one call.
fn one_call() -> (Rig, Worker) {
    let rig = rig(&[], Stub::url);
    let mut first = Worker::registered(&rig, "one");
    first.takes(&rig, "AJ_1");
    (rig, first)
}

/// A connection of the worker.
struct Worker(WebSocket<TcpStream>);

impl Worker {
    /// Registers the agent of this name at guard.
    #[track_caller]
    fn new(rig: &Rig, name: &str) -> Self {
        let path = rig.path("url");
        until("the worker to run", || path.exists());
        let url = std::fs::read_to_string(path).expect("a URL");
        let grants = VideoGrants { agent: true, ..VideoGrants::default() };
        let token =
            AccessToken::with_api_key("devkey", SECRET).with_grants(grants).to_jwt().expect("a token");
        let mut request = format!("{}/agent", url.trim()).into_client_request().expect("a request");
        request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().expect("a header"));
        let stream = TcpStream::connect(url.trim().trim_start_matches("ws://")).expect("guard listens");
        stream.set_read_timeout(Some(SOON)).expect("a limit");
        let (socket, _) = tungstenite::client(request, stream).expect("upgraded");
        let mut worker = Self(socket);
        worker.say(Up::Register(proto::RegisterWorkerRequest {
            agent_name: name.into(),
            ..Default::default()
        }));
        worker
    }

    #[track_caller]
    fn registered(rig: &Rig, name: &str) -> Self {
        let mut worker = Self::new(rig, name);
        assert!(matches!(worker.next(), Some(Down::Register(_))), "{}", rig.guard.output());
        let status = Some(WorkerStatus::WsAvailable.into());
        worker.say(Up::UpdateWorker(proto::UpdateWorkerStatus { status, ..Default::default() }));
        worker
    }

    #[track_caller]
    fn say(&mut self, message: Up) {
        let frame = proto::WorkerMessage { message: Some(message) }.encode_to_vec();
        self.0.send(Message::Binary(frame.into())).expect("guard is there");
    }

    /// The next frame; none when guard closes.
    #[track_caller]
    fn next(&mut self) -> Option<Down> {
        loop {
            match self.0.read().expect("guard is there, or says goodbye") {
                Message::Binary(frame) => {
                    return proto::ServerMessage::decode(frame).expect("a frame").message;
                }
                Message::Close(_) => return None,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Takes a job, which runs from then on.
    #[track_caller]
    fn takes(&mut self, rig: &Rig, id: &str) {
        rig.offer(Job::new(id).room("lobby"));
        assert!(matches!(self.next(), Some(Down::Availability(_))), "{}", rig.guard.output());
        self.say(Up::Availability(proto::AvailabilityResponse {
            job_id: id.into(),
            available: true,
            participant_identity: "agent".into(),
            ..Default::default()
        }));
        assert!(matches!(self.next(), Some(Down::Assignment(_))), "{}", rig.guard.output());
    }

    #[track_caller]
    fn reports(&mut self, id: &str) {
        let status = JobStatus::JsSuccess.into();
        self.say(Up::UpdateJob(proto::UpdateJobStatus { job_id: id.into(), status, ..Default::default() }));
    }
}

#[test]
fn a_call_whose_end_comes_on_a_newer_connection_does_not_hold_the_drain() {
    let (rig, first) = one_call();
    let mut second = Worker::registered(&rig, "one");
    drop(first);
    log(&rig.guard, "the worker's connection is over; full until it registers again");
    second.reports("AJ_1");
    assert_eq!(rig.end("AJ_1"), JobStatus::JsSuccess);
    rig.send(Signal::SIGTERM);
    rig.leaves_with(0);
}

#[test]
fn reg_3_a_second_registration_that_is_refused_ends_neither_calls_nor_guard() {
    let (rig, mut first) = one_call();
    rig.stub.refuse(401);
    let mut second = Worker::new(&rig, "two");
    let refused = |event: &Event| matches!(event.what, What::Refused(..));
    until("it to be tried again", || rig.stub.events().iter().filter(|event| refused(event)).count() > 1);
    assert_eq!(rig.status_of("/readyz"), 503);
    let says = |line: &str| line.contains("not registered, though the server took these keys before");
    let line = rig.guard.wait_for_line(says, SOON).expect("it says what to do").text;
    assert!(line.contains("ERROR") && line.contains("LIVEKIT_API_SECRET"), "{line}");
    rig.stub.accept();
    assert!(matches!(second.next(), Some(Down::Register(_))));
    until("guard to be ready", || rig.status_of("/readyz") == 200);
    first.reports("AJ_1");
    assert_eq!(rig.end("AJ_1"), JobStatus::JsSuccess);
    rig.send(Signal::SIGTERM);
    rig.leaves_with(0);
}

#[test]
fn a_worker_that_says_goodbye_or_comes_too_late_hears_goodbye() {
    let (rig, mut first) = one_call();
    let mut second = Worker::registered(&rig, "two");
    second.0.close(None).expect("guard is there");
    assert!(second.next().is_none());
    rig.send(Signal::SIGTERM);
    log(&rig.guard, "draining: taking no jobs");
    assert!(Worker::new(&rig, "three").next().is_none());
    first.reports("AJ_1");
    rig.leaves_with(0);
}

/// A server that knows whether the one agent is in its room, in front of one that dispatches.
#[derive(Default)]
struct Room {
    there: AtomicBool,
    asked: AtomicUsize,
}

impl Room {
    fn serve(self: Arc<Self>, dispatches: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let room = Arc::clone(&self);
                // Who has left needs no answer.
                std::thread::spawn(move || room.answer(client, dispatches));
            }
        });
        address
    }

    fn answer(&self, mut client: TcpStream, dispatches: SocketAddr) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            head.extend(byte);
        }
        if head.starts_with(b"GET ") {
            let mut server = TcpStream::connect(dispatches)?;
            server.write_all(&head)?;
            let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
            std::thread::spawn(move || io::copy(&mut up, &mut down));
            return io::copy(&mut server, &mut client).map(drop);
        }
        let agent = proto::ParticipantInfo {
            identity: "agent".to_owned(),
            kind: Kind::Agent.into(),
            ..Default::default()
        };
        let participants = self.there.load(Ordering::SeqCst).then_some(agent).into_iter().collect();
        let body = proto::ListParticipantsResponse { participants }.encode_to_vec();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/protobuf\r\nConnection: close";
        write!(client, "{head}\r\nContent-Length: {}\r\n\r\n", body.len())?;
        client.write_all(&body)?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Has the shim say this.
#[track_caller]
fn news(rig: &Rig, line: &str) {
    let (part, whole) = (rig.path("part"), rig.path("url.news"));
    std::fs::write(&part, format!("{line}\n")).expect("a file");
    std::fs::rename(part, &whole).expect("the same directory");
    until("the news to be told", || !whole.exists());
}

#[test]
fn a_call_that_neither_worker_nor_shim_speaks_of_ends_with_its_agent() {
    let room = Arc::new(Room::default());
    let rig = rig(&["--rescue", "off"], |stub| format!("ws://{}", Arc::clone(&room).serve(stub.address())));
    let mut worker = Worker::registered(&rig, "one");
    worker.takes(&rig, "AJ_1");
    worker.takes(&rig, "AJ_2");
    room.there.store(true, Ordering::SeqCst);
    // The last of a look at both that began before, and a whole one.
    let asked = room.asked.load(Ordering::SeqCst);
    until("guard to have seen the agents", || room.asked.load(Ordering::SeqCst) >= asked + 4);
    news(&rig, "started 4194304 AJ_1");
    room.there.store(false, Ordering::SeqCst);
    assert_eq!(rig.end("AJ_2"), JobStatus::JsSuccess);
    // Of this one the shim speaks.
    news(&rig, "ended 4194304 AJ_1 exit 3");
    assert_eq!(rig.end("AJ_1"), JobStatus::JsFailed);
    rig.send(Signal::SIGTERM);
    rig.leaves_with(0);
}
