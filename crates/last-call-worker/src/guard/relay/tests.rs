//! The relay on a runtime that has no clock, so that a time-out of its own would panic.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::guard::rig::{Peer, Server, header, in_time};

/// A relay to `server` on a thread of its own, without time.
fn relayed_to(server: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a socket");
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, move |_| Ok(Hop::Here(server))));
            }
        });
    });
    address
}

#[tokio::test]
async fn a_body_of_32_mib_passes_both_ways_as_it_comes() {
    const PIECE: usize = 256 * 1024;
    const PIECES: usize = 128;
    let server = Server::start().await;
    let mut client = Peer::dial(relayed_to(server.address())).await;
    let length = PIECE * PIECES;
    client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
    let mut at_server = server.accept().await;
    at_server.head().await;
    at_server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
    client.head().await;
    // Each piece only after the one before has come back: who waits for more has not got it.
    for number in 0..PIECES {
        let piece = vec![u8::try_from(number).expect("small"); PIECE];
        client.send(&piece).await;
        assert!(at_server.bytes(PIECE).await == piece, "there, piece {number}");
        at_server.send(&piece).await;
        assert!(client.bytes(PIECE).await == piece, "back, piece {number}");
    }
}

#[tokio::test]
async fn a_side_that_does_not_read_stops_the_other() {
    // More than the kernel keeps for two connections.
    const LENGTH: usize = 128 << 20;
    let server = Server::start().await;
    let client = Peer::dial(relayed_to(server.address())).await;
    let (mut from_relay, mut to_relay) = client.0.into_split();
    let mut upload = tokio::spawn(async move {
        let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
        to_relay.write_all(head.as_bytes()).await.expect("sent");
        for _ in 0..LENGTH / (1 << 20) {
            to_relay.write_all(&vec![7; 1 << 20]).await.expect("sent");
        }
        to_relay
    });
    let mut at_server = server.accept().await;
    at_server.head().await;
    let early = tokio::time::timeout(std::time::Duration::from_secs(1), &mut upload).await;
    assert!(early.is_err(), "somebody keeps {LENGTH} bytes");
    let body = in_time(async {
        let mut buffer = vec![0; 1 << 20];
        let mut length = 0;
        while length < LENGTH {
            length += at_server.0.read(&mut buffer).await.expect("more");
        }
        length
    });
    assert_eq!(body.await, LENGTH);
    let _open = in_time(upload).await.expect("no panic");
    at_server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    let mut line = [0; 12];
    in_time(from_relay.read_exact(&mut line)).await.expect("an answer");
    assert_eq!(&line, b"HTTP/1.1 204");
}

#[tokio::test]
async fn an_upgrade_passes_what_is_no_http() {
    let server = Server::start().await;
    let mut client = Peer::dial(relayed_to(server.address())).await;
    client
        .send("GET /rtc?access_token=x HTTP/1.1\r\nHost: a\r\nconnection: keep-alive, UPGRADE\r\nupgrade: WebSocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        .await;
    let mut at_server = server.accept().await;
    let head = at_server.head().await;
    assert_eq!((header(&head, "connection"), header(&head, "upgrade")), (Some("upgrade"), Some("WebSocket")));
    assert_eq!(header(&head, "sec-websocket-extensions"), Some("permessage-deflate"));
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n";
    // Bytes behind the head are the protocol's already.
    at_server.send([answer.as_bytes(), &[0, 255, 1]].concat()).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(
        (header(&head, "upgrade"), header(&head, "sec-websocket-accept")),
        (Some("websocket"), Some("y"))
    );
    assert_eq!(client.bytes(3).await, [0, 255, 1]);
    client.send([9, 0]).await;
    assert_eq!(at_server.bytes(2).await, [9, 0]);
    client.0.shutdown().await.expect("shut");
    assert!(at_server.is_closed().await, "one way is over");
    at_server.send("bye").await;
    assert_eq!(client.bytes(3).await, b"bye");
    drop(at_server);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_upgrade_that_the_server_declines_is_an_answer() {
    let server = Server::start().await;
    let mut client = Peer::dial(relayed_to(server.address())).await;
    client.send("GET /rtc HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let mut at_server = server.accept().await;
    at_server.head().await;
    at_server.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 401 ") && body == "no", "{head}");
}

#[tokio::test]
async fn both_connections_end_together() {
    let server = Server::start().await;
    let relay = relayed_to(server.address());
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    let mut client = Peer::dial(relay).await;
    client.send(request).await;
    let mut at_server = server.accept().await;
    at_server.head().await;
    drop(client);
    assert!(at_server.is_closed().await, "the client leaves amid a call");

    let mut client = Peer::dial(relay).await;
    client.send(request).await;
    let mut at_server = server.accept().await;
    at_server.head().await;
    at_server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.answer().await;
    drop(at_server);
    assert!(client.is_closed().await, "the server closes a connection that idles");

    let mut client = Peer::dial(relay).await;
    client.send(request).await;
    let mut at_server = server.accept().await;
    at_server.head().await;
    drop(at_server);
    let (head, body) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 502 ") && body.contains("the connection broke"), "{head}{body}");

    let mut client = Peer::dial(relay).await;
    client.send(request).await;
    let mut at_server = server.accept().await;
    at_server.head().await;
    at_server.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort").await;
    drop(at_server);
    client.head().await;
    assert_eq!(client.bytes(5).await, b"short");
    assert!(client.is_closed().await, "an answer that breaks off does so for the client");
}
