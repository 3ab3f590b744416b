//! Streams of text and of bytes, transcriptions and keys of a telephone: between two of ours, and with the Python SDK.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use last_call_rtc::{
    ATTRIBUTE_TRANSCRIPTION_FINAL, ByteOptions, E2ee, Room, RoomError, RoomEvent, RoomOptions, StreamError,
    TOPIC_TRANSCRIPTION, TextOptions, Transcription, TranscriptionSegment,
};
use last_call_testkit::{LiveKit, Sdk, skip};
use livekit_token::{AccessToken, VideoGrants};

use super::scene::{MODES, Mode, event, join, pair, soon};

/// Enough for every stream here, in bytes.
const LIMIT: usize = 4 << 20;

/// Characters of one to four bytes, in more chunks than one.
fn words() -> String {
    "aé€🦀 ".repeat(5_000)
}

fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::fill(&mut bytes);
    bytes
}

fn about(topic: &str) -> TextOptions {
    let attributes = HashMap::from([("kind".to_owned(), "test".to_owned())]);
    TextOptions { topic: topic.to_owned(), attributes, ..TextOptions::default() }
}

fn file(topic: &str) -> ByteOptions {
    let attributes = HashMap::from([("kind".to_owned(), "test".to_owned())]);
    ByteOptions {
        topic: topic.to_owned(),
        attributes,
        name: "noise.bin".to_owned(),
        mime_type: "application/x-noise".to_owned(),
        ..ByteOptions::default()
    }
}

#[tokio::test]
async fn streams_arrive_whole() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let (alice, bob) = pair(&server, mode).await?;
        let (mut texts, mut files) = (bob.text_streams("words"), bob.byte_streams("files"));
        let content = noise(1_000_000);
        alice.send_bytes(&content, file("others")).await?;
        let sent = alice.send_bytes(&content, file("files")).await?;
        let mut reader = soon(files.next()).await?.context("the room ended")?;
        let info = reader.info().clone();
        assert_eq!((&info.id, info.size, &*info.sender), (&sent.id, Some(1_000_000), "alice"), "{mode:?}");
        assert_eq!((&*info.name, &*info.mime_type), ("noise.bin", "application/x-noise"));
        assert_eq!((info.attributes["kind"].as_str(), info.encrypted), ("test", false));
        assert!(soon(reader.read_all(LIMIT)).await?? == content, "{mode:?}: other bytes");

        let options = TextOptions { attached: vec![sent.id.clone()], ..about("words") };
        let answered = alice.send_text(&words(), options).await?;
        let mut reader = soon(texts.next()).await?.context("the room ended")?;
        assert_eq!(reader.info().attached, [sent.id]);
        assert_eq!((&*reader.info().mime_type, reader.info().generated), ("text/plain", false));
        assert!(soon(reader.read_all(LIMIT)).await?? == words(), "{mode:?}: another text");

        let options = TextOptions { reply_to: answered.id.clone(), ..about("words") };
        let mut writer = alice.stream_text(options).await?;
        let mut reader = soon(texts.next()).await?.context("the room ended")?;
        assert_eq!((&reader.info().reply_to, reader.info().size), (&answered.id, None));
        for part in ["bit ", "by ", "🦀"] {
            writer.write(part).await?;
            assert_eq!(soon(reader.next()).await?, Some(Ok(part.to_owned())));
        }
        writer.close_with(HashMap::from([("end".to_owned(), "yes".to_owned())])).await?;
        assert_eq!(soon(reader.next()).await?, None);
        assert_eq!(reader.info().attributes, [("kind", "test"), ("end", "yes")].map(owned).into());
    }
    Ok(())
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// Only who is named gets a stream, none of its chunks goes to others; and what can't be sent is said.
#[tokio::test]
async fn streams_go_where_they_are_sent() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let (alice, bob) = pair(&server, Mode::Single).await?;
    let carol = join(&server, alice.info().name(), "carol", Mode::Single.options()).await?;
    let (mut of_bob, mut of_carol) = (bob.text_streams("words"), carol.text_streams("words"));
    let only = |to: &str| TextOptions { destinations: vec![to.to_owned()], ..about("words") };
    alice.send_text("to bob", only("bob")).await?;
    alice.send_text("to carol", only("carol")).await?;
    for (streams, said) in [(&mut of_bob, "to bob"), (&mut of_carol, "to carol")] {
        let mut reader = soon(streams.next()).await?.context("the room ended")?;
        assert_eq!(soon(reader.read_all(LIMIT)).await??, said);
    }
    let mut large = about("words");
    large.attributes.insert("large".to_owned(), "x".repeat(15_000));
    let refused = alice.send_text("", large).await.expect_err("an opening that is too large");
    assert!(matches!(refused, RoomError::TooLarge { most: 15_000, .. }), "{refused}");
    alice.leave().await;
    let refused = alice.send_text("", about("words")).await.expect_err("the room is over");
    assert!(matches!(refused, RoomError::Closed), "{refused}");
    bob.leave().await;
    assert!(soon(of_bob.next()).await?.is_none(), "a queue that goes on after the room");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_not_finished_fails() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let (alice, bob) = pair(&server, mode).await?;
        let mut files = bob.byte_streams("files");
        let mut writer = alice.stream_bytes(file("files")).await?;
        writer.write(b"begun").await?;
        let mut reader = soon(files.next()).await?.context("the room ended")?;
        drop(writer);
        assert_eq!(soon(reader.next()).await?, Some(Ok(b"begun".to_vec())));
        let error = StreamError::BrokenOff("interrupted".to_owned());
        assert_eq!(soon(reader.next()).await?, Some(Err(error)), "{mode:?}");
        assert_eq!(soon(reader.next()).await?, None);

        // A promise that is not kept.
        let mut writer = alice.stream_bytes(ByteOptions { size: Some(10), ..file("files") }).await?;
        writer.write(b"short").await?;
        writer.close().await?;
        let mut reader = soon(files.next()).await?.context("the room ended")?;
        let error = StreamError::Incomplete { had: 5, size: 10 };
        assert_eq!(soon(reader.read_all(LIMIT)).await?, Err(error));

        // More than is wanted.
        alice.send_bytes(&noise(100), file("files")).await?;
        let mut reader = soon(files.next()).await?.context("the room ended")?;
        assert_eq!(soon(reader.read_all(99)).await?, Err(StreamError::OverLimit(99)));

        let mut writer = alice.stream_bytes(file("files")).await?;
        writer.write(b"begun").await?;
        let mut reader = soon(files.next()).await?.context("the room ended")?;
        assert_eq!(soon(reader.next()).await?, Some(Ok(b"begun".to_vec())));
        alice.leave().await;
        assert_eq!(soon(reader.next()).await?, Some(Err(StreamError::SenderLeft)), "{mode:?}");
        let refused = writer.write(b"more").await.expect_err("the room is over");
        assert!(matches!(refused, RoomError::Closed), "{refused}");
        let refused = writer.write(b"more").await.expect_err("the stream is broken");
        assert!(matches!(refused, RoomError::BrokenStream), "{refused}");
    }
    Ok(())
}

