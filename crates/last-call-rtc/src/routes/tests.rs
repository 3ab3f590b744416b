//! When ways beside UDP are tried and given up, and what goes through a stream. (Relays: `turn/tests.rs`.)

use str0m::net::DatagramSend;

use super::*;

const OWN: &str = "192.0.2.1:40000";
const SERVER: &str = "192.0.2.2:7881";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn servers() -> Vec<IceServer> {
    let urls = ["turn:relay.test:3478?transport=udp", "turns:relay.test?transport=tcp", "stun:stun.test"];
    let urls = urls.map(str::to_owned).to_vec();
    vec![IceServer { urls, username: "user".to_owned(), credential: "secret".to_owned() }]
}

/// Two connections to be made, to a server with a relay and TCP.
fn begun(relay_only: bool) -> (Routes, Instant) {
    let (mut routes, now) = (Routes::new(relay_only), Instant::now());
    routes.set_relays(&servers());
    routes.begin(now, [Which::Publisher, Which::Subscriber].into_iter());
    routes.passive(Which::Publisher, addr(SERVER));
    routes.passive(Which::Publisher, addr(SERVER));
    (routes, now)
}

/// The transports of the sockets that are asked for.
fn opened(routes: &mut Routes) -> Vec<(RouteId, Transport)> {
    let outputs = std::iter::from_fn(|| routes.poll_output());
    let open = |output| {
        let RouteOutput::Socket(id, SocketAction::Open(endpoint)) = output else { return None };
        Some((id, endpoint.transport))
    };
    outputs.filter_map(open).collect()
}

fn closed(routes: &mut Routes) -> usize {
    let outputs = std::iter::from_fn(|| routes.poll_output());
    outputs.filter(|output| matches!(output, RouteOutput::Socket(_, SocketAction::Close))).count()
}

fn packet(contents: &[u8]) -> Transmit {
    let contents = DatagramSend::from(contents.to_vec());
    Transmit { proto: Protocol::Tcp, source: addr(OWN), destination: addr(SERVER), contents }
}

/// The only way of TCP, open.
fn stream(routes: &mut Routes, now: Instant) -> RouteId {
    let (id, _) = *opened(routes).iter().find(|(_, kind)| *kind == Transport::Tcp).expect("a stream");
    routes.news(now, id, RouteNews::Opened { local: addr(OWN), remote: addr(SERVER) });
    assert!(matches!(routes.poll_output(), Some(RouteOutput::Candidate(Which::Publisher, _))));
    id
}

#[test]
fn udp_has_a_second_for_itself_and_then_everything_is_tried_once() {
    let (mut routes, now) = begun(false);
    assert_eq!(routes.deadline(), Some(now + ALONE));
    routes.timeout(now + ALONE / 2);
    assert_eq!(opened(&mut routes), []);
    routes.timeout(now + ALONE);
    let kinds: Vec<Transport> = opened(&mut routes).into_iter().map(|(_, transport)| transport).collect();
    let relays = [Transport::Udp, Transport::Tls];
    assert_eq!(kinds, [&[Transport::Tcp][..], &relays, &relays].concat(), "a relay for each connection");
    routes.seek(now + ALONE);
    routes.timeout(now + ALONE * 3);
    assert_eq!(opened(&mut routes), []);
    routes.passive(Which::Subscriber, addr(SERVER));
    assert_eq!(opened(&mut routes).len(), 1, "news of where the server can be reached too");
}

#[test]
fn a_connection_that_stands_in_time_tries_nothing() {
    let (mut routes, now) = begun(false);
    routes.connected(now + ALONE / 2);
    assert_eq!(routes.deadline(), None);
    routes.timeout(now + ALONE * 2);
    assert_eq!(opened(&mut routes), []);
}

#[test]
fn relays_alone_are_tried_at_once() {
    let (mut routes, now) = begun(true);
    routes.timeout(now);
    let opened = opened(&mut routes);
    assert_eq!(opened.len(), 4);
    assert!(opened.iter().all(|(_, transport)| *transport != Transport::Tcp));
}

#[test]
fn what_carries_nothing_but_checks_is_given_up() {
    for (contents, expected) in [(&[0, 1][..], 5), (&[0x80, 1][..], 4)] {
        let (mut routes, now) = begun(false);
        routes.timeout(now + ALONE);
        stream(&mut routes, now);
        routes.connected(now + ALONE);
        assert!(routes.send(now, Which::Publisher, &packet(contents)));
        routes.timeout(now + ALONE + SETTLE);
        assert_eq!(closed(&mut routes), expected);
    }
}

#[test]
fn packets_are_framed_and_cut_out_again() {
    let (mut routes, now) = begun(false);
    routes.timeout(now + ALONE);
    let id = stream(&mut routes, now);
    assert!(routes.send(now, Which::Publisher, &packet(b"hello")));
    let Some(RouteOutput::Socket(_, SocketAction::Write(bytes))) = routes.poll_output() else {
        panic!("nothing written")
    };
    for part in bytes.chunks(3) {
        routes.news(now, id, RouteNews::Received(part.to_vec()));
    }
    let Some(RouteOutput::Packet { which, source, destination, payload, .. }) = routes.poll_output() else {
        panic!("nothing came")
    };
    assert_eq!((which, source, destination), (Which::Publisher, addr(SERVER), addr(OWN)));
    assert_eq!(payload, b"hello");
    assert!(
        routes.send(now, Which::Subscriber, &packet(b"x")),
        "of another connection: lost, and not sent by UDP"
    );
    assert!(routes.poll_output().is_none());
    let datagram = Transmit { proto: Protocol::Udp, ..packet(b"x") };
    assert!(!routes.send(now, Which::Publisher, &datagram));
}

#[test]
fn a_new_ice_session_needs_new_streams_and_keeps_its_relays() {
    let (mut routes, now) = begun(false);
    routes.timeout(now + ALONE);
    stream(&mut routes, now);
    routes.connected(now + ALONE);
    routes.restarted(now + ALONE);
    assert_eq!(closed(&mut routes), 1);
    routes.passive(Which::Publisher, addr(SERVER));
    routes.timeout(now + ALONE * 2);
    assert_eq!(opened(&mut routes).len(), 1, "the stream; the relays are there");
}

#[test]
fn a_socket_that_breaks_is_gone_for_ice_too_and_the_end_closes_all() {
    let (mut routes, now) = begun(false);
    routes.timeout(now + ALONE);
    let id = stream(&mut routes, now);
    routes.news(now, id, RouteNews::Closed);
    let outputs: Vec<_> = std::iter::from_fn(|| routes.poll_output()).collect();
    assert!(outputs.iter().any(|output| matches!(output, RouteOutput::Gone(Which::Publisher, _))));
    routes.news(now, id, RouteNews::Received(vec![0, 1, 2]));
    assert!(routes.poll_output().is_none());
    routes.end(now);
    assert_eq!(closed(&mut routes), 4);
    assert_eq!(routes.deadline(), None);
}

#[test]
fn a_server_that_names_ever_more_ways_is_not_followed() {
    let (mut routes, now) = begun(false);
    let urls = (0..1000).map(|index| format!("turn:relay-{index}.test")).collect();
    routes.set_relays(&[IceServer { urls, ..IceServer::default() }]);
    (1..1000).for_each(|port| routes.passive(Which::Publisher, SocketAddr::from(([192, 0, 2, 9], port))));
    routes.timeout(now + ALONE);
    assert_eq!(opened(&mut routes).len(), MOST + 2 * MOST);
}
