//! The relay: what arrives, when, in which order, and how it ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use last_call_testkit::{Cut, Direction, Faults, Frame, Options, Relay, Stub, Verdict, What};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

const LONG: Duration = Duration::from_secs(30);

/// A client and a server with the relay between them.
fn pair() -> Result<(TcpStream, Relay, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let relay = Relay::start(listener.local_addr()?)?;
    let client = TcpStream::connect(relay.address())?;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(LONG))?;
    }
    Ok((client, relay, server))
}

fn read(stream: &mut TcpStream, count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Nothing has arrived, although there was time for it.
fn silent(stream: &mut TcpStream) -> Result<bool> {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let read = stream.read(&mut [0]);
    stream.set_read_timeout(Some(LONG))?;
    Ok(matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock))
}

#[test]
fn without_faults_every_byte_arrives_both_ways() -> Result<()> {
    let (mut client, relay, mut server) = pair()?;
    let many: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let sent = many.clone();
    let writer = std::thread::spawn(move || client.write_all(&sent).map(|()| client));
    assert!(read(&mut server, many.len())? == many);
    let mut client = writer.join().ok().context("the writer panicked")??;
    server.write_all(b"back")?;
    assert_eq!(read(&mut client, 4)?, b"back");
    assert_eq!(relay.arrived(Direction::ToServer), many.len() as u64);
    Ok(())
}

#[test]
fn a_delay_delays_one_way_only() -> Result<()> {
    let (mut client, relay, mut server) = pair()?;
    let delay = Duration::from_millis(300);
    relay.set(
        Direction::ToServer,
        Faults { delay, jitter: Duration::from_millis(50), seed: 7, ..Faults::default() },
    );
    let start = Instant::now();
    client.write_all(b"there")?;
    assert_eq!(read(&mut server, 5)?, b"there");
    let there = start.elapsed();
    assert!(there >= delay, "{there:?}");
    let start = Instant::now();
    server.write_all(b"back")?;
    read(&mut client, 4)?;
    assert!(start.elapsed() < there);
    Ok(())
}

#[test]
fn a_trickle_comes_byte_by_byte() -> Result<()> {
    let (mut client, relay, mut server) = pair()?;
    relay.set(Direction::ToServer, Faults::trickle());
    client.write_all(b"slowly")?;
    let mut buffer = [0; 6];
    assert!(server.read(&mut buffer)? < 6);
    Ok(())
}

#[test]
fn a_rate_bounds_the_bytes_of_a_second() -> Result<()> {
    let (mut client, relay, mut server) = pair()?;
    relay.set(Direction::ToServer, Faults { rate: Some(10_000), ..Faults::default() });
    let start = Instant::now();
    client.write_all(&[0; 4_000])?;
    read(&mut server, 4_000)?;
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    Ok(())
}

#[test]
fn a_freeze_stops_in_the_middle_until_it_thaws() -> Result<()> {
    let (mut client, relay, mut server) = pair()?;
    relay.freeze_after(Direction::ToServer, 3);
    client.write_all(b"frozen")?;
    assert_eq!(read(&mut server, 3)?, b"fro");
    assert!(silent(&mut server)?);
    server.write_all(b"back")?;
    assert_eq!(read(&mut client, 4)?, b"back");
    relay.thaw(Direction::ToServer);
    assert_eq!(read(&mut server, 3)?, b"zen");
    Ok(())
}

#[test]
fn a_blackhole_swallows_one_way() -> Result<()> {
    let (mut client, relay, mut server) = pair()?;
    relay.set(Direction::ToServer, Faults { blackhole: true, ..Faults::default() });
    client.write_all(b"lost")?;
    assert!(silent(&mut server)?);
    server.write_all(b"back")?;
    assert_eq!(read(&mut client, 4)?, b"back");
    relay.set(Direction::ToServer, Faults::default());
    client.write_all(b"found")?;
    assert_eq!(read(&mut server, 5)?, b"found");
    Ok(())
}

#[test]
fn a_half_close_ends_one_way() -> Result<()> {
    let (mut client, relay, mut server) = pair()?;
    relay.half_close(Direction::ToServer);
    assert_eq!(server.read(&mut [0])?, 0);
    server.write_all(b"back")?;
    assert_eq!(read(&mut client, 4)?, b"back");
    Ok(())
}

#[test]
fn an_end_of_one_side_is_an_end_for_the_other() -> Result<()> {
    let (client, _relay, mut server) = pair()?;
    drop(client);
    assert_eq!(server.read(&mut [0])?, 0);
    Ok(())
}

