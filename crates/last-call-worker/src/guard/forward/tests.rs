//! A stand-in between a client, guard's front, and a company's proxy, all on loopback.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::guard::front;
use crate::guard::rig::{Peer, Server, header, in_time, pass};

/// All that stands between: the server nobody asks, guard's front, and the stand-in for `company`.
struct Rig {
    front: Front,
    workers: mpsc::UnboundedReceiver<std::net::TcpStream>,
    company: Server,
    forward: Forward,
}

impl Rig {
    async fn start() -> Self {
        let (server, company) = (Server::start().await, Server::start().await);
        let (front, workers) = front::start(server.dialler(""), Arc::new(pass())).expect("started");
        let url = format!("http://user:s%40same@{}", company.address());
        let variable = |name: &str| (name == "HTTPS_PROXY").then(|| url.clone());
        let forward = start(&front, variable).expect("started").expect("a stand-in");
        Self { front, workers, company, forward }
    }

    async fn dial(&self) -> Peer {
        Peer::dial(self.forward.stand_ins[0].address).await
    }

    async fn worker(&mut self) -> Peer {
        let tcp = in_time(self.workers.recv()).await.expect("a worker");
        Peer(TcpStream::from_std(tcp).expect("a socket"))
    }
}

#[tokio::test]
async fn a_worker_that_asks_its_proxy_for_guard_finds_guard() {
    let mut rig = Rig::start().await;
    let port = rig.front.address.port();
    for authority in [format!("ws://127.0.0.1:{port}"), format!("http://localhost:{port}")] {
        let mut client = rig.dial().await;
        let head = "Proxy-Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket";
        client.send(format!("GET {authority}/agent?x=y HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n")).await;
        let mut worker = rig.worker().await;
        let head = worker.head().await;
        assert!(head.starts_with("GET /agent?x=y HTTP/1.1\r\n"), "{head}");
        assert_eq!(
            (header(&head, "upgrade"), header(&head, "proxy-authorization")),
            (Some("websocket"), None)
        );
        worker
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")
            .await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        assert_eq!(client.bytes(2).await, b"hi");
    }
    let mut client = rig.dial().await;
    client.send(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    client.send("GET /agent HTTP/1.1\r\n\r\n").await;
    assert_eq!(rig.worker().await.head().await, "GET /agent HTTP/1.1\r\n\r\n");
}

#[tokio::test]
async fn all_else_is_asked_of_the_proxy_with_its_password() {
    let rig = Rig::start().await;
    let credentials = Some("Basic dXNlcjpzQHNhbWU=");
    let mut client = rig.dial().await;
    let mut company: Option<Peer> = None;
    for path in ["/a?b=c", "/d"] {
        client.send(format!("GET http://example.com{path} HTTP/1.1\r\nHost: example.com\r\n\r\n")).await;
        let company = match &mut company {
            Some(company) => company,
            none => none.insert(rig.company.accept().await),
        };
        let head = company.head().await;
        assert!(head.starts_with(&format!("GET http://example.com{path} HTTP/1.1\r\n")), "{head}");
        assert_eq!(
            (header(&head, "host"), header(&head, "proxy-authorization")),
            (Some("example.com"), credentials)
        );
        company.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.answer().await.1, "ok");
    }
    let mut client = rig.dial().await;
    client.send("CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n").await;
    let mut company = rig.company.accept().await;
    let head = company.head().await;
    assert!(head.starts_with("CONNECT api.example.com:443 HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "proxy-authorization"), credentials);
    company.send("HTTP/1.1 200 Connection established\r\n\r\n\u{1}").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(client.bytes(1).await, [1]);
    client.send([22, 3]).await;
    assert_eq!(company.bytes(2).await, [22, 3]);
}

#[tokio::test]
async fn one_connection_may_ask_for_both() {
    let mut rig = Rig::start().await;
    let mut client = rig.dial().await;
    client.send("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
    let mut company = rig.company.accept().await;
    company.head().await;
    company.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.answer().await;
    let guard = rig.front.address;
    client.send(format!("GET ws://{guard}/agent HTTP/1.1\r\nHost: {guard}\r\n\r\n")).await;
    assert!(rig.worker().await.head().await.starts_with("GET /agent HTTP/1.1\r\n"));
}

#[tokio::test]
async fn what_the_proxy_refuses_is_refused() {
    let rig = Rig::start().await;
    let mut client = rig.dial().await;
    client.send("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n").await;
    let mut company = rig.company.accept().await;
    company.head().await;
    company.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 403 ") && body == "no", "{head}{body}");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("stand-in for a proxy"), "{head}{body}");
    let Rig { front, workers: _workers, company, forward } = rig;
    drop(company);
    let mut client = Peer::dial(forward.stand_ins[0].address).await;
    client.send("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 502 ") && body.contains("no answer from the proxy"), "{head}{body}");
    assert!(!body.contains("same") && !format!("{forward:?}{front:?}").contains("same"), "{body}");
}

#[tokio::test]
async fn the_child_has_the_stand_ins_in_the_variables_that_were_there() {
    let server = Server::start().await;
    let (front, _workers) = front::start(server.dialler(""), Arc::new(pass())).expect("started");
    let set = BTreeMap::from([
        ("http_proxy", "proxy.example:3128"),
        ("HTTPS_PROXY", "http://user:sesame@proxy.example"),
        ("https_proxy", "socks5://proxy.example"),
        ("HTTP_PROXY", ""),
        ("NO_PROXY", "localhost"),
        ("ALL_PROXY", "http://proxy.example"),
    ]);
    let variable = |name: &str| set.get(name).map(ToString::to_string);
    let forward = start(&front, variable).expect("started").expect("stand-ins");
    let mut command = Command::new("true");
    forward.environment(&mut command);
    let given: BTreeMap<_, _> = command.get_envs().collect();
    let names: Vec<_> = given.keys().copied().collect();
    assert_eq!(names, [OsStr::new("HTTPS_PROXY"), OsStr::new("http_proxy")]);
    for value in given.values() {
        let value = value.and_then(OsStr::to_str).expect("text");
        assert!(value.starts_with("http://127.0.0.1:"), "{value}");
    }
    assert!(start(&front, |_| None).expect("started").is_none());
    let address = forward.stand_ins[0].address;
    let mut client = Peer::dial(address).await;
    drop(forward);
    assert!(client.is_closed().await);
}
