//! An agent that repeats what it hears: it is dispatched to every new room, waits for the first caller, and plays the
//! caller's own voice back until the caller leaves.
//!
//! Run it against a server with `cargo run --bin echo -- start`, join a room as anybody, and speak.

use std::process::ExitCode;

use last_call::prelude::*;
use last_call::rooms::{Participant, TrackKind};

fn main() -> ExitCode {
    // Without a name: the server offers it every new room.
    last_call::run(Worker::new("").entrypoint(echo))
}

async fn echo(job: JobContext) -> Result<(), Error> {
    let room = job.connect().await?;
    let voice = AudioSource::new(48_000, 1);
    room.publish_audio(&voice, PublishOptions::default()).await?;
    let caller = room.wait_for_participant().await?;
    tracing::info!(caller = caller.identity(), "repeating");
    tokio::select! {
        done = repeat(&room, &caller, &voice) => done?,
        () = room.left(caller.identity()) => {}
        // A drain lets the call go on; this is the end of what it may take.
        stopping = job.stopping() => tracing::info!(reason = ?stopping.reason, "told to stop"),
    }
    Ok(())
}

/// Plays each of the caller's tracks, as they come.
async fn repeat(room: &Room, caller: &Participant, voice: &AudioSource) -> Result<(), Error> {
    let mut events = room.events();
    let mut track = room.participant(caller.identity()).as_ref().and_then(sound_of);
    loop {
        let Some(sid) = track.take() else {
            // Until the caller's microphone is there.
            let Some(event) = events.next().await else { return Ok(()) };
            if let RoomEvent::TrackSubscribed { participant, .. } = event
                && participant.identity() == caller.identity()
            {
                track = sound_of(&participant);
            }
            continue;
        };
        let mut stream = room.audio_stream(&sid, &AudioStreamOptions::default())?;
        while let Some(frame) = stream.next().await {
            voice.capture(&frame).await?;
        }
    }
}

/// The sid of a track of sound that comes from the participant.
fn sound_of(participant: &Participant) -> Option<String> {
    let sound = |one: &&last_call::rooms::Publication| one.kind() == TrackKind::Audio && one.is_subscribed();
    participant.publications().iter().find(sound).map(|one| one.sid().to_owned())
}