#[test]
fn a_cut_reaches_both_sides() -> Result<()> {
    let (mut client, relay, mut server) = pair()?;
    relay.cut(Cut::Rst);
    for stream in [&mut client, &mut server] {
        let error = stream.read(&mut [0]).expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let (mut client, relay, mut server) = pair()?;
    relay.cut(Cut::Fin);
    assert_eq!((client.read(&mut [0])?, server.read(&mut [0])?), (0, 0));
    Ok(())
}

#[test]
fn an_abandoned_connection_is_silent_and_has_no_end() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let relay = Relay::start(listener.local_addr()?)?;
    let mut client = TcpStream::connect(relay.address())?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"x")?;
    assert_eq!(read(&mut server, 1)?, b"x");
    relay.abandon();
    client.write_all(b"lost")?;
    assert!(silent(&mut server)?);
    server.write_all(b"lost")?;
    assert!(silent(&mut client)?);
    drop(client);
    assert!(silent(&mut server)?, "the end of one side reached the other");

    let mut next = TcpStream::connect(relay.address())?;
    let (mut server, _) = listener.accept()?;
    next.write_all(b"y")?;
    assert_eq!(read(&mut server, 1)?, b"y");
    Ok(())
}

#[test]
fn a_client_that_leaves_a_frozen_connection_has_left_and_is_not_heard() -> Result<()> {
    let (client, relay, mut server) = pair()?;
    relay.freeze(Direction::ToServer);
    assert!(relay.left().is_empty());
    drop(client);
    assert!(silent(&mut server)?);
    assert!(relay.left().contains(&1));
    relay.thaw(Direction::ToServer);
    assert_eq!(server.read(&mut [0])?, 0);
    Ok(())
}

/// A client of a stub, with the script between them.
fn scripted(
    judge: impl FnMut(&Frame) -> Verdict + Send + 'static,
) -> Result<(WebSocket<TcpStream>, Relay, Stub)> {
    let stub = Stub::start(Options::default())?;
    let relay = Relay::scripted(stub.address(), judge)?;
    let stream = TcpStream::connect(relay.address())?;
    stream.set_read_timeout(Some(LONG))?;
    let (socket, _) =
        client(format!("{}/agent", relay.url()), stream).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((socket, relay, stub))
}

/// The texts that the stub got, up to and with `last`.
fn texts(stub: &Stub, last: &str) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    stub.wait_for(
        |event| {
            let What::Text { text, .. } = &event.what else { return None };
            texts.push(text.clone());
            (text == last).then_some(())
        },
        LONG,
    )?;
    Ok(texts)
}

#[test]
fn frames_are_dropped_held_and_replaced_as_judged() -> Result<()> {
    let judged = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&judged);
    let (mut socket, _relay, stub) = scripted(move |frame| {
        seen.lock().expect("one thread").push((frame.direction, frame.opcode, frame.payload.clone()));
        match &frame.payload[..] {
            b"drop" => Verdict::Drop,
            b"hold" => Verdict::Hold,
            b"replace" => Verdict::Replace(frame.with_payload("replaced")),
            b"delay" => Verdict::Delay(Duration::from_millis(100)),
            _ => Verdict::Pass,
        }
    })?;
    for text in ["one", "drop", "hold", "two", "replace", "delay", "last"] {
        socket.send(Message::text(text))?;
    }
    assert_eq!(texts(&stub, "last")?, ["one", "two", "hold", "replaced", "delay", "last"]);
    assert_eq!(judged.lock().expect("one thread").len(), 7);
    stub.send_text(stub.connections()[0], "back")?;
    assert_eq!(socket.read()?, Message::text("back"));
    let judged = judged.lock().expect("one thread");
    assert_eq!(judged.last(), Some(&(Direction::ToClient, 1, "back".into())));
    Ok(())
}

#[test]
fn a_frame_can_end_its_connection() -> Result<()> {
    let close = |frame: &Frame| if frame.payload == "close" { Verdict::Close } else { Verdict::Pass };
    let (mut socket, relay, stub) = scripted(close)?;
    assert_eq!(relay.connections(), [1]);
    socket.send(Message::text("close"))?;
    if let Ok(message) = socket.read() {
        bail!("{message:?} came through");
    }
    stub.wait_for(|event| matches!(event.what, What::Ended(_)).then_some(()), LONG)?;
    Ok(())
}
