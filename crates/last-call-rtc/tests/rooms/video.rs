//! Encoded video from one participant to another, and to and from the Python SDK.

use std::time::Duration;

use anyhow::{Context, Result};
use last_call_rtc::{
    AudioSource, E2ee, EncodedFrame, PublishOptions, Room, RoomError, RoomEvent, RoomOptions, VideoCodec,
    VideoOptions, VideoSource, VideoStream,
};
use last_call_testkit::{LiveKit, Python, skip};

use super::audio::{hears, sing};
use super::scene::{MODES, Mode, event, join, pair, soon};

const TICK: Duration = Duration::from_millis(33);

/// What looks like a frame to everybody who does not decode it: with its number, so that none is like another.
fn picture(codec: VideoCodec, index: u32, key: bool) -> EncodedFrame {
    // A key frame is some packets long.
    let body: Vec<u8> =
        (0..if key { 5_000 } else { 400 }).map(|at| (index as usize + at) as u8 | 1).collect();
    let payload = match (codec, key) {
        (VideoCodec::Vp8, true) => [&[0x10, 2, 0, 0x9d, 1, 0x2a, 64, 1, 240, 0], &*body].concat(),
        (VideoCodec::Vp8, false) => [&[0x11, 2, 0], &*body].concat(),
        // A baseline sequence of 320 by 240, as x264 writes it.
        (VideoCodec::H264, true) => {
            let start: &[u8] = &[0, 0, 0, 1];
            let sequence: &[u8] = &[0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe8, 0x40];
            [start, sequence, start, &[0x68, 0xce, 0x3c, 0x80], start, &[0x65, 0x88], &*body].concat()
        }
        (VideoCodec::H264, false) => [&[0, 0, 0, 1, 0x41, 0x9a], &*body].concat(),
        (VideoCodec::Vp9, true) => [&[0x82, 0x49, 0x83, 0x42, 0, 0x13, 0xf0, 0x0e, 0xf0], &*body].concat(),
        (VideoCodec::Vp9, false) => [&[0x86], &*body].concat(),
        (_, key) => {
            let size = body.len() + 1;
            let head = if key { 0x10 } else { 0x30 };
            let sequence: &[u8] =
                if key { &[0x0a, 0x0a, 0, 0, 0, 2, 0xaf, 0xff, 0x9b, 0x5f, 0x30, 8] } else { &[] };
            let size = [(size & 0x7f) as u8 | 0x80, (size >> 7) as u8];
            [sequence, &[0x32], &size, &[head], &*body].concat()
        }
    };
    EncodedFrame::new(codec, payload, TICK * index)
}

/// Pictures for as long as the task lives: a key frame first, and whenever one is asked for.
fn film(source: VideoSource) -> tokio::task::JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(TICK);
        let (mut index, mut key) = (0, true);
        loop {
            tokio::select! {
                () = source.keyframe_requested() => key = true,
                _ = tick.tick() => {
                    source.push(picture(source.codec(), index, std::mem::take(&mut key)))?;
                    index += 1;
                }
            }
        }
    })
}

/// The number of a picture that came as it was made.
fn number(frame: &EncodedFrame) -> Result<u32> {
    (0..256)
        .find(|index| picture(frame.codec, *index, frame.keyframe).payload == frame.payload)
        .context("not a picture that was sent")
}

async fn next(stream: &mut VideoStream) -> Result<EncodedFrame> {
    soon(stream.next()).await?.context("the track ended")
}

/// Some frames: a key frame first, each as it was made and after the one before.
async fn sees(stream: &mut VideoStream, frames: usize) -> Result<()> {
    let first = next(stream).await?;
    anyhow::ensure!(first.keyframe, "{first:?} at first");
    if matches!(first.codec, VideoCodec::Vp8 | VideoCodec::Vp9) {
        anyhow::ensure!(first.size == Some((320, 240)), "{:?}", first.size);
    }
    let mut last = first;
    for _ in 0..frames {
        let frame = next(stream).await?;
        anyhow::ensure!(number(&frame)? == (number(&last)? + 1) % 256, "{frame:?} after {last:?}");
        let between = frame.timestamp.checked_sub(last.timestamp).context("back in time")?;
        anyhow::ensure!(between.abs_diff(TICK) < Duration::from_millis(1), "{between:?} between two");
        last = frame;
    }
    Ok(())
}

