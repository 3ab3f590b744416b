//! With LiveKit's official Python SDK in the room: what libwebrtc sends is heard, and the other way round.

use anyhow::Result;
use last_call_rtc::{AudioSource, DataOptions, PublishOptions, RoomEvent};
use last_call_testkit::{LiveKit, Python, skip};

use super::audio::{first_track, hears, sing};
use super::scene::{MODES, event, join};

#[tokio::test(flavor = "multi_thread")]
async fn tones_and_data_go_both_ways_with_the_python_sdk() -> Result<()> {
    let Ok(python) = Python::find().map_err(skip) else { return Ok(()) };
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let name = format!("python-{mode:?}");
        let ours = join(&server, &name, "ours", mode.options()).await?;
        let mut events = ours.events();
        let (source, voice) =
            (AudioSource::new(48_000, 1), PublishOptions { dtx: false, ..PublishOptions::default() });
        ours.publish_audio(&source, voice).await?;
        let singer = sing(source, 880.0);
        let (theirs, theirs_joined) = (python.clone(), name.clone());
        let theirs =
            tokio::task::block_in_place(|| theirs.join_listening(&server, &theirs_joined, "theirs"))?;
        let track = first_track(&ours).await?;
        let heard = hears(&ours, &track, 440.0).await?;
        assert!(heard > 0.95, "{mode:?}: {heard}");
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
