//! The stub, driven by a WebSocket client that is not ours.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use last_call_testkit::{Certificate, Cut, Event, Job, Options, Stub, What, proto};
use livekit_protocol::server_message::Message as ToWorker;
use livekit_protocol::worker_message::Message as FromWorker;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message as _;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

const LONG: Duration = Duration::from_secs(30);

type Socket = WebSocket<TcpStream>;

fn bytes(message: FromWorker) -> Message {
    Message::binary(proto::WorkerMessage { message: Some(message) }.encode_to_vec())
}

fn register() -> Message {
    bytes(FromWorker::Register(proto::RegisterWorkerRequest {
        agent_name: "waiter".into(),
        ..Default::default()
    }))
}

fn full() -> Message {
    let status = proto::UpdateWorkerStatus { status: Some(1), draining: true, ..Default::default() };
    bytes(FromWorker::UpdateWorker(status))
}

fn answer(job_id: &str, available: bool) -> Message {
    let job_id = job_id.to_owned();
    bytes(FromWorker::Availability(proto::AvailabilityResponse { job_id, available, ..Default::default() }))
}

fn connect(stub: &Stub, token: Option<&str>) -> Result<Socket> {
    let stream = TcpStream::connect(stub.address())?;
    stream.set_read_timeout(Some(LONG))?;
    stream.set_nodelay(true)?;
    let mut request = format!("{}/agent?protocol=1", stub.url()).into_client_request()?;
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        request.headers_mut().insert("authorization", value);
    }
    let (socket, _) = client(request, stream).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(socket)
}

/// The next message of the stub.
fn next(socket: &mut Socket) -> Result<ToWorker> {
    loop {
        if let Message::Binary(payload) = socket.read()? {
            return proto::ServerMessage::decode(payload)?.message.context("an empty message");
        }
    }
}

fn registered(stub: &Stub) -> Result<Socket> {
    let mut socket = connect(stub, None)?;
    socket.send(register())?;
    assert!(matches!(next(&mut socket)?, ToWorker::Register(_)));
    Ok(socket)
}

#[test]
fn a_job_goes_from_its_offer_to_its_termination() -> Result<()> {
    let stub = Stub::auto()?;
    let mut worker = registered(&stub)?;
    stub.offer(Job::new("J1").room("kitchen").publisher("guest").attribute("lineage", "D0"))?;
    let ToWorker::Availability(offer) = next(&mut worker)? else { anyhow::bail!("no offer") };
    let job = offer.job.context("no job")?;
    assert_eq!((job.id.as_str(), job.room.context("no room")?.name.as_str()), ("J1", "kitchen"));
    assert_eq!(job.participant.context("nobody")?.identity, "guest");
    worker.send(answer("J1", true))?;
    let ToWorker::Assignment(assigned) = next(&mut worker)? else { anyhow::bail!("no assignment") };
    assert!(!assigned.token.is_empty());
    stub.terminate("J1")?;
    assert!(matches!(next(&mut worker)?, ToWorker::Termination(ended) if ended.job_id == "J1"));
    assert!(stub.offers()[0].answer.context("no answer")?.available);
    Ok(())
}

/// The read that brought each message of the worker.
fn reads(stub: &Stub, count: usize) -> Result<Vec<u64>> {
    let mut reads = Vec::new();
    stub.wait_for(
        |event| {
            if let What::Message { read, .. } = event.what {
                reads.push(read);
            }
            (reads.len() == count).then_some(())
        },
        LONG,
    )?;
    Ok(reads)
}

#[test]
fn frames_of_one_write_are_told_from_frames_of_two() -> Result<()> {
    let stub = Stub::start(Options::default())?;
    let mut together = connect(&stub, None)?;
    together.write(register())?;
    together.write(full())?;
    together.flush()?;
    let one = reads(&stub, 2)?;
    assert_eq!(one[0], one[1]);

    let stub = Stub::start(Options::default())?;
    let mut apart = connect(&stub, None)?;
    apart.send(register())?;
    reads(&stub, 1)?;
    apart.send(full())?;
    let two = reads(&stub, 2)?;
    assert_ne!(two[0], two[1]);
    Ok(())
}

#[test]
fn the_upgrade_is_kept_without_showing_its_token() -> Result<()> {
    let stub = Stub::start(Options::default())?;
    let _worker = connect(&stub, Some("sesame"))?;
    let upgrade = stub.wait_for(
        |event| if let What::Connected(upgrade) = &event.what { Some(upgrade.clone()) } else { None },
        LONG,
    )?;
    assert_eq!(upgrade.target, "/agent?protocol=1");
    assert_eq!(upgrade.token(), Some("sesame"));
    assert!(!format!("{:?}", stub.events()).contains("sesame"));
    Ok(())
}

