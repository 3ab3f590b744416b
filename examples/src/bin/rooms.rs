//! What `cargo xtask bench rooms` measures: many rooms in one process, without a worker. The same as
//! bench/peers/python_rooms.py and node_rooms.mjs beside it.
//!
//! `rooms echo|call|pair`, with LIVEKIT_URL; says "up", reads tokens from standard input, a line each, up to an empty one.
//! `echo` plays back in each room what it hears; `call` sings in each room, says "hears N" when all of them echo, and at the
//! end of standard input how many frames came and how many of them were silent; `pair` joins with two tokens at a time and
//! says how long each join took and each frame from the source of one to the stream of the other, in milliseconds.

use std::error::Error;
use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use last_call::prelude::{
    AudioFrame, AudioSource, AudioStreamOptions, PublishOptions, Room, RoomEvent, RoomOptions,
};
use serde_json::json;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const RATE: u32 = 48_000;
/// Louder than this is no silence.
const LOUD: u16 = 500;
/// Bursts whose way is timed.
const BURSTS: usize = 100;

fn main() -> ExitCode {
    let run = || -> Outcome { tokio::runtime::Runtime::new()?.block_on(serve()) };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "what it measures is its output")]
fn say(line: &str) {
    println!("{line}");
}

async fn serve() -> Outcome {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let url = std::env::var("LIVEKIT_URL")?;
    say("up");
    let lines = std::io::stdin().lock().lines().map_while(Result::ok);
    let tokens: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let end = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().count());
    match mode.as_str() {
        "echo" => {
            for token in &tokens {
                let room = Room::connect(&url, token, RoomOptions::default()).await?;
                tokio::spawn(
                    async move { echo(room).await.map_err(|error| say(&format!("failed: {error}"))) },
                );
            }
            say(&format!("joined {}", tokens.len()));
            end.await?;
        }
        "call" => {
            let calls = Arc::new(Calls::default());
            for token in &tokens {
                let room = Room::connect(&url, token, RoomOptions::default()).await?;
                let (calls, count) = (calls.clone(), tokens.len());
                tokio::spawn(async move {
                    call(room, &calls, count).await.map_err(|error| say(&error.to_string()))
                });
            }
            end.await?;
            let (frames, silent) =
                (calls.frames.load(Ordering::Relaxed), calls.silent.load(Ordering::Relaxed));
            say(&json!({"frames": frames, "silent": silent}).to_string());
        }
        "pair" => say(&pairs(&url, &tokens).await?.to_string()),
        other => return Err(format!("{other:?}: one of echo, call, pair is needed").into()),
    }
    Ok(())
}

/// The first track of sound that somebody else publishes.
async fn first_track(room: &Room) -> Outcome<String> {
    let mut events = room.events();
    let participants = room.participants();
    let mut tracks = participants.iter().flat_map(last_call::rooms::Participant::publications);
    if let Some(track) = tracks.find(|track| track.is_subscribed()) {
        return Ok(track.sid().to_owned());
    }
    while let Some(event) = events.next().await {
        if let RoomEvent::TrackSubscribed { publication, .. } = event {
            return Ok(publication.sid().to_owned());
        }
    }
    Err("the room ended".into())
}

async fn echo(room: Room) -> Outcome {
    let voice = AudioSource::new(RATE, 1);
    room.publish_audio(&voice, whole()).await?;
    let mut stream = room.audio_stream(&first_track(&room).await?, &AudioStreamOptions::default())?;
    while let Some(frame) = stream.next().await {
        voice.capture(&frame).await?;
    }
    Ok(())
}

#[derive(Default)]
struct Calls {
    hearing: AtomicUsize,
    frames: AtomicUsize,
    silent: AtomicUsize,
}

/// 20 ms of a tone, or of nothing.
fn frame(index: u32, loud: bool) -> AudioFrame {
    let sample = |moment: u32| {
        let time = f64::from(index * (RATE / 50) + moment) / f64::from(RATE);
        (10_000.0 * (time * 440.0 * std::f64::consts::TAU).sin()) as i16
    };
    let samples = (0..RATE / 50).map(|moment| if loud { sample(moment) } else { 0 }).collect();
    AudioFrame { samples, sample_rate: RATE, channels: 1 }
}

fn is_loud(frame: &AudioFrame) -> bool {
    frame.samples.iter().any(|sample| sample.unsigned_abs() > LOUD)
}

/// As it is: a tone that lasts is no speech to Opus, which would not send it.
fn whole() -> PublishOptions {
    PublishOptions { dtx: false, ..PublishOptions::default() }
}

async fn call(room: Room, calls: &Calls, count: usize) -> Outcome {
    let voice = AudioSource::new(RATE, 1);
    room.publish_audio(&voice, whole()).await?;
    tokio::spawn(async move {
        // In order, and for whole turns of the tone.
        for index in (0..50).cycle() {
            if voice.capture(&frame(index, true)).await.is_err() {
                return;
            }
        }
    });
    let mut stream = room.audio_stream(&first_track(&room).await?, &AudioStreamOptions::default())?;
    let mut hears = false;
    while let Some(frame) = stream.next().await {
        let loud = is_loud(&frame);
        if hears {
            calls.frames.fetch_add(1, Ordering::Relaxed);
            calls.silent.fetch_add(usize::from(!loud), Ordering::Relaxed);
        } else if loud {
            hears = true;
            if calls.hearing.fetch_add(1, Ordering::Relaxed) + 1 == count {
                say(&format!("hears {count}"));
            }
        }
    }
    Ok(())
}

async fn pairs(url: &str, tokens: &[String]) -> Outcome<serde_json::Value> {
    let mut connects = Vec::new();
    let mut ways = Vec::new();
    for (index, pair) in tokens.chunks_exact(2).enumerate() {
        let mut rooms = Vec::new();
        for token in pair {
            let begun = Instant::now();
            rooms.push(Room::connect(url, token, RoomOptions::default()).await?);
            connects.push(milliseconds(begun.elapsed()));
        }
        if let ([speaker, listener], 0) = (rooms.as_slice(), index) {
            ways = way(speaker, listener).await?;
        }
        for room in rooms {
            room.leave().await;
        }
    }
    Ok(json!({"connect_ms": connects, "way_ms": ways}))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A burst of 20 ms each quarter of a second; how long each takes.
async fn way(speaker: &Room, listener: &Room) -> Outcome<Vec<f64>> {
    let voice = AudioSource::new(RATE, 1);
    speaker.publish_audio(&voice, whole()).await?;
    let (said, mut bursts) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(20));
        // What comes late is not caught up with: it would wait in the source, and be counted.
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for index in 0_u32.. {
            every.tick().await;
            let loud = index % 13 == 12;
            if loud && said.send(Instant::now()).is_err() {
                return;
            }
            if voice.capture(&frame(0, loud)).await.is_err() {
                return;
            }
        }
    });
    let options = AudioStreamOptions { frame: Duration::from_millis(10), ..AudioStreamOptions::default() };
    let mut stream = listener.audio_stream(&first_track(listener).await?, &options)?;
    let (mut ways, mut quiet) = (Vec::new(), true);
    while let Some(frame) = stream.next().await {
        let loud = is_loud(&frame);
        if loud && std::mem::replace(&mut quiet, false) {
            let mut last = None;
            while let Ok(at) = bursts.try_recv() {
                last = Some(at);
            }
            ways.extend(last.map(|at: Instant| milliseconds(at.elapsed())));
        }
        quiet |= !loud;
        if ways.len() > BURSTS {
            break;
        }
    }
    // The first may have been said before it was heard.
    Ok(ways.split_off(1.min(ways.len())))
}
