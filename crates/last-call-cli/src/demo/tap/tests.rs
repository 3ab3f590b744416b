//! A tap between real sockets: what passes, what is told, what is answered.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use last_call_server::{Config, Keys, Reply, Server};
use last_call_testkit::{Certificate, Launch, LiveKit, Options, Stub, proto};
use last_call_worker::Endpoint;
use last_call_worker::api::Api;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message as _;
use proto::server_message::Message as Down;
use proto::worker_message::Message as Up;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;

/// More than anything here takes on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(60);
const AGENT_NAME: &str = "tapped";

type Seeing = mpsc::UnboundedReceiver<Seen>;

fn keys() -> Keys {
    Keys { key: "key".into(), secret: "secret-secret-secret-secret-secret".into() }
}

fn api(url: &str, keys: &Keys) -> Api {
    Api::new(dialler(url), last_call_worker::Keys::new(&keys.key, &keys.secret))
}

/// The id of a new dispatch.
async fn dispatch(api: &Api, metadata: &str) -> String {
    let wish = proto::CreateAgentDispatchRequest {
        room: "lobby".into(),
        agent_name: AGENT_NAME.into(),
        metadata: metadata.into(),
        ..Default::default()
    };
    api.create_dispatch(&wish).await.expect("dispatched").id
}

fn dialler(url: &str) -> Dialler {
    Dialler::new(Endpoint::parse(url, false).expect("a URL"))
}

