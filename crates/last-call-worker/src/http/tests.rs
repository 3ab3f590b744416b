//! The pages over loopback, the door before the verbs, and clients that dawdle.

use std::net::SocketAddr;

use axum::http::HeaderValue;
use last_call_proto::Load;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;

use super::*;

/// A worker's operations, with the link thread's ends of the channels in the test's hands.
pub(crate) struct Fixture {
    pub(crate) ops: Arc<Ops>,
    pub(crate) shown: watch::Sender<Snapshot>,
    pub(crate) asked: mpsc::UnboundedReceiver<Verb>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_token(None)
    }

    fn with_token(token: Option<&str>) -> Self {
        let (shown, snapshot) = watch::channel(Snapshot::default());
        let (verbs, asked) = mpsc::unbounded_channel();
        let info = WorkerInfo { agent_name: "concierge".into(), worker_type: "JT_ROOM", version: "1.2.3" };
        let ops = Ops {
            info: Arc::new(OnceLock::from(info)),
            snapshot,
            verbs,
            metrics: Arc::new(Metrics::new("1.2.3")),
            beat: Arc::new(Beat::new()),
            admin_token: token.map(|token| Secret::from(token.to_owned())),
            admin_host: Some("worker.example".into()),
        };
        Self { ops: Arc::new(ops), shown, asked }
    }

    /// Serves the port on loopback for as long as the test's runtime lives.
    fn listen(&self) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, Arc::clone(&self.ops)));
        address
    }
}