#[test]
fn only_agents_with_the_right_key_get_in() -> Result<()> {
    let keys = Some(("key".to_owned(), "a-secret-that-is-long-enough-for-all".to_owned()));
    let stub = Stub::start(Options { keys, ..Options::auto() })?;
    let token = |secret: &str, agent: bool| {
        let grants = VideoGrants { agent, ..Default::default() };
        AccessToken::with_api_key("key", secret).with_grants(grants).to_jwt()
    };
    let right = "a-secret-that-is-long-enough-for-all";
    assert!(connect(&stub, Some(&token(right, true)?)).is_ok());
    for refused in [Some(token(right, false)?), Some(token("wrong", true)?), None] {
        let error = connect(&stub, refused.as_deref()).err().context("let in")?;
        assert!(error.to_string().contains("401"), "{error:#}");
    }
    Ok(())
}

#[test]
fn upgrades_are_refused_and_accepted_again() -> Result<()> {
    let stub = Stub::auto()?;
    stub.refuse(503);
    let error = connect(&stub, None).err().context("let in")?;
    assert!(error.to_string().contains("503"), "{error:#}");
    stub.accept();
    connect(&stub, None)?;
    Ok(())
}

#[test]
fn a_closed_port_refuses_and_leaves_open_connections_alone() -> Result<()> {
    let stub = Stub::auto()?;
    let mut worker = registered(&stub)?;
    stub.close_port()?;
    assert!(TcpStream::connect(stub.address()).is_err());
    stub.offer(Job::new("J1"))?;
    assert!(matches!(next(&mut worker)?, ToWorker::Availability(_)));
    stub.reopen()?;
    registered(&stub)?;
    Ok(())
}

#[test]
fn a_reset_and_a_close_differ() -> Result<()> {
    let stub = Stub::auto()?;
    let mut worker = registered(&stub)?;
    stub.drop_connection(stub.registered().context("nobody")?, Cut::Rst)?;
    let reset = worker.read().expect_err("the socket is gone");
    assert!(
        matches!(&reset, Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset),
        "{reset}"
    );

    let mut worker = registered(&stub)?;
    stub.drop_connection(stub.registered().context("nobody")?, Cut::Fin)?;
    let closed = worker.read().expect_err("the socket is gone");
    assert!(closed.to_string().contains("without closing handshake"), "{closed}");
    Ok(())
}