/// The sid of the first video track that `room` may watch.
async fn first_video(room: &Room) -> Result<String> {
    let mut events = room.events();
    let video = |publication: &last_call_rtc::Publication| {
        publication.kind() == last_call_rtc::TrackKind::Video && publication.is_subscribed()
    };
    let there = room.participants();
    if let Some(publication) =
        there.iter().flat_map(last_call_rtc::Participant::publications).find(|one| video(one))
    {
        return Ok(publication.sid().to_owned());
    }
    event(&mut events, |event| match event {
        RoomEvent::TrackSubscribed { publication, .. } if video(publication) => {
            Some(publication.sid().to_owned())
        }
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_arrive_as_they_were_made_beside_a_tone() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let (alice, bob) = pair(&server, mode).await?;
        let tone = AudioSource::new(48_000, 1);
        let voice = PublishOptions { dtx: false, ..PublishOptions::default() };
        let heard = alice.publish_audio(&tone, voice).await?;
        let singer = sing(tone, 440.0);
        let source = VideoSource::new(VideoCodec::Vp8, 320, 240);
        let published = alice.publish_video(&source, VideoOptions::default()).await?;
        let camera = film(source.clone());
        assert_eq!(first_video(&bob).await?, published.sid(), "{mode:?}");
        let mut stream = bob.video_stream(published.sid());
        sees(&mut stream, 30).await.with_context(|| format!("{mode:?}"))?;
        // Beside one that nobody reads.
        let _unread = bob.video_stream(published.sid());
        let tone = hears(&bob, heard.sid(), 440.0).await?;
        assert!(tone > 0.95, "{mode:?}: {tone}");

        // Nobody watches any more; and who comes back, and who comes late, gets a key frame that he asked for.
        drop(stream);
        sees(&mut bob.video_stream(published.sid()), 10).await.with_context(|| format!("{mode:?}, again"))?;
        let late = join(&server, bob.info().name(), "late", mode.options()).await?;
        let track = first_video(&late).await?;
        sees(&mut late.video_stream(&track), 10).await.with_context(|| format!("{mode:?}, late"))?;

        // What is pushed while muted is gone, and a key frame is asked for after it.
        alice.set_muted(published.sid(), true);
        let mut events = bob.events();
        alice.set_muted(published.sid(), false);
        event(&mut events, |event| matches!(event, RoomEvent::TrackUnmuted { .. }).then_some(())).await?;
        sees(&mut bob.video_stream(published.sid()), 10)
            .await
            .with_context(|| format!("{mode:?}, unmuted"))?;

        let mut stream = bob.video_stream(published.sid());
        next(&mut stream).await?;
        alice.unpublish(published.sid()).await?;
        soon(async { while stream.next().await.is_some() {} }).await?;
        camera.abort();
        singer.abort();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_goes_through() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let rooms = [&[VideoCodec::Vp9][..], &[VideoCodec::Vp8, VideoCodec::H264]];
        for codecs in rooms {
            every_codec_of(&server, mode, codecs).await?;
        }
    }
    Ok(())
}

/// One after the other, in one room, each in a section of its own.
async fn every_codec_of(server: &LiveKit, mode: Mode, codecs: &[VideoCodec]) -> Result<()> {
    let (alice, bob) = pair(server, mode).await?;
    for codec in codecs.iter().copied() {
        let source = VideoSource::new(codec, 320, 240);
        let mut events = bob.events();
        let published = alice.publish_video(&source, VideoOptions::default()).await?;
        let camera = film(source);
        let subscribed =
            event(&mut events, |event| matches!(event, RoomEvent::TrackSubscribed { .. }).then_some(()));
        subscribed.await.with_context(|| format!("{mode:?}, {codec:?} is not subscribed"))?;
        let mut stream = bob.video_stream(published.sid());
        sees(&mut stream, 20).await.with_context(|| format!("{mode:?}, {codec:?}"))?;
        camera.abort();
        alice.unpublish(published.sid()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_frames_arrive_as_they_were_made_and_what_can_not_be_encrypted_is_refused() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let name = format!("secret-video-{mode:?}");
        let keyed = |key: &str| RoomOptions { e2ee: Some(E2ee::shared(key)), ..mode.options() };
        let alice = join(&server, &name, "alice", keyed("between us")).await?;
        let bob = join(&server, &name, "bob", keyed("between us")).await?;
        let stranger = join(&server, &name, "stranger", mode.options()).await?;
        let refused =
            alice.publish_video(&VideoSource::new(VideoCodec::H264, 320, 240), VideoOptions::default()).await;
        assert!(matches!(refused, Err(RoomError::Unencrypted(_))), "{refused:?}");
        let source = VideoSource::new(VideoCodec::Vp8, 320, 240);
        let published = alice.publish_video(&source, VideoOptions::default()).await?;
        let camera = film(source);
        let track = first_video(&stranger).await?;
        let mut locked = stranger.video_stream(&track);
        sees(&mut bob.video_stream(published.sid()), 20).await.with_context(|| format!("{mode:?}"))?;
        camera.abort();
        alice.leave().await;
        assert!(soon(locked.next()).await?.is_none(), "{mode:?}: handed over without a key");
    }
    Ok(())
}

/// libwebrtc encodes; its frames go back to it, and it decodes them.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_sees_its_own_video_again() -> Result<()> {
    let Ok(python) = Python::find().map_err(skip) else { return Ok(()) };
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in [(Mode::Single, ""), (Mode::Dual, ""), (Mode::Single, "between us")] {
        let (mode, key) = mode;
        let name = format!("python-video-{mode:?}{}", key.len());
        let e2ee = (!key.is_empty()).then(|| E2ee::shared(key));
        let ours = join(&server, &name, "ours", RoomOptions { e2ee, ..mode.options() }).await?;
        let theirs = tokio::task::block_in_place(|| python.join_filming(&server, &name, "theirs", key))?;
        let track = first_video(&ours).await?;
        let mut stream = ours.video_stream(&track);
        let source = VideoSource::new(VideoCodec::Vp8, 320, 240);
        ours.publish_video(&source, VideoOptions::default()).await?;
        let echo = tokio::spawn(async move {
            let (mut frames, mut keys) = (0, 0);
            let first = next(&mut stream).await?;
            anyhow::ensure!(first.keyframe && first.size == Some((320, 240)), "{first:?}, {:?}", first.size);
            source.push(first)?;
            loop {
                tokio::select! {
                    () = source.keyframe_requested() => stream.request_keyframe(),
                    frame = stream.next() => match frame {
                        Some(frame) => {
                            frames += 1;
                            keys += usize::from(frame.keyframe);
                            source.push(frame)?;
                        }
                        None => return anyhow::Ok((frames, keys)),
                    },
                }
            }
        });
        tokio::task::block_in_place(|| theirs.sees("ours", 320, 240))
            .with_context(|| format!("{mode:?} {key}"))?;
        tokio::task::block_in_place(|| theirs.leave())?;
        let (frames, _) = soon(echo).await???;
        assert!(frames > 5, "{mode:?} {key}: {frames} frames");
    }
    Ok(())
}
