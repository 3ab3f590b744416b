//! Sockets as they are, and what a client says of itself: traps that rtc.md numbers.

use super::*;
use crate::session::Session;

/// rtc.md, G5: a server has one port for all, so that only a socket tells whose a datagram is.
#[tokio::test]
async fn g5_each_connection_has_a_socket_of_its_own() {
    for (single, count) in [(true, 1), (false, 2)] {
        let peers: Vec<Which> = Session::new(Instant::now(), false, single).peers().collect();
        let sockets = Sockets::bind("ws://127.0.0.1", &peers).await;
        let ports: std::collections::BTreeSet<u16> =
            sockets.candidates().map(|(_, candidate)| candidate.addr().port()).collect();
        assert_eq!((peers.len(), ports.len()), (count, count));
    }
}

/// rtc.md, G6: more than Linux's default takes, less than the default bound of what a program may ask for.
#[tokio::test]
async fn g6_a_burst_waits_until_it_is_read() {
    const BURST: usize = 150;
    let (socket, port) = bind_udp(Ipv4Addr::LOCALHOST.into()).expect("a socket");
    let sender = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    for _ in 0..BURST {
        sender.send_to(&[0; 1200], (Ipv4Addr::LOCALHOST, port)).expect("sent");
    }
    socket.readable().await.expect("something to read");
    let mut buffer = [0; DATAGRAM];
    let taken = std::iter::from_fn(|| socket.try_recv_from(&mut buffer).ok()).count();
    assert_eq!(taken, BURST);
}

/// rtc.md, G7 and G8: from protocol 18 on the server makes the channels; what is announced is sent.
#[test]
fn g7_g8_nothing_is_announced_that_is_not_understood() {
    let dial = Dial { url: String::new(), token: String::new(), auto_subscribe: true, single: true };
    let options = options(&dial);
    assert!(options.protocol_version < 18, "{}", options.protocol_version);
    assert_eq!((options.client_protocol, options.client_capabilities.len()), (0, 0));
}
