//! With LiveKit's official SDKs in the room, Python's and Node's: what libwebrtc sends is heard, and the other way
//! round.

use std::time::Duration;

use anyhow::Result;
use last_call_rtc::{AudioSource, DataOptions, E2ee, PublishOptions, RoomEvent, RoomOptions, RpcError};
use last_call_testkit::{LiveKit, Sdk};

use super::audio::{first_track, hears, sing};
use super::scene::{MODES, Mode, event, join, soon};

fn sdks_and_modes() -> impl Iterator<Item = (Sdk, Mode)> {
    Sdk::all().into_iter().flat_map(|sdk| MODES.map(|mode| (sdk.clone(), mode)))
}

#[tokio::test(flavor = "multi_thread")]
async fn tones_and_data_go_both_ways_with_the_official_sdks() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for (sdk, mode) in sdks_and_modes() {
        let name = format!("{}-{mode:?}", sdk.name());
        let ours = join(&server, &name, "ours", mode.options()).await?;
        let mut events = ours.events();
        let (source, voice) =
            (AudioSource::new(48_000, 1), PublishOptions { dtx: false, ..PublishOptions::default() });
        ours.publish_audio(&source, voice).await?;
        let singer = sing(source, 880.0);
        let theirs = tokio::task::block_in_place(|| sdk.join_listening(&server, &name, "theirs"))?;
        let track = first_track(&ours).await?;
        let heard = hears(&ours, &track, 440.0).await?;
        assert!(heard > 0.95, "{name}: {heard}");
        tokio::task::block_in_place(|| theirs.hears("ours", 880))?;
        for reliable in [true, false] {
            let options = DataOptions { reliable, topic: "ping".to_owned(), ..DataOptions::default() };
            ours.publish_data(b"are you there?".to_vec(), options).await?;
            let (payload, from) = event(&mut events, |event| match event {
                RoomEvent::DataReceived { payload, topic, participant, .. }
                    if topic.as_deref() == Some("pong") =>
                {
                    Some((payload.clone(), participant.clone()))
                }
                _ => None,
            })
            .await?;
            assert_eq!(payload, b"are you there?");
            assert_eq!(from.as_ref().map(last_call_rtc::Participant::identity), Some("theirs"));
        }
        singer.abort();
        tokio::task::block_in_place(|| theirs.leave())?;
    }
    Ok(())
}

/// Both directions, and what keeps a call from its end.
#[tokio::test(flavor = "multi_thread")]
async fn procedures_are_called_both_ways_with_the_official_sdks() -> Result<()> {
    const SOON: Duration = Duration::from_secs(15);
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for sdk in Sdk::all() {
        let ours = join(&server, sdk.name(), "ours", Mode::Single.options()).await?;
        let mut events = ours.events();
        let theirs = tokio::task::block_in_place(|| sdk.join_listening(&server, sdk.name(), "theirs"))?;
        soon(ours.wait_for_participant()).await??;
        let said = ours.perform_rpc("theirs", "greet", "you", SOON).await?;
        assert_eq!(said, "hello you from ours");
        let unknown = ours.perform_rpc("theirs", "unknown", "", SOON).await.expect_err("no such method");
        assert_eq!(unknown.code, RpcError::UNSUPPORTED_METHOD);
        let nobody = ours.perform_rpc("nobody", "greet", "", SOON).await.expect_err("no such participant");
        assert_eq!(nobody.code, RpcError::RECIPIENT_NOT_FOUND);

        let mut method = ours.rpc_method("add");
        let adder = tokio::spawn(async move {
            while let Some(call) = method.next().await {
                let sum = call.payload().split('+').map(str::parse::<u32>).sum::<Result<u32, _>>();
                call.answer(
                    sum.map(|sum| sum.to_string()).map_err(|error| RpcError::application(error.to_string())),
                );
            }
        });
        for (asked, said) in [("1+2", "3"), ("one", "error 1500")] {
            let options = DataOptions { topic: "call".to_owned(), ..DataOptions::default() };
            ours.publish_data(asked.into(), options).await?;
            let answer = event(&mut events, |event| match event {
                RoomEvent::DataReceived { payload, topic, .. } => {
                    (topic.as_deref() == Some("called")).then(|| payload.clone())
                }
                _ => None,
            })
            .await?;
            assert_eq!(String::from_utf8_lossy(&answer), said);
        }
        adder.abort();
        tokio::task::block_in_place(|| theirs.leave())?;
    }
    Ok(())
}

/// libwebrtc's frames are decrypted, and it decrypts ours; data too. Who has another key hears nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn encrypted_audio_and_data_go_both_ways_with_the_official_sdks() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for (sdk, mode) in sdks_and_modes() {
        let name = format!("secret-{}-{mode:?}", sdk.name());
        let keyed = |key: &str| RoomOptions { e2ee: Some(E2ee::shared(key)), ..mode.options() };
        let ours = join(&server, &name, "ours", keyed("between us")).await?;
        let stranger = join(&server, &name, "stranger", keyed("another")).await?;
        let (mut events, mut strangers) = (ours.events(), stranger.events());
        let (source, voice) =
            (AudioSource::new(48_000, 1), PublishOptions { dtx: false, ..PublishOptions::default() });
        ours.publish_audio(&source, voice).await?;
        let singer = sing(source, 880.0);
        let key = "between us";
        let theirs = tokio::task::block_in_place(|| sdk.join_encrypted(&server, &name, "theirs", key))?;
        let track = first_track(&ours).await?;
        let heard = hears(&ours, &track, 440.0).await?;
        assert!(heard > 0.95, "{name}: {heard}");
        tokio::task::block_in_place(|| theirs.hears("ours", 880))?;
        let options = DataOptions { topic: "ping".to_owned(), ..DataOptions::default() };
        ours.publish_data(b"a secret".to_vec(), options).await?;
        let payload = event(&mut events, |event| match event {
            RoomEvent::DataReceived { payload, .. } => Some(payload.clone()),
            _ => None,
        })
        .await?;
        assert_eq!(payload, b"a secret");
        singer.abort();
        tokio::task::block_in_place(|| theirs.leave())?;
        stranger.leave().await;
        while let Some(event) = strangers.next().await {
            assert!(!matches!(event, RoomEvent::DataReceived { .. }), "{name}: read with another key");
        }
    }
    Ok(())
}
