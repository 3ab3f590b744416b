//! An agent that sings one note to whoever comes, until they leave.
//!
//! Run it against a server with `cargo run --bin tone -- dev`, and join a room as anybody.

use std::f64::consts::TAU;
use std::process::ExitCode;

use last_call::prelude::*;

const RATE: u32 = 48_000;
const HERTZ: f64 = 880.0;
/// Samples of 20 ms.
const FRAME: u32 = RATE / 50;

fn main() -> ExitCode {
    last_call::run(Worker::new("").entrypoint(tone))
}

async fn tone(job: JobContext) -> Result<(), Error> {
    let room = job.connect().await?;
    let voice = AudioSource::new(RATE, 1);
    // Opus takes a note that lasts for silence, which DTX does not send.
    room.publish_audio(&voice, PublishOptions { dtx: false, ..PublishOptions::default() }).await?;
    let caller = room.wait_for_participant().await?;
    tokio::select! {
        done = sing(&voice) => done?,
        () = room.left(caller.identity()) => {}
        _ = job.stopping() => {}
    }
    Ok(())
}

/// For ever: the source takes a second at a time, and no more than is played.
async fn sing(voice: &AudioSource) -> Result<(), Error> {
    let mut at = 0;
    loop {
        let sample = |index| (8_000.0 * (TAU * HERTZ * f64::from(index) / f64::from(RATE)).sin()) as i16;
        let samples = (at..at + FRAME).map(sample).collect();
        at = (at + FRAME) % RATE;
        voice.capture(&AudioFrame { samples, sample_rate: RATE, channels: 1 }).await?;
    }
}
