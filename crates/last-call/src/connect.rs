//! Owns the way from a job into its room, and to who is there. Refuses to know what a room is made of: that is
//! `last-call-rtc`.

use std::future::Future;
use std::sync::Arc;

use last_call_rtc::{ConnectError, Participant, Room, RoomError, RoomOptions, Who};
use last_call_worker::{Error, JobContext};
use tokio::sync::{Notify, OnceCell};

use crate::callers;

/// The job's room, kept with the job.
#[derive(Default)]
struct Joined {
    room: OnceCell<Room>,
    /// It is there.
    news: Notify,
}

impl Joined {
    /// Waits until the job is in its room. Cancel safe.
    async fn room(&self) -> &Room {
        loop {
            let news = self.news.notified();
            if let Some(room) = self.room.get() {
                return room;
            }
            news.await;
        }
    }
}

/// Why nobody came.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The job did not get into its room.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The room ended before.
    #[error(transparent)]
    Room(#[from] RoomError),
}

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

    /// Waits for the first participant that fits and whose media is connected: at once if it is there. Joins the room
    /// first, as [`Connect::connect`] does. Cancel safe.
    ///
    /// # Errors
    /// [`WaitError`]: the job does not get into its room, or the room ends before.
    fn wait_for_participant(&self, who: Who) -> impl Future<Output = Result<Participant, WaitError>> + Send;

    /// Runs `entrypoint` for each participant that fits, who is in the room already or comes, as a task of the job
    /// ([`JobContext::spawn`]) whose log lines have the participant's identity. It can be added before the job is in its
    /// room and after, and as many as are wanted: each runs for each participant. It joins no room itself.
    ///
    /// Its error is logged, and its panic fails the job. It is cancelled when the job's own entrypoint is over, which
    /// therefore has to wait, and not when its participant leaves: [`Room::left`] tells. A participant that is back before
    /// its task is over gets another one beside it, and a warning is logged.
    fn add_participant_entrypoint<F, Fut, E>(&self, who: Who, entrypoint: F)
    where
        F: Fn(JobContext, Participant) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Error>;
}

impl Connect for JobContext {
    async fn connect_with(&self, options: RoomOptions) -> Result<Room, ConnectError> {
        let joined: Arc<Joined> = self.keep();
        let room = joined.room.get_or_try_init(|| join(self, options)).await?;
        joined.news.notify_waiters();
        Ok(room.clone())
    }

    async fn wait_for_participant(&self, who: Who) -> Result<Participant, WaitError> {
        let room = self.connect().await?;
        Ok(room.wait_for(|participant| who.fits(participant)).await?)
    }

    fn add_participant_entrypoint<F, Fut, E>(&self, who: Who, entrypoint: F)
    where
        F: Fn(Self, Participant) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Error>,
    {
        let joined: Arc<Joined> = self.keep();
        let job = self.clone();
        self.spawn(async move {
            let room = joined.room().await;
            callers::serve(&job, room, &who, &entrypoint).await;
        });
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
