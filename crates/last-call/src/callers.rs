//! Owns the tasks of a job for the participants of its room. Refuses to end one: they end by themselves, or with the job.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use last_call_rtc::{Participant, Room, RoomEvent, Who};
use last_call_worker::{Error, JobContext};
use tracing::Instrument;

/// Runs `entrypoint` for everybody who fits: who is there, and who comes until the room ends.
pub(crate) async fn serve<F, Fut, E>(job: &JobContext, room: &Room, who: &Who, entrypoint: &F)
where
    F: Fn(JobContext, Participant) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Error>,
{
    let mut events = room.events();
    let mut running = Running::default();
    let mut serve = |participant: &Participant| {
        if who.fits(participant) {
            begin(job, participant, entrypoint(job.clone(), participant.clone()), &mut running);
        }
    };
    let here = room.participants();
    here.iter().for_each(&mut serve);
    while let Some(event) = events.next().await {
        let RoomEvent::ParticipantConnected(participant) = event else { continue };
        // Who came between the first two lines is in both.
        if here.iter().all(|known| known.sid() != participant.sid()) {
            serve(&participant);
        }
    }
}

/// The tasks that are not over, by identity: the newest of each.
type Running = HashMap<String, Weak<()>>;

fn begin<E: Into<Error>>(
    job: &JobContext,
    participant: &Participant,
    task: impl Future<Output = Result<(), E>> + Send + 'static,
    running: &mut Running,
) {
    let alive = Arc::new(());
    running.retain(|_, task| task.strong_count() > 0);
    let before = running.insert(participant.identity().to_owned(), Arc::downgrade(&alive));
    let span = tracing::error_span!("participant", participant = participant.identity());
    if before.is_some() {
        span.in_scope(|| tracing::warn!("back before its task is over: it gets another"));
    }
    let whole = async move {
        if let Err(error) = task.await {
            let error: Error = error.into();
            tracing::error!(%error, "a participant's entrypoint failed");
        }
        drop(alive);
    };
    job.spawn(whole.instrument(span));
}