fn tap(url: &str, rooms: bool) -> (Tap, Seeing) {
    let (seen, seeing) = mpsc::unbounded_channel();
    let tap = Tap::start(Upstream { dialler: dialler(url), rooms }, 7, seen).expect("a tap");
    (tap, seeing)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

async fn next(seeing: &mut Seeing) -> SeenWhat {
    let seen = within(seeing.recv()).await.expect("the tap lives");
    assert_eq!(seen.worker, 7);
    seen.what
}

/// Sees a worker connect and register; the server's name for it.
async fn registered(seeing: &mut Seeing) -> String {
    let registering = SeenWhat::Registering { agent_name: AGENT_NAME.into(), version: "1.2.3".into() };
    assert_eq!(next(seeing).await, SeenWhat::Connected);
    assert_eq!(next(seeing).await, registering);
    let SeenWhat::Registered { worker_id } = next(seeing).await else { panic!("not registered") };
    worker_id
}

/// A worker of one test's own.
struct Worker(WebSocketStream<TcpStream>);

impl Worker {
    async fn connect(tap: &Tap, keys: &Keys) -> Result<Self, Error> {
        let grants = VideoGrants { agent: true, ..Default::default() };
        let token = AccessToken::with_api_key(&keys.key, &keys.secret).with_grants(grants).to_jwt();
        let mut request = format!("{}/agent", tap.url()).into_client_request()?;
        let bearer = format!("Bearer {}", token.expect("a token"));
        request.headers_mut().insert("Authorization", bearer.parse().expect("a header"));
        let tcp = TcpStream::connect(tap.address()).await?;
        Ok(Self(tokio_tungstenite::client_async(request, tcp).await?.0))
    }

    async fn say(&mut self, message: Up) {
        let bytes = proto::WorkerMessage { message: Some(message) }.encode_to_vec();
        self.0.send(Message::Binary(bytes.into())).await.expect("sent");
    }

    async fn register(&mut self) {
        let (agent_name, version) = (AGENT_NAME.to_owned(), "1.2.3".to_owned());
        self.say(Up::Register(proto::RegisterWorkerRequest { agent_name, version, ..Default::default() }))
            .await;
        let registered = self.hear().await;
        assert!(matches!(registered, Down::Register(_)), "{registered:?}");
    }

    async fn accept(&mut self, job_id: &str) {
        let participant_identity = "an-agent".to_owned();
        let answer = proto::AvailabilityResponse {
            job_id: job_id.to_owned(),
            available: true,
            participant_identity,
            ..Default::default()
        };
        self.say(Up::Availability(answer)).await;
    }

    /// The next message of the server.
    async fn hear(&mut self) -> Down {
        loop {
            let frame = within(self.0.next()).await.expect("open").expect("a frame");
            if let Message::Binary(bytes) = frame {
                let message = proto::ServerMessage::decode(bytes).expect("protobuf");
                return message.message.expect("a message");
            }
            assert!(frame.is_ping(), "{frame:?}");
        }
    }

    /// Is offered a job, takes it, and returns what it is told of it.
    async fn take(&mut self) -> (String, proto::JobAssignment) {
        let Down::Availability(offer) = self.hear().await else { panic!("not an offer") };
        let job = offer.job.expect("a job").id;
        self.accept(&job).await;
        let Down::Assignment(assignment) = self.hear().await else { panic!("not an assignment") };
        (job, assignment)
    }
}

fn embedded() -> (String, tokio::task::JoinHandle<()>) {
    let server = Server::bind(Config::new(([127, 0, 0, 1], 0).into(), keys())).expect("a server");
    (server.url(), tokio::spawn(server.run(std::future::pending())))
}

#[tokio::test]
async fn a_workers_life_is_seen_in_order() {
    let (url, _server) = embedded();
    let (tap, mut seeing) = tap(&url, false);
    let mut worker = Worker::connect(&tap, &keys()).await.expect("connected");
    worker.register().await;
    let api = api(&url, &keys());
    let dispatch = dispatch(&api, "hunter2").await;
    let (job, assignment) = worker.take().await;
    assert_eq!(assignment.url, None, "the embedded server has no rooms");
    let report = |status: proto::JobStatus, error: &str| {
        Up::UpdateJob(proto::UpdateJobStatus {
            job_id: job.clone(),
            status: status.into(),
            error: error.into(),
        })
    };
    worker.say(report(proto::JobStatus::JsRunning, "")).await;
    let full = proto::UpdateWorkerStatus {
        status: Some(proto::WorkerStatus::WsFull.into()),
        load: 0.25,
        job_count: 1,
        draining: true,
        seq: 0,
    };
    worker.say(Up::UpdateWorker(full)).await;
    worker.say(report(proto::JobStatus::JsFailed, "out of tea")).await;
    worker.0.close(None).await.expect("closed");

    let worker_id = registered(&mut seeing).await;
    assert!(worker_id.starts_with("AW_"), "{worker_id}");
    let (room, job) = ("lobby".to_owned(), job.clone());
    for expected in [
        SeenWhat::Offered { job: job.clone(), dispatch: dispatch.clone(), room: room.clone() },
        SeenWhat::Answered { job: job.clone(), reply: Reply::Accepted },
        SeenWhat::Assigned { job: job.clone(), dispatch, room },
        SeenWhat::Running { job: job.clone() },
        SeenWhat::Status { available: false, draining: true, load: 0.25, jobs: 1 },
        SeenWhat::Ended { job, success: false, error: "out of tea".into() },
        SeenWhat::Gone,
    ] {
        assert_eq!(next(&mut seeing).await, expected);
    }
    drop(tap);
    assert_eq!(within(seeing.recv()).await, None);
}

#[tokio::test]
async fn a_refusal_passes_back() {
    let (url, _server) = embedded();
    let (tap, _seeing) = tap(&url, false);
    let wrong = Keys { secret: "another-secret-another-secret-another".into(), ..keys() };
    match Worker::connect(&tap, &wrong).await.err() {
        Some(Error::Http(response)) => {
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.body().as_deref(), Some(&b"invalid authorization token"[..]));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_socket_that_is_not_for_a_tap_is_told_where_the_server_is() {
    let (url, _server) = embedded();
    let (tap, _seeing) = tap(&url, false);
    let authority = url.trim_start_matches("ws://");
    for head in [
        "GET /rtc?access_token=hunter2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
        "CONNECT hunter2.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = answered(&tap, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{head}: {answer}");
        assert!(answer.contains("the tap of `last-call demo`") && answer.contains(authority), "{answer}");
        assert!(!answer.contains("hunter2"), "{answer}");
    }
}

#[tokio::test]
async fn an_agents_calls_of_the_api_pass() {
    let (url, _server) = embedded();
    let (tap, mut seeing) = tap(&url, false);
    let (through, past) = (api(&tap.url(), &keys()), api(&url, &keys()));
    dispatch(&through, "about it").await;
    past.delete_room("lobby").await.expect("it is there");
    let error = through.delete_room("lobby").await.expect_err("it is gone").to_string();
    assert!(error.contains("HTTP 404") && !error.contains("the tap"), "{error}");
    drop(tap);
    assert_eq!(within(seeing.recv()).await, None, "no worker was connected, and nothing was wrong");
}

#[tokio::test]
async fn a_request_passes_but_for_what_is_between_neighbours() {
    let body = "x".repeat(BODY_LIMIT);
    let head = format!(
        "POST /twirp/livekit.A/B?c=%2F HTTP/1.1\r\nHost: tap.example\r\nAuthorization: Bearer hunter2\r\n\
         X-Own: kept\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
         Upgrade: h2c\r\nProxy-Authorization: p\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    let answer = "HTTP/1.1 418 I'm a teapot\r\nX-Said: so\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
        Transfer-Encoding: chunked\r\n\r\n3\r\ntea\r\n0\r\n\r\n";
    let (_tap, _seeing, mut worker, mut server, asked) = raw(&head, "").await;
    assert!(asked.starts_with("POST /livekit/twirp/livekit.A/B?region=x&c=%2F HTTP/1.1\r\n"), "{asked}");
    let asked = asked.to_ascii_lowercase();
    let length = format!("content-length: {}\r\n", body.len());
    for line in
        ["authorization: bearer hunter2", "x-own: kept", "host: 127.0.0.1:", "connection: close", &length]
    {
        assert!(asked.contains(line), "{line}: {asked}");
    }
    for line in ["tap.example", "x-hop", "keep-alive", "\r\nte:", "upgrade", "proxy-"] {
        assert!(!asked.contains(line), "{line}: {asked}");
    }
    let mut came = vec![0; body.len()];
    within(server.read_exact(&mut came)).await.expect("the body");
    assert!(came == body.as_bytes(), "another body came");
    server.write_all(answer.as_bytes()).await.expect("answered");
    let mut said = String::new();
    within(worker.read_to_string(&mut said)).await.expect("answered");
    assert!(said.starts_with("HTTP/1.1 418") && said.ends_with("\r\n\r\ntea"), "{said}");
    let said = said.to_ascii_lowercase();
    assert!(said.contains("x-said: so") && said.contains("connection: close"), "{said}");
    assert!(!said.contains("x-hop") && !said.contains("chunked"), "{said}");
}

#[tokio::test]
async fn a_body_that_is_too_large_or_none_is_refused_here() {
    let stub = Stub::auto().expect("a stub");
    let (tap, _seeing) = tap(&stub.url(), false);
    stub.close_port().expect("closed");
    let chunk = "x".repeat(BODY_LIMIT);
    for (framing, body, status) in [
        (format!("Content-Length: {}", BODY_LIMIT + 1), format!("{chunk}x"), "413"),
        ("Transfer-Encoding: chunked".into(), format!("10000\r\n{chunk}\r\n1\r\nx\r\n0\r\n\r\n"), "413"),
        ("Transfer-Encoding: chunked".into(), "no chunk\r\n".into(), "400"),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{body}");
        let answer = answered(&tap, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{framing}: {answer}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let stub = Stub::auto().expect("a stub");
    let (tap, mut seeing) = tap(&stub.url(), false);
    stub.close_port().expect("closed");
    match Worker::connect(&tap, &keys()).await.err() {
        Some(Error::Http(response)) => {
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
            let text = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
            assert!(text.contains(&stub.address().to_string()), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let SeenWhat::Trouble { text } = next(&mut seeing).await else { panic!("no trouble") };
    assert!(text.contains(&stub.address().to_string()) && text.contains("no answer"), "{text}");
    drop(tap);
    assert_eq!(within(seeing.recv()).await, None, "nothing was connected");
}

#[tokio::test]
async fn a_server_that_vanishes_takes_the_workers_socket_with_it() {
    let stub = Stub::auto().expect("a stub");
    let (tap, mut seeing) = tap(&stub.url(), false);
    let mut worker = Worker::connect(&tap, &keys()).await.expect("connected");
    worker.register().await;
    drop(stub);
    while within(worker.0.next()).await.is_some_and(|frame| frame.is_ok()) {}
    registered(&mut seeing).await;
    // Whether it says goodbye is up to its system.
    let mut last = next(&mut seeing).await;
    if matches!(last, SeenWhat::Trouble { .. }) {
        last = next(&mut seeing).await;
    }
    assert_eq!(last, SeenWhat::Gone);
}

#[tokio::test]
async fn a_dropped_tap_closes_everything() {
    let stub = Stub::auto().expect("a stub");
    let (tap, mut seeing) = tap(&stub.url(), false);
    let mut worker = Worker::connect(&tap, &keys()).await.expect("connected");
    let address = tap.address();
    drop(tap);
    assert!(within(worker.0.next()).await.is_none_or(|frame| frame.is_err()));
    assert_eq!(next(&mut seeing).await, SeenWhat::Connected);
    assert_eq!(next(&mut seeing).await, SeenWhat::Gone);
    assert_eq!(within(seeing.recv()).await, None);
    assert!(TcpStream::connect(address).await.is_err());
}

/// Both ends of a tap as bytes: the worker's, and the server's with the head of the request that it got.
async fn raw(head: &str, answer: &str) -> (Tap, Seeing, TcpStream, TcpStream, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tap, seeing) = tap(&format!("ws://127.0.0.1:{port}/livekit?region=x"), false);
    let mut worker = TcpStream::connect(tap.address()).await.expect("connected");
    worker.write_all(head.as_bytes()).await.expect("sent");
    let (mut server, _) = within(listener.accept()).await.expect("accepted");
    let asked = read_head(&mut server).await;
    server.write_all(answer.as_bytes()).await.expect("answered");
    (tap, seeing, worker, server, asked)
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.expect("a head"));
    }
    String::from_utf8(head).expect("text")
}

async fn answered(tap: &Tap, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(tap.address()).await.expect("connected");
    stream.write_all(request).await.expect("sent");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("answered");
    answer
}

const UPGRADE: &str = "GET /agent?worker_token=y HTTP/1.1\r\nHost: tap.example\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: lk\r\nSec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer hunter2\r\n\r\n";
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: lk\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

#[tokio::test]
async fn the_upgrade_passes_but_for_host_and_compression() {
    let (tap, _seeing, mut worker, _server, asked) = raw(UPGRADE, UPGRADED).await;
    assert!(asked.starts_with("GET /livekit/agent?region=x&worker_token=y HTTP/1.1\r\n"), "{asked}");
    let asked = asked.to_ascii_lowercase();
    for line in ["authorization: bearer hunter2", "sec-websocket-protocol: lk", "host: 127.0.0.1:"] {
        assert!(asked.contains(line), "{line}: {asked}");
    }
    assert!(!asked.contains("deflate") && !asked.contains("tap.example"), "{asked}");
    let answer = read_head(&mut worker).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let answer = answer.to_ascii_lowercase();
    assert!(answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo=") && answer.contains("sec-websocket-protocol: lk"));
    assert!(!answer.contains("deflate"), "{answer}");
    drop(tap);
}

#[tokio::test]
async fn bytes_pass_as_they_are_and_the_tap_adds_none() {
    let (_tap, mut seeing, mut worker, mut server, _) = raw(UPGRADE, UPGRADED).await;
    read_head(&mut worker).await;
    let down = [
        &[0x89, 2, b'h', b'i'][..], // a ping, which a library would answer by itself
        &[0x82, 2, 0x42, 0],        // a message of a newer protocol
        &[0x02, 1, 0x0a, 0x80, 2, 0xff, 0xff], // one in parts, which is no protobuf
        &[0x81, 3, b'{', b'n', b'o'], // no JSON
        &[0x82, 126, 0, 3, 1, 2, 3], // a length that is longer than it has to be
        &[0xc2, 1, 7],              // compressed, by a bit that nobody agreed to
        &[0x88, 2, 0x03, 0xe8],     // a close
    ]
    .concat();
    let large = [&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x70, 1, 2, 3, 4][..], &[5; 70_000]].concat();
    let up = [&[0x8a, 0x80, 1, 2, 3, 4][..], &large, &[0x88, 0x80, 0, 0, 0, 0]].concat();
    pass(&mut server, &mut worker, &down).await;
    pass(&mut worker, &mut server, &up).await;
    drop(worker);
    let mut more = Vec::new();
    within(server.read_to_end(&mut more)).await.expect("the end");
    assert_eq!(more.len(), 0, "the tap said something by itself");
    drop(server);
    assert_eq!(next(&mut seeing).await, SeenWhat::Connected);
    for (from_worker, bytes) in [(false, 2), (false, 3), (false, 3), (false, 3), (false, 1), (true, 70_000)] {
        assert_eq!(next(&mut seeing).await, SeenWhat::Unread { from_worker, bytes });
    }
    assert_eq!(next(&mut seeing).await, SeenWhat::Gone);
}

#[tokio::test]
async fn half_a_message_passes_before_the_end() {
    let (_tap, _seeing, mut worker, mut server, _) = raw(UPGRADE, UPGRADED).await;
    read_head(&mut worker).await;
    let half = [0x02, 1, 0x0a, 0x80, 2, 0xff];
    server.write_all(&half).await.expect("sent");
    drop(server);
    let mut rest = Vec::new();
    within(worker.read_to_end(&mut rest)).await.expect("the end");
    assert_eq!(rest, half);
}

async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.expect("sent");
    let mut passed = vec![0; bytes.len()];
    within(to.read_exact(&mut passed)).await.expect("passed");
    assert!(passed == bytes, "other bytes came out");
}

#[tokio::test]
async fn garbage_behind_the_upgrade_ends_the_connection() {
    for garbage in [&[0xff; 64][..], &[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0]] {
        let (_tap, mut seeing, mut worker, _server, _) = raw(UPGRADE, UPGRADED).await;
        read_head(&mut worker).await;
        worker.write_all(garbage).await.expect("sent");
        let mut rest = BytesMut::new();
        assert!(within(worker.read_buf(&mut rest)).await.is_ok_and(|read| read == 0) || rest.is_empty());
        assert_eq!(next(&mut seeing).await, SeenWhat::Connected);
        broken(&mut seeing).await;
    }
}

/// Sees that a connection broke, and that it is gone.
async fn broken(seeing: &mut Seeing) {
    let SeenWhat::Trouble { text } = next(seeing).await else { panic!("no trouble") };
    assert!(text.starts_with("its connection broke: "), "{text}");
    assert_eq!(next(seeing).await, SeenWhat::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_side_that_does_not_read_is_cut_after_10_s() {
    let (worker, _theirs) = tokio::io::duplex(64);
    let (mut sender, server) = tokio::io::duplex(1024);
    let (seen, mut seeing) = mpsc::unbounded_channel();
    let carrying = tokio::spawn(carry(worker, server, Witness::connected(7, seen), None));
    let begun = tokio::time::Instant::now();
    let ping = [&[0x89, 125][..], &[0; 125]].concat();
    while sender.write_all(&ping).await.is_ok() {}
    carrying.await.expect("no panic");
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(next(&mut seeing).await, SeenWhat::Connected);
    broken(&mut seeing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_of_a_real_server_are_joined_there() {
    let livekit = tokio::task::spawn_blocking(LiveKit::or_skip).await.expect("no panic");
    let Some(livekit) = livekit.expect("livekit-server runs") else { return };
    let keys = Keys { key: livekit.key().into(), secret: livekit.secret().into() };
    let (tap, mut seeing) = tap(&livekit.url(), true);
    let mut worker = Worker::connect(&tap, &keys).await.expect("connected");
    worker.register().await;
    let api = api(&livekit.url(), &keys);
    let dispatch = dispatch(&api, "").await;
    let (job, assignment) = worker.take().await;
    assert_eq!(assignment.url, Some(livekit.url()));
    assert_eq!(assignment.job.expect("the job").id, job);
    assert!(!assignment.token.is_empty());
    let assigned = SeenWhat::Assigned { job: job.clone(), dispatch: dispatch.clone(), room: "lobby".into() };
    while next(&mut seeing).await != assigned {}
    api.delete_dispatch("lobby", &dispatch).await.expect("deleted");
    assert_eq!(next(&mut seeing).await, SeenWhat::Terminated { job });
    api.delete_room("lobby").await.expect("deleted");
}

/// Where a test over TLS finds its server; the certificate is trusted by SSL_CERT_FILE, which is read by a process of
/// the test's own.
const TLS_URL: &str = "LAST_CALL_TAP_TEST_URL";

#[test]
fn tls_is_spoken_with_a_server_that_is_trusted() -> Result<()> {
    let certificate = Certificate::localhost()?;
    let roots = tempfile::NamedTempFile::new()?;
    std::fs::write(roots.path(), certificate.pem())?;
    let options = Options { certificate: Some(certificate), ..Options::auto() };
    let stub = Stub::start(options)?;
    let child = Launch::new(std::env::current_exe()?)
        .args(["--exact", "demo::tap::tests::over_tls", "--include-ignored", "--nocapture"])
        .env(TLS_URL, stub.url())
        .env("SSL_CERT_FILE", roots.path())
        .spawn()?;
    stub.wait_registered(0, PATIENCE).with_context(|| child.output())?;
    let exit = child.wait(PATIENCE)?;
    anyhow::ensure!(exit.code == Some(0) && child.output().contains("1 passed"), "{}", child.output());
    Ok(())
}

#[tokio::test]
#[ignore = "run by tls_is_spoken_with_a_server_that_is_trusted"]
async fn over_tls() {
    let Ok(url) = std::env::var(TLS_URL) else { return };
    let (tap, mut seeing) = tap(&url, false);
    let mut worker = Worker::connect(&tap, &keys()).await.expect("connected");
    worker.register().await;
    registered(&mut seeing).await;
}