/// What came back for one request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Sends `head` (request line and headers, each with its line end) and reads to the end.
pub(crate) async fn exchange(mut io: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> Reply {
    io.write_all(format!("{head}\r\n").as_bytes()).await.expect("sent");
    let mut reply = Vec::new();
    // The rest of a request that was refused is reset, behind the reply.
    let _ = io.read_to_end(&mut reply).await;
    let text = String::from_utf8(reply).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let code = head.split(' ').nth(1).expect("a code").parse().expect("a number");
    Reply { code, head: head.to_ascii_lowercase(), body: body.into() }
}

async fn ask(address: SocketAddr, request: &str) -> Reply {
    let io = TcpStream::connect(address).await.expect("connected");
    exchange(io, &format!("{request} HTTP/1.1\r\nhost: {address}\r\n")).await
}

#[tokio::test]
async fn probes_follow_the_snapshot() {
    let fixture = Fixture::new();
    let at = fixture.listen();
    let base = Snapshot { registered: true, ..Snapshot::default() };
    let cases = [
        (Snapshot::default(), 503, "connecting"),
        (base.clone(), 200, "ready"),
        (Snapshot { away: true, ..base.clone() }, 503, "away"),
        (Snapshot { wedged: true, ..base.clone() }, 503, "wedged"),
        (Snapshot { phase: Phase::Quiet, wedged: true, ..base.clone() }, 503, "quiet"),
        (Snapshot { phase: Phase::Draining, ..base.clone() }, 503, "draining"),
        (Snapshot { phase: Phase::Drained, ..Snapshot::default() }, 503, "drained"),
    ];
    for (snapshot, code, word) in cases {
        fixture.shown.send_replace(snapshot);
        let reply = ask(at, "GET /readyz").await;
        assert_eq!((reply.code, reply.body.as_str()), (code, word));
        assert_eq!(ask(at, "GET /livez").await.code, 200, "{word}");
    }
}

#[tokio::test]
async fn the_root_page_is_that_of_the_python_sdk() {
    let fixture = Fixture::new();
    let at = fixture.listen();
    let reply = ask(at, "GET /").await;
    assert_eq!((reply.code, reply.body.as_str()), (503, "failed to connect to livekit"));
    for snapshot in [
        Snapshot { registered: true, phase: Phase::Draining, ..Snapshot::default() },
        Snapshot { active_jobs: 1, ..Snapshot::default() },
        Snapshot { accepted_jobs: 1, ..Snapshot::default() },
    ] {
        fixture.shown.send_replace(snapshot);
        let reply = ask(at, "GET /").await;
        assert_eq!((reply.code, reply.body.as_str()), (200, "OK"));
    }
}

#[tokio::test]
async fn the_worker_page_has_the_fields_of_worker_info() {
    let fixture = Fixture::new();
    let at = fixture.listen();
    let load = Load::from_thousandths(420);
    fixture.shown.send_replace(Snapshot { active_jobs: 3, load, ..Snapshot::default() });
    let reply = ask(at, "GET /worker").await;
    assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
    let page: Value = serde_json::from_str(&reply.body).expect("JSON");
    let expected = serde_json::json!({
        "worker_type": "JT_ROOM", "agent_name": "concierge", "active_jobs": 3, "sdk_version": "1.2.3",
        "worker_load": 0.42, "protocol_version": 1, "project_type": "rust",
    });
    assert_eq!(page, expected);
}

#[tokio::test]
async fn metrics_name_their_format() {
    let fixture = Fixture::new();
    let reply = ask(fixture.listen(), "GET /metrics").await;
    let format = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(reply.code == 200 && reply.head.contains(format), "{}", reply.head);
    assert!(reply.body.ends_with("# EOF\n") && reply.body.contains("last_call_registered 0\n"));
}

#[tokio::test]
async fn head_answers_without_a_body_and_the_unknown_is_not_found() {
    let fixture = Fixture::new();
    let at = fixture.listen();
    for path in ["/", "/worker", "/livez", "/readyz", "/metrics"] {
        let (get, head) = (ask(at, &format!("GET {path}")).await, ask(at, &format!("HEAD {path}")).await);
        assert_eq!((head.code, head.body.as_str()), (get.code, ""), "{path}");
        assert!(head.head.contains(&format!("content-length: {}", get.body.len())), "{path}");
        assert_eq!(ask(at, &format!("POST {path}")).await.code, 405, "{path}");
    }
    for request in ["GET /nothing", "GET /status", "POST /drain", "POST /quiet", "DELETE /quiet"] {
        assert_eq!(ask(at, request).await.code, 404, "{request}");
    }
}

#[test]
fn a_silent_link_thread_is_no_life() {
    let beat = Beat::new();
    assert!(beat.silence_at(SILENCE_LIMIT) <= SILENCE_LIMIT);
    assert!(beat.silence_at(SILENCE_LIMIT + Duration::from_millis(1)) > SILENCE_LIMIT);
    beat.latest.store(60_000, Ordering::Relaxed);
    assert_eq!(beat.silence_at(Duration::from_secs(61)), Duration::from_secs(1));
    assert_eq!(beat.silence_at(Duration::from_secs(59)), Duration::ZERO, "read before the beat");
}

#[tokio::test]
async fn livez_says_how_long_the_link_has_been_silent() {
    let mut fixture = Fixture::new();
    let Some(started) = Instant::now().checked_sub(Duration::from_secs(12)) else {
        return; // The machine has been up for less.
    };
    let ops = Arc::get_mut(&mut fixture.ops).expect("not shared yet");
    ops.beat = Arc::new(Beat { started, latest: AtomicU64::new(0) });
    let at = fixture.listen();
    let reply = ask(at, "GET /livez").await;
    assert_eq!(reply.code, 503);
    assert!(reply.body.starts_with("the link thread has been silent for 1"), "{}", reply.body);
    fixture.ops.beat.beat();
    assert_eq!(ask(at, "GET /livez").await.code, 200);
}

#[tokio::test]
async fn a_verb_on_the_port_needs_the_token() {
    let mut fixture = Fixture::with_token(Some("s3cret"));
    let at = fixture.listen();
    fixture.shown.send_replace(Snapshot { phase: Phase::Draining, ..Snapshot::default() });
    for (headers, code) in [
        ("", 401),
        ("authorization: Bearer wrong\r\n", 401),
        ("authorization: Basic s3cret\r\n", 401),
        ("authorization: Bearer\r\n", 401),
        ("authorization: Bearer s3cret\r\norigin: http://localhost\r\n", 403),
    ] {
        let io = TcpStream::connect(at).await.expect("connected");
        let reply = exchange(io, &format!("POST /drain HTTP/1.1\r\nhost: {at}\r\n{headers}")).await;
        assert_eq!(reply.code, code, "{headers}");
        assert_eq!(reply.head.contains("www-authenticate: bearer"), code == 401, "{headers}");
        assert!(!reply.body.contains("s3cret"));
    }
    assert!(fixture.asked.try_recv().is_err(), "nothing went through");
    let io = TcpStream::connect(at).await.expect("connected");
    let head = format!("POST /drain HTTP/1.1\r\nhost: {at}\r\nauthorization: bearer s3cret\r\n");
    let reply = exchange(io, &head).await;
    assert_eq!((reply.code, reply.body.as_str()), (202, "draining"));
    assert_eq!(fixture.asked.try_recv(), Ok(Verb::Drain));
    assert_eq!(ask(at, "GET /status").await.code, 404, "the status is the admin socket's");
}

#[test]
fn only_our_own_hosts() {
    let fixture = Fixture::with_token(Some("s3cret"));
    let code = |host: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret"));
        if let Some(host) = host {
            headers.insert(HOST, HeaderValue::from_static(host));
        }
        refusal(&headers, &fixture.ops).map(|(code, _)| code)
    };
    for ours in
        ["127.0.0.1", "10.0.0.7:8081", "[::1]:8081", "localhost:8081", "LOCALHOST", "worker.example:1"]
    {
        assert_eq!(code(Some(ours)), None, "{ours}");
    }
    for not in ["evil.example", "localhost.evil.example:8081", "127.0.0.1.evil.example", "", "a b"] {
        assert_eq!(code(Some(not)), Some(StatusCode::FORBIDDEN), "{not:?}");
    }
    assert_eq!(code(None), Some(StatusCode::FORBIDDEN));
}