/// What this participant's own end of the room does to what it reads.
#[tokio::test]
async fn a_stream_ends_with_the_room() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let (alice, bob) = pair(&server, Mode::Single).await?;
    let mut texts = bob.text_streams("words");
    let _writer = alice.stream_text(about("words")).await?;
    let mut reader = soon(texts.next()).await?.context("the room ended")?;
    bob.leave().await;
    assert_eq!(soon(reader.next()).await?, Some(Err(StreamError::Closed)));
    assert!(soon(texts.next()).await?.is_none());
    Ok(())
}

/// More than may wait to be sent: a writer is no faster than the connection, and its reader keeps up.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_is_no_faster_than_the_connection() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let (alice, bob) = pair(&server, Mode::Single).await?;
    let mut files = bob.byte_streams("files");
    let content = noise(20 << 20);
    let sent = content.clone();
    let sending = tokio::spawn(async move { alice.send_bytes(&sent, file("files")).await.map(|_| alice) });
    let mut reader = soon(files.next()).await?.context("the room ended")?;
    assert!(soon(reader.read_all(content.len())).await?? == content, "other bytes");
    soon(sending).await???;
    Ok(())
}

/// A server that starts anew knows no session: what was under way is lost, and both ends hear of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_does_not_outlive_its_session() -> Result<()> {
    let Some(mut server) = LiveKit::or_skip()? else { return Ok(()) };
    let (alice, bob) = pair(&server, Mode::Single).await?;
    let mut texts = bob.text_streams("words");
    let mut writer = alice.stream_text(about("words")).await?;
    let mut reader = soon(texts.next()).await?.context("the room ended")?;
    let (mut of_alice, mut of_bob) = (alice.events(), bob.events());
    tokio::task::block_in_place(|| server.kill().and_then(|_| server.restart()))?;
    for events in [&mut of_alice, &mut of_bob] {
        event(events, |event| matches!(event, RoomEvent::Reconnected).then_some(())).await?;
    }
    let refused = writer.write("more").await.expect_err("nobody knows the stream");
    assert!(matches!(refused, RoomError::BrokenStream), "{refused}");
    assert_eq!(soon(reader.next()).await?, Some(Err(StreamError::Interrupted)));
    soon(bob.wait_for(|participant| participant.identity() == "alice")).await??;
    // The server sends data to who has a channel, which may be a moment after the connection stands.
    let mut heard = None;
    while heard.is_none() {
        alice.send_text("anew", about("words")).await?;
        heard = tokio::time::timeout(Duration::from_secs(1), texts.next()).await.ok();
    }
    let mut reader = heard.flatten().context("the room ended")?;
    assert_eq!(soon(reader.read_all(LIMIT)).await??, "anew");
    Ok(())
}

