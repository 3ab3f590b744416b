//! A connection that breaks, and is mended, without the other side's notice.

use std::time::Duration;

use anyhow::{Context, Result};
use last_call_rtc::{
    AudioSource, DataOptions, DisconnectReason, PublishOptions, RoomError, RoomEvent, RoomOptions, Simulation,
};
use last_call_testkit::{Cut, Direction, LiveKit, Relay};

use super::audio::{first_track, hears, sing};
use super::scene::{MODES, event, join, soon};

/// The signalling is cut in the middle of a call, time and again: audio and data go on, nobody is seen to leave, and what
/// was sent meanwhile arrives once.
#[tokio::test(flavor = "multi_thread")]
async fn g11_g14_a_cut_of_the_signalling_is_resumed() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let relay = Relay::start(server.address())?;
        let name = format!("resume-{mode:?}");
        let token = server.token(&name, "alice")?;
        let alice = last_call_rtc::Room::connect(&relay.url(), &token, mode.options()).await?;
        let bob = join(&server, &name, "bob", RoomOptions::default()).await?;
        let source = AudioSource::new(48_000, 1);
        alice.publish_audio(&source, PublishOptions { dtx: false, ..PublishOptions::default() }).await?;
        let singer = sing(source, 440.0);
        let track = first_track(&bob).await?;
        let (mut of_alice, mut of_bob) = (alice.events(), bob.events());
        for round in 0..3_u8 {
            relay.cut(Cut::Rst);
            event(&mut of_alice, |event| matches!(event, RoomEvent::Reconnecting).then_some(())).await?;
            alice.publish_data(vec![round], DataOptions::default()).await?;
            event(&mut of_alice, |event| matches!(event, RoomEvent::Reconnected).then_some(())).await?;
            let heard = event(&mut of_bob, |event| match event {
                RoomEvent::DataReceived { payload, .. } => Some(Ok(payload.clone())),
                RoomEvent::ParticipantDisconnected(gone) => Some(Err(gone.clone())),
                _ => None,
            })
            .await?;
            assert_eq!(heard, Ok(vec![round]), "{mode:?}");
            assert!(hears(&bob, &track, 440.0).await? > 0.95, "{mode:?}, round {round}");
        }
        singer.abort();
        alice.leave().await;
        soon(bob.left("alice")).await?;
    }
    Ok(())
}

/// Another network: the session is kept, ICE finds the new way.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_network_is_resumed() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let name = format!("network-{mode:?}");
        let alice = join(&server, &name, "alice", mode.options()).await?;
        let bob = join(&server, &name, "bob", mode.options()).await?;
        let sid = alice.local().sid().to_owned();
        let mut events = alice.events();
        alice.network_changed();
        event(&mut events, |event| matches!(event, RoomEvent::Reconnected).then_some(())).await?;
        assert_eq!(alice.local().sid(), sid, "{mode:?}: the same session");
        let mut of_bob = bob.events();
        alice.publish_data(b"still here".to_vec(), DataOptions::default()).await?;
        event(&mut of_bob, |event| matches!(event, RoomEvent::DataReceived { .. }).then_some(())).await?;
    }
    Ok(())
}

/// livekit/rust-sdks#1096: a server that is gone for good is told, and not waited for for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_an_error() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let relay = Relay::start(server.address())?;
    relay.freeze(Direction::ToClient);
    let options = RoomOptions { connect_within: Duration::from_secs(1), ..RoomOptions::default() };
    let token = server.token("frozen", "alice")?;
    let outcome = soon(last_call_rtc::Room::connect(&relay.url(), &token, options)).await?;
    let error = outcome.expect_err("nobody answers").to_string();
    assert!(error.contains("no connection to the server"), "{error}");
    assert!(!error.contains(&token), "a token in an error");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_none_is_refused() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let outcome = soon(last_call_rtc::Room::connect(&server.url(), "none", RoomOptions::default())).await?;
    let error = outcome.expect_err("the token is none").to_string();
    assert!(error.contains("the server refuses"), "{error}");
    Ok(())
}

