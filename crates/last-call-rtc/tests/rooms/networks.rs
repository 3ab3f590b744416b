//! Bad networks: media goes by a relay, and what lies before the relay loses packets, is late with them, or carries none.

use std::time::Duration;

use anyhow::Result;
use last_call_rtc::{AudioSource, DataOptions, Room, RoomEvent, RoomOptions};
use last_call_testkit::{Direction, LiveKit, Losses, Relay, TurnServer, UdpRelay};

use super::audio::{first_track, hears, no_dtx, sing};
use super::scene::{MODES, data, event, join, soon};

/// A server, and the bad network that all media takes.
struct Scene {
    server: LiveKit,
    network: UdpRelay,
    _turn: TurnServer,
}

impl Scene {
    fn or_skip() -> Result<Option<Self>> {
        let Some(turn) = TurnServer::or_skip()? else { return Ok(None) };
        let network = UdpRelay::start(turn.address())?;
        let server = LiveKit::with_or_skip(turn.settings_behind(&network))?;
        Ok(server.map(|server| Self { server, network, _turn: turn }))
    }
}

/// Both the singer's packets and the listener's are lost and late.
#[tokio::test(flavor = "multi_thread")]
async fn a_tone_is_heard_through_loss_and_jitter() -> Result<()> {
    const JITTER: Duration = Duration::from_millis(100);
    let Some(Scene { server, network, _turn }) = Scene::or_skip()? else { return Ok(()) };
    for mode in MODES {
        network.set(Losses::default());
        let options = RoomOptions { relay_only: true, ..mode.options() };
        let name = format!("weather-{mode:?}");
        let alice = join(&server, &name, "alice", options.clone()).await?;
        let bob = join(&server, &name, "bob", options).await?;
        let source = AudioSource::new(48_000, 1);
        alice.publish_audio(&source, no_dtx()).await?;
        let singer = sing(source, 440.0);
        let track = first_track(&bob).await?;
        for (lost, least) in [(0, 0.9), (5, 0.9), (20, 0.5)] {
            network.set(Losses { lost, jitter: JITTER });
            let purity = hears(&bob, &track, 440.0).await?;
            println!("{mode:?}, {lost} % lost: {purity:.3}");
            assert!(purity > least, "{mode:?}, {lost} % lost: {purity}");
        }
        let mut heard = bob.events();
        for number in 0..100 {
            alice.publish_data(vec![number], DataOptions::default()).await?;
        }
        for number in 0..100 {
            assert_eq!(data(&mut heard).await?, [number], "{mode:?}: reliable is reliable");
        }
        singer.abort();
    }
    Ok(())
}

/// Neither signalling nor media passes for half a minute. The participant comes back as who it was, its track is heard again,
/// and what was said meanwhile arrives once.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_minute_without_a_network_is_survived() -> Result<()> {
    const GONE: Duration = Duration::from_secs(30);
    let Some(Scene { server, network, _turn }) = Scene::or_skip()? else { return Ok(()) };
    let signalling = Relay::start(server.address())?;
    let options = RoomOptions { relay_only: true, ..RoomOptions::default() };
    let token = server.token("gone", "alice")?;
    let alice = soon(Room::connect(&signalling.url(), &token, options)).await??;
    let bob = join(&server, "gone", "bob", RoomOptions::default()).await?;
    let source = AudioSource::new(48_000, 1);
    alice.publish_audio(&source, no_dtx()).await?;
    let singer = sing(source, 440.0);
    let track = first_track(&bob).await?;
    assert!(hears(&bob, &track, 440.0).await? > 0.95, "before");

    let (mut of_alice, mut of_bob) = (alice.events(), bob.events());
    let ways = [Direction::ToServer, Direction::ToClient];
    ways.iter().for_each(|way| signalling.freeze(*way));
    network.set(Losses { lost: 100, ..Losses::default() });
    let gone = tokio::time::Instant::now();
    event(&mut of_alice, |event| matches!(event, RoomEvent::Reconnecting).then_some(())).await?;
    // It is on its way when there is one.
    let speaker = alice.clone();
    let speaking =
        tokio::spawn(
            async move { speaker.publish_data(b"meanwhile".to_vec(), DataOptions::default()).await },
        );
    tokio::time::sleep_until(gone + GONE).await;
    network.set(Losses::default());
    ways.iter().for_each(|way| signalling.thaw(*way));

    event(&mut of_alice, |event| matches!(event, RoomEvent::Reconnected).then_some(())).await?;
    speaking.await??;
    assert_eq!(data(&mut of_bob).await?, b"meanwhile");
    let track = first_track(&bob).await?;
    assert!(hears(&bob, &track, 440.0).await? > 0.95, "after");
    assert_eq!(bob.participants().len(), 1);
    singer.abort();
    Ok(())
}
