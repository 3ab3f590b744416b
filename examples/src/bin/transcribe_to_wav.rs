//! An agent that writes down what its caller says, as it was said: one WAV file a caller, of 16 kHz, as those who
//! transcribe like it, in the directory of WAV_DIR.
//!
//! Run it against a server with `WAV_DIR=. cargo run --bin transcribe_to_wav -- dev`, join a room as anybody, and speak.

use std::path::PathBuf;
use std::process::ExitCode;

use hound::{SampleFormat, WavSpec, WavWriter};
use last_call::prelude::*;
use last_call::rooms::{Participant, Publication, TrackKind};

const RATE: u32 = 16_000;

fn main() -> ExitCode {
    last_call::run(Worker::new("").entrypoint(write_down))
}

async fn write_down(job: JobContext) -> Result<(), Error> {
    let room = job.connect().await?;
    let mut events = room.events();
    let caller = room.wait_for_participant().await?;
    let mut sound = room.participant(caller.identity()).as_ref().and_then(sound_of);
    while sound.is_none() {
        // Until the caller's microphone is there, or the caller is not.
        let Some(_) = events.next().await else { return Ok(()) };
        let Some(caller) = room.participant(caller.identity()) else { return Ok(()) };
        sound = sound_of(&caller);
    }
    let options = AudioStreamOptions { sample_rate: RATE, ..AudioStreamOptions::default() };
    let mut stream = room.audio_stream(&sound.unwrap_or_default(), &options)?;
    // The job's id, and no name of anybody's: a name may be a path.
    let directory = std::env::var_os("WAV_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let path = directory.join(format!("{}.wav", job.id()));
    let spec =
        WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut file = WavWriter::create(&path, spec)?;
    loop {
        tokio::select! {
            frame = stream.next() => match frame {
                Some(frame) => frame.samples.iter().try_for_each(|sample| file.write_sample(*sample))?,
                None => break,
            },
            _ = job.stopping() => break,
        }
    }
    let seconds = f64::from(file.duration()) / f64::from(RATE);
    // Only now the file says how long it is.
    file.finalize()?;
    tracing::info!(path = %path.display(), seconds, "written");
    Ok(())
}

/// The sid of a track of sound that comes from the participant.
fn sound_of(participant: &Participant) -> Option<String> {
    let sound = |one: &&Publication| one.kind() == TrackKind::Audio && one.is_subscribed();
    participant.publications().iter().find(sound).map(|one| one.sid().to_owned())
}
