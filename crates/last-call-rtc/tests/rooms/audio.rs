//! Audio from one participant to another.

use std::time::Duration;

use anyhow::{Context, Result};
use last_call_rtc::{AudioFrame, AudioSource, AudioStreamOptions, PublishOptions, Room, RoomEvent};
use last_call_testkit::LiveKit;

use super::scene::{MODES, event, pair, soon};

const RATE: u32 = 48_000;

/// A tone of `hertz`, for as long as the task lives.
pub(crate) fn sing(source: AudioSource, hertz: f64) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut at = 0_u64;
        loop {
            let samples = (0..RATE / 50)
                .map(|sample| {
                    let time = (at + u64::from(sample)) as f64 / f64::from(RATE);
                    (10_000.0 * (time * hertz * std::f64::consts::TAU).sin()) as i16
                })
                .collect();
            at += u64::from(RATE / 50);
            let frame = AudioFrame { samples, sample_rate: RATE, channels: 1 };
            if source.capture(&frame).await.is_err() {
                return;
            }
        }
    })
}

/// How much of the power is at `hertz`, of 1.
pub(crate) fn purity(samples: &[i16], hertz: f64) -> f64 {
    let coefficient = 2.0 * (std::f64::consts::TAU * hertz / f64::from(RATE)).cos();
    let (mut one, mut two, mut power) = (0.0, 0.0, 0.0);
    for sample in samples {
        let sample = f64::from(*sample);
        let next = sample + coefficient * one - two;
        (two, one) = (one, next);
        power += sample * sample;
    }
    let at = one * one + two * two - coefficient * one * two;
    if power == 0.0 { 0.0 } else { 2.0 * at / (power * samples.len() as f64) }
}

/// The sid of the first track that `room` gets to hear.
pub(crate) async fn first_track(room: &Room) -> Result<String> {
    let mut events = room.events();
    let subscribed = room
        .participants()
        .iter()
        .flat_map(|participant| participant.publications().to_vec())
        .find(last_call_rtc::Publication::is_subscribed);
    if let Some(publication) = subscribed {
        return Ok(publication.sid().to_owned());
    }
    event(&mut events, |event| match event {
        RoomEvent::TrackSubscribed { publication, .. } => Some(publication.sid().to_owned()),
        _ => None,
    })
    .await
}

/// How pure the tone is that is heard, once it is: what eight of ten tenths of a second reach, the other two being what a
/// busy machine may cost the singer. Of twenty seconds the best.
pub(crate) async fn hears(room: &Room, track: &str, hertz: f64) -> Result<f64> {
    let mut stream = room.audio_stream(track, &AudioStreamOptions::default())?;
    let mut best = 0.0_f64;
    let mut heard: Vec<i16> = Vec::new();
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while best < 0.95 && tokio::time::Instant::now() < until {
        heard.extend(soon(stream.next()).await?.context("the track ended")?.samples);
        if heard.len() >= RATE as usize {
            let tenths = heard.chunks_exact(RATE as usize / 10);
            let mut purities: Vec<f64> = tenths.map(|tenth| purity(tenth, hertz)).collect();
            purities.sort_by(f64::total_cmp);
            best = best.max(purities[2]);
            heard.clear();
        }
    }
    Ok(best)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tone_is_heard_on_both_sides() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let (alice, bob) = pair(&server, mode).await?;
        let (high, low) = (AudioSource::new(RATE, 1), AudioSource::new(RATE, 1));
        alice.publish_audio(&high, no_dtx()).await?;
        bob.publish_audio(&low, no_dtx()).await?;
        let singers = [sing(high, 880.0), sing(low, 440.0)];
        let (from_bob, from_alice) = (first_track(&alice).await?, first_track(&bob).await?);
        let alice_hears = hears(&alice, &from_bob, 440.0).await?;
        let bob_hears = hears(&bob, &from_alice, 880.0).await?;
        assert!(alice_hears > 0.95 && bob_hears > 0.95, "{mode:?}: {alice_hears} and {bob_hears}");
        singers.iter().for_each(tokio::task::JoinHandle::abort);
    }
    Ok(())
}

/// A tone that lasts is no speech to Opus, which would not send it.
pub(crate) fn no_dtx() -> PublishOptions {
    PublishOptions { dtx: false, ..PublishOptions::default() }
}

/// rtc.md, G2: a section that is taken up again has a new SSRC, and is heard all the same; and a mute is silence.
#[tokio::test(flavor = "multi_thread")]
async fn g2_a_track_that_is_taken_back_and_published_again_is_heard() -> Result<()> {
    const ROUNDS: usize = 4;
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let (alice, bob) = pair(&server, mode).await?;
        let source = AudioSource::new(RATE, 1);
        let singer = sing(source.clone(), 440.0);
        let mut events = bob.events();
        for round in 0..ROUNDS {
            let published = alice.publish_audio(&source, no_dtx()).await?;
            let track = event(&mut events, |event| match event {
                RoomEvent::TrackSubscribed { publication, .. } => Some(publication.sid().to_owned()),
                _ => None,
            })
            .await?;
            assert_eq!(track, published.sid(), "{mode:?}, round {round}");
            let heard = hears(&bob, &track, 440.0).await?;
            assert!(heard > 0.95, "{mode:?}, round {round}: {heard}");
            alice.set_muted(&track, true);
            event(&mut events, |event| matches!(event, RoomEvent::TrackMuted { .. }).then_some(())).await?;
            alice.set_muted(&track, false);
            event(&mut events, |event| matches!(event, RoomEvent::TrackUnmuted { .. }).then_some(())).await?;
            assert!(hears(&bob, &track, 440.0).await? > 0.95, "{mode:?}, round {round}, after a mute");
            alice.unpublish(&track).await?;
            event(&mut events, |event| matches!(event, RoomEvent::TrackUnpublished { .. }).then_some(()))
                .await?;
        }
        singer.abort();
    }
    Ok(())
}