#[tokio::test]
async fn large_requests_are_refused() {
    let fixture = Fixture::with_token(Some("s3cret"));
    let at = fixture.listen();
    let head = format!("POST /drain HTTP/1.1\r\nhost: {at}\r\nauthorization: Bearer s3cret\r\n");
    let io = TcpStream::connect(at).await.expect("connected");
    let body = "x".repeat(BODY_LIMIT + 1);
    assert_eq!(exchange(io, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await.code, 413);
    let io = TcpStream::connect(at).await.expect("connected");
    let long = "x".repeat(HEAD_LIMIT);
    assert_eq!(exchange(io, &format!("GET / HTTP/1.1\r\nhost: {at}\r\nx: {long}\r\n")).await.code, 431);
}

/// Connections in memory, so that the clock can be the test's.
struct Lobby {
    waiting: mpsc::UnboundedReceiver<DuplexStream>,
    accepted: Arc<AtomicU64>,
}

impl Listener for Lobby {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.waiting.recv().await {
            Some(io) => {
                self.accepted.fetch_add(1, Ordering::SeqCst);
                (io, ())
            }
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A service in memory: a way in, the count of connections accepted, the worker's life, the end.
struct Served<C> {
    connect: C,
    accepted: Arc<AtomicU64>,
    worker: watch::Sender<Snapshot>,
    end: tokio::task::JoinHandle<()>,
}

fn lobby(router: Router) -> Served<impl Fn() -> DuplexStream> {
    let (door, waiting) = mpsc::unbounded_channel();
    let (worker, life) = watch::channel(Snapshot::default());
    let accepted = Arc::new(AtomicU64::new(0));
    let end = tokio::spawn(serve_on(Lobby { waiting, accepted: Arc::clone(&accepted) }, router, life));
    let connect = move || {
        let (ours, theirs) = duplex(64 * 1024);
        door.send(theirs).expect("served");
        ours
    };
    Served { connect, accepted, worker, end }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dawdles_is_let_go() {
    let Served { connect, worker: _worker, .. } =
        lobby(Router::new().route("/", get(std::future::pending::<()>)));
    for sent in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"]
    {
        let mut io = connect();
        io.write_all(sent.as_bytes()).await.expect("sent");
        let mut text = String::new();
        io.read_to_string(&mut text).await.expect("the end, not a hang");
        assert!(!text.contains(" 200 "), "{sent:?}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_the_next_one_waits() {
    let Served { connect, accepted, worker: _worker, .. } =
        lobby(Router::new().route("/", get(async || "OK")));
    let idle: Vec<_> = (0..CONNECTIONS + 50).map(|_| connect()).collect();
    let patient = connect();
    // The paused clock moves only when every task waits.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(accepted.load(Ordering::SeqCst), CONNECTIONS as u64);
    let reply = exchange(patient, "GET / HTTP/1.1\r\nhost: a\r\n").await;
    assert_eq!((reply.code, reply.body.as_str()), (200, "OK"), "once the idle ones are let go");
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_leaves_after_the_worker_has_ended() {
    let (going, go) = tokio::sync::oneshot::channel::<()>();
    let go = Arc::new(std::sync::Mutex::new(Some(go)));
    let (entered, mut at_handler) = mpsc::unbounded_channel();
    let handler = get(move || async move {
        let go = go.lock().expect("no panic while locked").take().expect("one request");
        entered.send(()).expect("the test listens");
        let _ = go.await;
        "drained"
    });
    let served = lobby(Router::new().route("/", handler));
    let idle = (served.connect)();
    let answer = tokio::spawn(exchange((served.connect)(), "GET / HTTP/1.1\r\nhost: a\r\n"));
    at_handler.recv().await.expect("the request is under way");
    drop(served.worker);
    going.send(()).expect("the handler waits");
    let reply = answer.await.expect("no panic");
    assert_eq!((reply.code, reply.body.as_str()), (200, "drained"));
    served.end.await.expect("ends, whoever idles");
    drop(idle);
}
