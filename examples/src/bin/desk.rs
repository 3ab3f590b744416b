//! An agent that serves everybody in its room: each who comes is greeted by a task of their own, and when the last one has
//! left, the room is deleted, and the job ends with it.

use std::process::ExitCode;

use last_call::prelude::*;

fn main() -> ExitCode {
    // Without a name: the server offers it every new room.
    last_call::run(Worker::new("").entrypoint(desk))
}

async fn desk(job: JobContext) -> Result<(), Error> {
    job.add_shutdown_callback(|reason| async move { tracing::info!(reason, "the desk closes") });
    job.add_participant_entrypoint(Who::default(), serve);
    let first = job.wait_for_participant(Who::default()).await?;
    tracing::info!(first = first.identity(), "the desk is open");
    // Who comes is served for as long as this waits.
    job.stopping().await;
    Ok(())
}

/// From the greeting to the goodbye of one participant.
async fn serve(job: JobContext, participant: Participant) -> Result<(), Error> {
    let room = job.connect().await?;
    let only_to = vec![participant.identity().to_owned()];
    let hello = DataOptions { topic: "ping".into(), destinations: only_to, ..DataOptions::default() };
    room.publish_data(b"hello".to_vec(), hello).await?;
    tracing::info!("greeted");
    room.left(participant.identity()).await;
    tracing::info!("gone");
    if room.participants().is_empty() {
        job.delete_room().await?;
    }
    Ok(())
}
