//! An agent that answers what people write to it (`lk.chat`), word by word, as LiveKit's agents show what they say: as a
//! transcription.
//!
//! Run it against a server with `cargo run --bin chat -- dev`, join a room as anybody, and write.

use std::collections::HashMap;
use std::process::ExitCode;

use last_call::prelude::*;
use last_call::rooms::{ATTRIBUTE_TRANSCRIPTION_FINAL, TOPIC_CHAT, TextOptions};

/// The longest question, in bytes.
const LONGEST: usize = 64 * 1024;

fn main() -> ExitCode {
    last_call::run(Worker::new("").entrypoint(chat))
}

async fn chat(job: JobContext) -> Result<(), Error> {
    let room = job.connect().await?;
    let caller = room.wait_for_participant().await?;
    tokio::select! {
        done = answer(&room) => done?,
        () = room.left(caller.identity()) => {}
        _ = job.stopping() => {}
    }
    Ok(())
}

async fn answer(room: &Room) -> Result<(), Error> {
    let mut asked = room.text_streams(TOPIC_CHAT);
    while let Some(mut question) = asked.next().await {
        // Whoever breaks off is not answered.
        let Ok(text) = question.read_all(LONGEST).await else { continue };
        let (agent, segment) = (room.local(), question.info().id.clone());
        let options = TextOptions::transcription(agent.identity(), None, &segment, false);
        let mut answer = room.stream_text(options).await?;
        for word in format!("You wrote: {text}").split_inclusive(' ') {
            answer.write(word).await?;
        }
        let done = HashMap::from([(ATTRIBUTE_TRANSCRIPTION_FINAL.to_owned(), "true".to_owned())]);
        answer.close_with(done).await?;
    }
    Ok(())
}
