//! The front between a client and a server on loopback: who goes where, and what no client can break.

use super::*;
use crate::guard::rig::{Peer, Server, header, in_time, keys, pass, rest};
use crate::guard::secrets::Right;
use crate::socket::Endpoint;

fn front(server: &Server, path: &str) -> (Front, mpsc::UnboundedReceiver<std::net::TcpStream>) {
    start(server.dialler(path), Arc::new(pass())).expect("started")
}

async fn worker(arrived: &mut mpsc::UnboundedReceiver<std::net::TcpStream>) -> Peer {
    let tcp = in_time(arrived.recv()).await.expect("a worker");
    Peer(TcpStream::from_std(tcp).expect("a socket"))
}

#[tokio::test]
async fn a_worker_arrives_at_the_link_with_nothing_read_from_it() {
    let server = Server::start().await;
    let (front, mut arrived) = front(&server, "/livekit/");
    assert_eq!(front.url, format!("ws://{}/livekit", front.address));
    for line in [
        "GET /livekit/agent HTTP/1.1\r\nHost: a\r\nUPGRADE: websocket\r\nauthorization: Bearer x",
        "GET /livekit/agent?worker_token=a&protocol=16 HTTP/1.1\r\nhost: a",
        "GET /agent HTTP/1.1\r\nHost: a",
    ] {
        let mut client = Peer::dial(front.address).await;
        let head = format!("{line}\r\n\r\n");
        client.send(&head).await;
        let mut arrived = worker(&mut arrived).await;
        assert_eq!(arrived.head().await, head);
        arrived.send("hello").await;
        assert_eq!(client.bytes(5).await, b"hello");
    }
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte() {
    let server = Server::start().await;
    let (front, mut arrived) = front(&server, "");
    let head = "GET /agent?a=b HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = Peer::dial(front.address).await;
    client.0.set_nodelay(true).expect("a socket");
    for byte in head.bytes() {
        assert!(arrived.try_recv().is_err(), "a head that is not there");
        client.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(worker(&mut arrived).await.head().await, head);
}

/// What [`caller`] says of a client that has sent `sent`, and then `does`.
async fn called(sent: &[u8], within: Duration, does: impl AsyncFnOnce(&mut Peer)) -> Option<Caller> {
    let server = Server::start().await;
    let mut client = Peer::dial(server.address()).await;
    let arrived = server.accept().await;
    client.send(sent).await;
    does(&mut client).await;
    in_time(caller(&arrived.0, "", within)).await
}

#[tokio::test]
async fn a_client_that_stalls_or_leaves_is_let_go() {
    let hour = Duration::from_secs(3600);
    for sent in
        ["", "G", "GET /agent HTTP/1.1\r\n", "GET /agent HTTP/1.1\r\nhost: a\r\n", "POST /x HTTP/1.1\r\n"]
    {
        let sent = sent.as_bytes();
        assert_eq!(called(sent, Duration::from_millis(20), async |_| {}).await, None, "stalls");
        assert_eq!(
            called(sent, hour, async |client| client.0.shutdown().await.expect("shut")).await,
            None,
            "leaves"
        );
    }
    let whole = b"GET /agent HTTP/1.1\r\n\r\n";
    let caller = called(whole, hour, async |client| client.0.shutdown().await.expect("shut")).await;
    assert_eq!(caller, Some(Caller::Worker), "all of it was there before");
}

#[tokio::test]
async fn a_long_head_is_no_workers() {
    let hour = Duration::from_secs(3600);
    let long = "x".repeat(head::LIMIT);
    for (line, expected) in [
        (format!("GET /agent HTTP/1.1\r\nx: {long}"), Caller::LongWorker),
        (format!("GET /rtc?access_token={long}"), Caller::Other),
        (long.clone(), Caller::Other),
    ] {
        assert_eq!(called(line.as_bytes(), hour, async |_| {}).await, Some(expected), "{}", &line[..20]);
    }
}

#[tokio::test]
async fn all_else_goes_to_the_server_as_it_was() {
    let server = Server::start().await;
    let (front, _arrived) = front(&server, "/livekit?region=a");
    let mut client = Peer::dial(front.address).await;
    client
        .send(
            "POST /livekit/twirp/livekit.RoomService/ListRooms?x=%2F&y HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\
             Authorization: Bearer abc\r\nX-Custom: Ü1\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\n\
             Keep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: Basic eA==\r\nContent-Length: 4\r\n\r\nbody",
        )
        .await;
    let mut at_server = server.accept().await;
    let head = at_server.head().await;
    assert!(
        head.starts_with("POST /livekit/twirp/livekit.RoomService/ListRooms?x=%2F&y HTTP/1.1\r\n"),
        "{head}"
    );
    assert_eq!(header(&head, "host"), Some(server.address().to_string().as_str()));
    assert!(
        head.contains("\r\nAuthorization: Bearer abc\r\n") && head.contains("\r\nX-Custom: Ü1\r\n"),
        "{head}"
    );
    for dropped in ["connection", "x-mine", "keep-alive", "te", "proxy-authorization"] {
        assert_eq!(header(&head, dropped), None, "{head}");
    }
    assert_eq!(at_server.bytes(4).await, b"body");
    at_server
        .send(
            "HTTP/1.1 418 Teapot\r\nX-Answer: 42\r\nConnection: X-Theirs\r\nX-Theirs: 1\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 418 ") && head.contains("\r\nX-Answer: 42\r\n"), "{head}");
    assert_eq!((header(&head, "x-theirs"), header(&head, "transfer-encoding")), (None, Some("chunked")));
    assert_eq!(client.bytes(15).await, b"5\r\nshort\r\n0\r\n\r\n");
}

#[tokio::test]
async fn one_connection_carries_many_requests_and_then_a_worker() {
    let server = Server::start().await;
    let (front, mut arrived) = front(&server, "");
    let mut client = Peer::dial(front.address).await;
    let mut at_server = None;
    for number in 0..3 {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let at_server = match &mut at_server {
            Some(peer) => peer,
            none => none.insert(server.accept().await),
        };
        assert!(at_server.head().await.starts_with(&format!("GET /{number} ")));
        at_server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}")).await;
        assert_eq!(client.answer().await.1, number.to_string());
    }
    client
        .send("GET /agent?protocol=16 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: y\r\n\r\n")
        .await;
    let mut worker = worker(&mut arrived).await;
    let head = worker.head().await;
    assert!(
        head.starts_with("GET /agent?protocol=16 HTTP/1.1\r\n") && header(&head, "x") == Some("y"),
        "{head}"
    );
    assert_eq!((header(&head, "upgrade"), header(&head, "connection")), (Some("websocket"), Some("upgrade")));
    worker
        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\u{1}")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.bytes(1).await, [1]);
    client.send([2, 0, 3]).await;
    assert_eq!(worker.bytes(3).await, [2, 0, 3]);
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_no_workers() {
    let server = Server::start().await;
    let (front, _arrived) = front(&server, "");
    let mut client = Peer::dial(front.address).await;
    client.send("POST /agent HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert!(server.accept().await.head().await.starts_with("POST /agent HTTP/1.1\r\n"));
}

#[tokio::test]
async fn what_is_no_request_harms_nobody() {
    let server = Server::start().await;
    let (front, mut arrived) = front(&server, "");
    let long = "x".repeat(2 * head::LIMIT);
    for garbage in [
        "\u{16}\u{3}\u{1}\u{2}".to_owned(),
        "\r\n\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "GET /\u{0} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("{long}\r\n\r\n"),
        format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n{long}"),
    ] {
        let mut client = Peer::dial(front.address).await;
        client.send(&garbage).await;
        client.0.shutdown().await.expect("shut");
        let answer = rest(&mut client.0).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{garbage:.20}: {answer}");
    }
    let mut client = Peer::dial(front.address).await;
    client.send(format!("GET /agent HTTP/1.1\r\nx: {long}\r\n\r\n")).await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 431 ") && body.contains("8192 bytes"), "{head}{body}");
    let mut client = Peer::dial(front.address).await;
    client.send("GET /agent HTTP/1.1\r\n\r\n").await;
    worker(&mut arrived).await.head().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_in_one_line() {
    let server = Server::start().await;
    let (front, _arrived) = front(&server, "");
    let address = server.address();
    drop(server);
    let mut client = Peer::dial(front.address).await;
    client.send("GET /rtc HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(
        body.starts_with(&format!(
            "guard got no answer from the server: cannot reach {}:{}",
            address.ip(),
            address.port()
        )),
        "{body}"
    );
    assert!(body.ends_with('\n') && body.lines().count() == 1, "{body:?}");
    let request =
        "POST /twirp/livekit.RoomService/ListRooms HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    client.send(request).await;
    let (head, body) = client.answer().await;
    let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert!(head.starts_with("HTTP/1.1 502 ") && problem["code"] == "unavailable", "{head}{body}");
    let server = TcpListener::bind(address).await.expect("the same port");
    client.send(request).await;
    let (tcp, _) = in_time(server.accept()).await.expect("asked again");
    assert!(Peer(tcp).head().await.starts_with("POST "));
}

#[tokio::test]
async fn what_is_not_allowed_is_said_in_one_line_and_the_connection_stays() {
    let server = Server::start().await;
    let secrets = Secrets::held(keys(), Right::USUAL.to_vec()).expect("random numbers");
    let (front, _arrived) = start(server.dialler(""), Arc::new(secrets)).expect("started");
    let mut client = Peer::dial(front.address).await;
    client.send("GET /debug/rooms HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 403 ") && body.contains("\"/debug/rooms\""), "{head}{body}");
    assert!(body.ends_with('\n') && body.lines().count() == 1, "{body:?}");
    let path = "/twirp/livekit.RoomService/ListRooms";
    client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxx")).await;
    let (head, body) = client.answer().await;
    let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert!(head.starts_with("HTTP/1.1 401 ") && problem["code"] == "unauthenticated", "{head}{body}");
    client.send("GET /rtc?access_token=x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(server.accept().await.head().await.starts_with("GET /rtc?access_token=x "));
}

#[test]
fn the_log_has_neither_tokens_nor_secrets() {
    let secrets = Secrets::held(keys(), Right::USUAL.to_vec()).expect("random numbers");
    let passage = Passage {
        address: ([127, 0, 0, 1], 1).into(),
        host: HeaderValue::from_static("a"),
        prefix: String::new(),
        dialler: Dialler::new(Endpoint::parse("ws://127.0.0.1:1", false).expect("a URL")),
        secrets: Arc::new(secrets),
        workers: mpsc::unbounded_channel().0,
        relayed: Semaphore::new(1),
    };
    let log = logged(|| {
        for path in ["/x?access_token=sesame", "/twirp/livekit.RoomService/ListRooms?access_token=sesame"] {
            let request = hyper::Request::get(path).header("authorization", "Bearer sesame");
            let mut request = request.body(()).expect("a request").into_parts().0;
            assert!(passage.route(&mut request, true).is_err());
        }
    });
    assert!(log.contains("/twirp/livekit.RoomService/ListRooms") && !log.contains("sesame"), "{log}");
}

/// What `work` logs.
fn logged(work: impl FnOnce()) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines = file.reopen().expect("the same");
    let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(lines)).finish();
    tracing::subscriber::with_default(subscriber, work);
    std::fs::read_to_string(file.path()).expect("text")
}

#[tokio::test]
async fn the_port_closes_with_the_front() {
    let server = Server::start().await;
    let (front, _arrived) = front(&server, "");
    let mut client = Peer::dial(front.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut at_server = server.accept().await;
    at_server.head().await;
    drop(front);
    assert!(client.is_closed().await && at_server.is_closed().await);
}
