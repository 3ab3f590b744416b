//! What a job is told by its metadata.
//!
//! Owns the reading of it. Refuses to guess: what makes no sense is an error that names it.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use serde::Deserialize;

/// A job's metadata.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Orders {
    #[serde(deserialize_with = "seconds")]
    pub(crate) sleep: Duration,
    pub(crate) busy: bool,
    pub(crate) raise: bool,
    pub(crate) panic: bool,
    pub(crate) ignore_cancel: bool,
    /// End the whole process with this code.
    pub(crate) exit: Option<i32>,
    /// End the whole process by SIGABRT.
    pub(crate) abort: bool,
    /// Start a program in a session of its own, and leave it behind.
    pub(crate) stray: bool,
    /// Have a program start so many others and leave them, and look at its exit code.
    pub(crate) orphans: u32,
    /// How long the request handler waits before it answers, if not as long as for every offer.
    #[serde(deserialize_with = "some_seconds")]
    pub(crate) accept_delay: Option<Duration>,
    pub(crate) reject: bool,
    /// Write down all that the job was given, its token too.
    pub(crate) tell: bool,
    /// Open spans, as an agent with `tracing` does.
    pub(crate) spans: bool,
    /// Join the room.
    pub(crate) connect: bool,
    /// As whom to accept.
    pub(crate) accept: As,
}

/// What an acceptance says of the agent.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct As {
    pub(crate) identity: Option<String>,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) attributes: HashMap<String, String>,
}

impl Orders {
    pub(crate) fn read(metadata: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        if metadata.is_empty() {
            return Ok(Self::default());
        }
        // The error's own text would quote the metadata, which may be anyone's.
        serde_json::from_str(metadata).map_err(|error| {
            format!(
                "the job's metadata is no order ({:?} error in column {})",
                error.classify(),
                error.column()
            )
            .into()
        })
    }
}

fn some_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    seconds(deserializer).map(Some)
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
}
