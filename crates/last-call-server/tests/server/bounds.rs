//! Hostile and broken clients: each is refused or cut off, and the next one is served.

use std::io::{Read, Write};
use std::net::TcpStream;

use last_call_testkit::proto;
use livekit_token::{AccessToken, VideoGrants};
use tokio_tungstenite::tungstenite::Message;

use crate::running::{KEY, PATIENCE, Running, SECRET, Worker};

fn open(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(&server.authority).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Writes these bytes and reads until the server closes.
fn exchange(server: &Running, bytes: &[u8]) -> String {
    let mut stream = open(server);
    // The server may answer and close before everything is written.
    let _ = stream.write_all(bytes);
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

fn token() -> String {
    let grants = VideoGrants { room_create: true, room_list: true, ..Default::default() };
    AccessToken::with_api_key(KEY, SECRET).with_grants(grants).to_jwt().expect("a token")
}

fn head(method: &str, authorization: &str, length: usize) -> String {
    format!(
        "POST /twirp/livekit.{method} HTTP/1.1\r\nHost: x\r\nContent-Type: application/protobuf\r\n{authorization}\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Posts a request with the grants of one who creates rooms; the whole response.
pub(crate) fn post(server: &Running, method: &str, request: &impl prost::Message) -> String {
    let body = request.encode_to_vec();
    let head = head(method, &format!("Authorization: Bearer {}\r\n", token()), body.len());
    exchange(server, &[head.as_bytes(), &body].concat())
}

/// Another client is served.
fn assert_serves(server: &Running) {
    server.api().create_room("still-here").expect("a room");
}

#[test]
fn no_token_and_bad_tokens_open_nothing() {
    let server = Running::start(|_| {});
    for authorization in
        ["", "Authorization: Bearer x.y.z\r\n", "Authorization: Basic eDp5\r\n", "Authorization: \r\n"]
    {
        let response = exchange(&server, head("RoomService/ListRooms", authorization, 0).as_bytes());
        assert!(response.starts_with("HTTP/1.1 401"), "{authorization:?}: {response}");
        assert!(response.contains(r#""code":"unauthenticated""#), "{response}");
    }
    let response = exchange(&server, b"GET /agent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 404"), "no upgrade: {response}");
}

#[test]
fn a_large_body_is_refused() {
    let server = Running::start(|_| {});
    let request = proto::CreateRoomRequest { metadata: "x".repeat(1 << 20), ..Default::default() };
    let response = post(&server, "RoomService/CreateRoom", &request);
    // The refusal may be lost as the connection is reset under the rest of the body.
    assert!(response.is_empty() || response.contains("over 65536 bytes"), "{response}");
    assert_serves(&server);
}

#[test]
fn a_large_or_broken_head_is_refused() {
    let server = Running::start(|_| {});
    for bytes in [
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000)).into_bytes(),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000)).into_bytes(),
        b"\x16\x03\x01 this is TLS\r\n\r\n".to_vec(),
        b"GET //[:: HTTP/9.9\r\n\r\n".to_vec(),
    ] {
        let response = exchange(&server, &bytes);
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 4"), "{response}");
    }
    assert_serves(&server);
}

#[test]
fn slow_clients_are_cut_off_and_hold_up_nobody_for_long() {
    let server = Running::start(|_| {});
    let slow = (0..300).map(|_| {
        let mut stream = open(&server);
        stream.write_all(b"POST /twirp/livekit.RoomService/ListRooms HTTP/1.1\r\nHos").expect("a beginning");
        stream
    });
    let slow = slow.collect::<Vec<_>>();
    assert_serves(&server);
    for mut stream in slow {
        let mut rest = Vec::new();
        // Closed or reset: either way it is over.
        let _ = stream.read_to_end(&mut rest);
    }
}

#[test]
fn an_oversized_frame_ends_its_connection_only() {
    let server = Running::start(|_| {});
    let mut bystander = Worker::start(&server, "a");
    let mut worker = Worker::start(&server, "b");
    // The server may close before all of it is written.
    let _ = worker.0.send(Message::Binary(vec![0; (2 << 20) + 1].into()));
    assert_eq!(worker.next(), None);
    server.api().create_dispatch("room", "a", "", &[]).expect("a dispatch");
    bystander.take("agent-1");
}

#[test]
fn an_acceptance_without_an_identity_ends_its_job() {
    let server = Running::start(|_| {});
    let mut worker = Worker::start(&server, "a");
    server.api().create_dispatch("room", "a", "", &[]).expect("a dispatch");
    let Some(proto::server_message::Message::Availability(offer)) = worker.next() else { panic!("no offer") };
    let job_id = offer.job.expect("a job").id;
    worker.send(proto::worker_message::Message::Availability(proto::AvailabilityResponse {
        job_id: job_id.clone(),
        available: true,
        ..Default::default()
    }));
    let ended = worker.next();
    let termination = proto::JobTermination { job_id };
    assert_eq!(ended, Some(proto::server_message::Message::Termination(termination)));
}