/// Whatever the server plays, the tone is heard again, and data arrives; and where it asks for a join anew, the agent comes
/// back as itself and publishes again.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_breaks_is_mended() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        for simulation in [Simulation::NodeFailure, Simulation::Migration] {
            let name = format!("{simulation:?}-{mode:?}");
            let alice = join(&server, &name, "alice", mode.options()).await?;
            let bob = join(&server, &name, "bob", mode.options()).await?;
            let source = AudioSource::new(48_000, 1);
            alice.publish_audio(&source, PublishOptions { dtx: false, ..PublishOptions::default() }).await?;
            let singer = sing(source, 440.0);
            let track = first_track(&bob).await?;
            assert!(hears(&bob, &track, 440.0).await? > 0.95, "{name}: before");
            let (mut of_alice, mut of_bob) = (alice.events(), bob.events());
            for _ in 0..5 {
                alice.publish_data(b"before".to_vec(), DataOptions::default()).await?;
            }
            alice.simulate(simulation);
            let broken = event(&mut of_alice, |event| matches!(event, RoomEvent::Reconnecting).then_some(()));
            broken.await.with_context(|| format!("{name}: not broken"))?;
            // They wait for the new session, and are numbered as its first.
            let speaker = alice.clone();
            let speaking = tokio::spawn(async move {
                for word in ["one", "two", "three"] {
                    speaker.publish_data(word.into(), DataOptions::default()).await?;
                }
                Ok::<_, RoomError>(())
            });
            for word in ["one", "two", "three"] {
                let heard = event(&mut of_bob, |event| match event {
                    RoomEvent::DataReceived { payload, .. } if payload != b"before" => Some(payload.clone()),
                    _ => None,
                });
                let heard = heard.await.with_context(|| format!("{name}: {word} is lost"))?;
                assert_eq!(heard, word.as_bytes(), "{name}");
            }
            speaking.await??;
            let track = first_track(&bob).await?;
            assert!(hears(&bob, &track, 440.0).await? > 0.95, "{name}: after");
            assert_eq!(bob.participants().len(), 1, "{name}");
            singer.abort();
            alice.leave().await;
            bob.leave().await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_says_goodbye_is_believed() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let alice = join(&server, "goodbye", "alice", mode.options()).await?;
        alice.simulate(Simulation::ServerLeave);
        assert_eq!(soon(alice.closed()).await?, DisconnectReason::ServerShutdown, "{mode:?}");
    }
    Ok(())
}

/// A resume that breaks in the middle is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_resume_that_is_cut_is_tried_again() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for simulation in [Simulation::SignalCutOnResume, Simulation::SignalCutOnResumeSilently] {
        let relay = Relay::start(server.address())?;
        let name = format!("{simulation:?}");
        let token = server.token(&name, "alice")?;
        let alice = last_call_rtc::Room::connect(&relay.url(), &token, RoomOptions::default()).await?;
        let bob = join(&server, &name, "bob", RoomOptions::default()).await?;
        let (mut of_alice, mut of_bob) = (alice.events(), bob.events());
        alice.simulate(simulation);
        // What was said after it has an answer, a refusal here: so it has been heard.
        alice.set_name("alice").await.expect_err("the token does not allow it");
        relay.cut(Cut::Rst);
        event(&mut of_alice, |event| matches!(event, RoomEvent::Reconnected).then_some(())).await?;
        alice.publish_data(b"back".to_vec(), DataOptions::default()).await?;
        let heard = event(&mut of_bob, |event| match event {
            RoomEvent::DataReceived { payload, .. } => Some(Ok(payload.clone())),
            RoomEvent::ParticipantDisconnected(gone) => Some(Err(gone.clone())),
            _ => None,
        })
        .await?;
        assert_eq!(heard, Ok(b"back".to_vec()), "{name}");
    }
    Ok(())
}