/// The official SDK reads what we send, and we read what it sends: larger than a chunk, in clear and encrypted.
#[tokio::test(flavor = "multi_thread")]
async fn streams_go_both_ways_with_the_python_sdk() -> Result<()> {
    let Ok(python) = Sdk::python().map_err(skip) else { return Ok(()) };
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for key in ["", "between us"] {
        let name = format!("streams-{}", key.len());
        let e2ee = (!key.is_empty()).then(|| E2ee::shared(key));
        let options = RoomOptions { e2ee, ..Mode::Single.options() };
        let ours = join(&server, &name, "ours", options).await?;
        let (mut texts, mut files) = (ours.text_streams("back"), ours.byte_streams("back"));
        let theirs = tokio::task::block_in_place(|| python.join_encrypted(&server, &name, "theirs", key))?;
        soon(ours.wait_for_participant()).await??;
        let sent = ours.send_text(&words(), about("there")).await?;
        let mut reader = soon(texts.next()).await?.context("the room ended")?;
        let info = reader.info().clone();
        assert_eq!((&*info.sender, &info.reply_to, info.encrypted), ("theirs", &sent.id, !key.is_empty()));
        assert_eq!(info.attributes["kind"], "test");
        assert!(soon(reader.read_all(LIMIT)).await?? == words(), "another text");
        assert_eq!(reader.info().attributes["read"], words().chars().count().to_string());

        let content = noise(100_000);
        ours.send_bytes(&content, file("there")).await?;
        let mut reader = soon(files.next()).await?.context("the room ended")?;
        let info = reader.info().clone();
        assert_eq!((&*info.name, &*info.mime_type), ("noise.bin", "application/x-noise"));
        assert_eq!((info.size, info.encrypted), (Some(100_000), !key.is_empty()));
        assert!(soon(reader.read_all(LIMIT)).await?? == content, "other bytes");
        tokio::task::block_in_place(|| theirs.leave())?;
    }
    Ok(())
}

/// As an agent, whose transcriptions the server passes on.
async fn agent(server: &LiveKit, room: &str, mode: Mode) -> Result<Room> {
    let grants = VideoGrants { room_join: true, room: room.to_owned(), ..VideoGrants::default() };
    let token = AccessToken::with_api_key(server.key(), server.secret()).with_identity("agent");
    let token = token.with_kind("agent").with_grants(grants).to_jwt()?;
    Ok(soon(Room::connect(&server.url(), &token, mode.options())).await??)
}

#[tokio::test]
async fn an_agent_says_what_was_said() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let name = format!("said-{mode:?}");
        let agent = agent(&server, &name, mode).await?;
        let caller = join(&server, &name, "caller", mode.options()).await?;
        let third = join(&server, &name, "third", mode.options()).await?;
        let mut events = third.events();
        let segment = TranscriptionSegment {
            id: "SG_1".to_owned(),
            text: "hello".to_owned(),
            language: "en".to_owned(),
            is_final: true,
            start_time: 1,
            end_time: 2,
        };
        let (participant, track) = ("caller".to_owned(), "TR_1".to_owned());
        let said = Transcription { participant, track, segments: vec![segment] };
        agent.publish_transcription(said.clone()).await?;
        let heard = event(&mut events, |event| match event {
            RoomEvent::TranscriptionReceived(said) => Some(said.clone()),
            _ => None,
        })
        .await?;
        assert_eq!(heard, said, "{mode:?}");

        caller.publish_dtmf(11, "#").await?;
        let pressed = event(&mut events, |event| match event {
            RoomEvent::DtmfReceived { code, digit, participant } => {
                Some((*code, digit.clone(), participant.as_ref().map(|by| by.identity().to_owned())))
            }
            _ => None,
        })
        .await?;
        assert_eq!(pressed, (11, "#".to_owned(), Some("caller".to_owned())));

        // In the caller's name, bit by bit; the chunks come in the agent's.
        let mut streams = third.text_streams(TOPIC_TRANSCRIPTION);
        let options = TextOptions::transcription("caller", Some("TR_1"), "SG_2", false);
        let mut writer = agent.stream_text(options).await?;
        writer.write("hello ").await?;
        writer.write("again").await?;
        let end = HashMap::from([(ATTRIBUTE_TRANSCRIPTION_FINAL.to_owned(), "true".to_owned())]);
        writer.close_with(end).await?;
        let mut reader = soon(streams.next()).await?.context("the room ended")?;
        assert_eq!((&*reader.info().sender, reader.info().generated), ("caller", true), "{mode:?}");
        let begin = [
            ("lk.segment_id", "SG_2"),
            ("lk.transcribed_track_id", "TR_1"),
            ("lk.transcription_final", "false"),
        ];
        assert_eq!(reader.info().attributes, begin.map(owned).into());
        assert_eq!(soon(reader.read_all(LIMIT)).await??, "hello again");
        assert_eq!(reader.info().attributes["lk.transcription_final"], "true");
    }
    Ok(())
}