#[test]
fn a_frozen_connection_stops_the_worker_until_it_thaws() -> Result<()> {
    let stub = Stub::start(Options { receive_buffer: Some(4096), ..Options::auto() })?;
    let mut worker = registered(&stub)?;
    let connection = stub.registered().context("nobody")?;
    stub.freeze(connection)?;
    worker.get_ref().set_write_timeout(Some(Duration::from_millis(200)))?;
    let mut text = Message::text("x".repeat(1 << 16));
    let stuck = loop {
        match worker.send(text) {
            Ok(()) => text = Message::text("x".repeat(1 << 16)),
            Err(error) => break error,
        }
    };
    assert!(matches!(&stuck, Error::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{stuck}");
    stub.thaw(connection)?;
    worker.get_ref().set_write_timeout(None)?;
    worker.flush()?;
    stub.wait_for(|event| matches!(event.what, What::Text { .. }).then_some(()), LONG)
}

#[test]
fn pings_are_answered_until_they_are_not() -> Result<()> {
    let stub = Stub::auto()?;
    let mut worker = registered(&stub)?;
    worker.send(Message::Ping("one".into()))?;
    assert_eq!(worker.read()?, Message::Pong("one".into()));
    stub.stop_pongs();
    worker.send(Message::Ping("two".into()))?;
    stub.wait_for(
        |event| matches!(&event.what, What::Ping { payload, .. } if payload == "two").then_some(()),
        LONG,
    )?;
    stub.offer(Job::new("J1"))?;
    assert!(matches!(worker.read()?, Message::Binary(_)), "the offer, and no pong before it");
    Ok(())
}

#[test]
fn garbage_is_recorded_and_garbage_is_sent() -> Result<()> {
    let stub = Stub::auto()?;
    let mut worker = registered(&stub)?;
    worker.send(Message::binary(vec![0xff; 3]))?;
    stub.wait_for(|event| matches!(event.what, What::Garbled { .. }).then_some(()), LONG)?;
    let connection = stub.registered().context("nobody")?;
    stub.send_text(connection, "not for you")?;
    assert_eq!(worker.read()?, Message::text("not for you"));
    stub.send_raw(connection, [0xff, 0x00])?;
    assert!(worker.read().is_err());
    Ok(())
}

/// Answers offers until the stub goes: yes to every third, and nothing at all to J-numbers that end in 7.
fn worker_loop(mut socket: Socket) {
    while let Ok(message) = next(&mut socket) {
        let ToWorker::Availability(proto::AvailabilityRequest { job: Some(job), .. }) = message else {
            continue;
        };
        let number =
            job.id.rsplit('-').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
        if number % 10 != 7 && socket.send(answer(&job.id, number % 3 == 0)).is_err() {
            return;
        }
    }
}

#[test]
fn a_storm_counts_what_became_of_it() -> Result<()> {
    let stub = Stub::auto()?;
    let worker = registered(&stub)?;
    let thread = std::thread::spawn(move || worker_loop(worker));
    let storm = stub.storm(5_000, 1_000);
    let tally = storm.finish(LONG, Duration::from_millis(300))?;
    assert_eq!(
        (tally.offered, tally.unanswered, tally.repeated, tally.terminated),
        (1_000, 100, 0, 0),
        "{tally}"
    );
    assert_eq!((tally.accepted, tally.declined), (301, 599), "{tally}");
    assert_eq!(tally.latencies.count(), 900);
    let assigned = |event: &&Event| matches!(event.what, What::Sent(ToWorker::Assignment(_)));
    assert_eq!(stub.events().iter().filter(assigned).count(), 301);
    drop(stub);
    thread.join().ok().context("the worker panicked")
}

#[test]
fn a_stopped_storm_offers_no_more() -> Result<()> {
    let stub = Stub::auto()?;
    let _silent = registered(&stub)?;
    let storm = stub.storm(1_000, u64::MAX);
    stub.wait_for(|event| matches!(event.what, What::Sent(ToWorker::Availability(_))).then_some(()), LONG)?;
    storm.stop();
    let tally = storm.finish(LONG, Duration::ZERO)?;
    assert_eq!(tally.unanswered, tally.offered);
    assert!(tally.offered > 0);
    Ok(())
}

#[test]
fn a_hung_upgrade_is_never_answered() -> Result<()> {
    let stub = Stub::auto()?;
    stub.hang_upgrade();
    let mut stream = TcpStream::connect(stub.address())?;
    stream.write_all(
        b"GET /agent HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    stub.wait_for(|event| matches!(event.what, What::Hung(_)).then_some(()), LONG)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    assert_eq!(stream.read(&mut [0]).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
    Ok(())
}

#[test]
fn a_worker_is_asked_to_go_away() -> Result<()> {
    let stub = Stub::auto()?;
    let mut worker = registered(&stub)?;
    stub.go_away(stub.registered().context("nobody")?, "closing time")?;
    assert!(matches!(next(&mut worker)?, ToWorker::GoAway(asked) if asked.reason == "closing time"));
    Ok(())
}

#[test]
fn tls_shows_the_certificate_it_was_given() -> Result<()> {
    for (certificate, trusted) in [
        (Certificate::localhost()?, true),
        (Certificate::expired()?, false),
        (Certificate::for_host("bar.test")?, false),
    ] {
        let pem = certificate.pem().to_owned();
        let stub = Stub::start(Options { certificate: Some(certificate), ..Options::auto() })?;
        assert!(stub.url().starts_with("wss://"));
        assert_eq!(handshake(&stub, &pem).is_ok(), trusted);
    }
    Ok(())
}

/// A WebSocket over TLS that trusts this certificate only.
fn handshake(stub: &Stub, pem: &str) -> Result<()> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes())?)?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = rustls::ClientConnection::new(config.into(), "127.0.0.1".try_into()?)?;
    let stream = rustls::StreamOwned::new(tls, TcpStream::connect(stub.address())?);
    let (mut socket, _) =
        client(format!("{}/agent", stub.url()), stream).map_err(|error| anyhow::anyhow!("{error}"))?;
    socket.send(register())?;
    assert!(socket.read()?.is_binary());
    Ok(())
}

#[test]
fn fragments_make_one_message() -> Result<()> {
    let stub = Stub::auto()?;
    let mut worker = connect(&stub, None)?;
    // The same frame in two halves: no client library sends that by itself.
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let Message::Binary(whole) = register() else { anyhow::bail!("not binary") };
    let (first, second) = whole.split_at(whole.len() / 2);
    worker.send(Message::Frame(Frame::message(first.to_vec(), OpCode::Data(Data::Binary), false)))?;
    worker.send(Message::Frame(Frame::message(second.to_vec(), OpCode::Data(Data::Continue), true)))?;
    assert!(matches!(next(&mut worker)?, ToWorker::Register(_)));
    Ok(())
}
