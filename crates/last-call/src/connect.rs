//! Owns the way from a job into its room. Refuses to know what a room is made of: that is `last-call-rtc`.

use std::future::Future;
use std::sync::Arc;

use last_call_rtc::{ConnectError, Room, RoomOptions};
use last_call_worker::JobContext;
use tokio::sync::OnceCell;

/// The job's room, kept with the job.
#[derive(Default)]
struct Joined(OnceCell<Room>);

/// What [`JobContext`] can do with its room; in the [prelude](crate::prelude).
pub trait Connect {
    /// Joins the job's room as the agent that the server expects, with the job's token. As often as is called, it joins
    /// once: every call gives the same room. Cancel safe.
    ///
    /// The agent leaves by itself: when the job's end has been reported, and not before, since the server takes a job
    /// whose agent leaves first for failed (JOB-3). And the job ends with the room: where the room is deleted, the agent
    /// removed, or the connection lost for good, the job is told to stop ([`JobContext::stopping`]), for the reason "room
    /// disconnected".
    ///
    /// # Errors
    /// [`ConnectError`]. The next call tries again.
    fn connect(&self) -> impl Future<Output = Result<Room, ConnectError>> + Send {
        self.connect_with(RoomOptions::default())
    }

    /// As [`Connect::connect`], with options: those of the first call that joins count.
    ///
    /// # Errors
    /// [`ConnectError`]. The next call tries again.
    fn connect_with(&self, options: RoomOptions) -> impl Future<Output = Result<Room, ConnectError>> + Send;
}

impl Connect for JobContext {
    async fn connect_with(&self, options: RoomOptions) -> Result<Room, ConnectError> {
        let joined: Arc<Joined> = self.keep();
        let room = joined.0.get_or_try_init(|| join(self, options)).await?;
        Ok(room.clone())
    }
}

async fn join(job: &JobContext, options: RoomOptions) -> Result<Room, ConnectError> {
    let room = Room::connect(job.url(), job.token(), options).await?;
    let leaving = room.clone();
    job.add_farewell(async move { leaving.leave().await });
    let (watched, watching) = (room.clone(), job.clone());
    job.spawn(async move {
        let reason = watched.closed().await;
        tracing::info!(%reason, "the room is over for this agent");
        watching.shutdown("room disconnected");
    });
    Ok(room)
}
