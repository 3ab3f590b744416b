//! The worker's process, from the order to start it to its end.
//!
//! Owns what it was told while it started. Refuses to decide what it is told: [`Ward`](last_call_proto::Ward) does.

use std::future::pending;
use std::io;
use std::pin::Pin;

use crate::process::{Ended, Supervised};

/// As far as it is.
pub(super) enum Process {
    None,
    Starting {
        starting: Pin<Box<dyn Future<Output = io::Result<Supervised>> + Send>>,
        /// To end as soon as it is there.
        told: bool,
    },
    Runs(Supervised),
}

/// What became of it.
pub(super) enum Change {
    /// It runs, with this process number.
    Started(u32),
    NotStarted(io::Error),
    Ended(Ended),
}

impl Process {
    pub(super) fn starting(starting: impl Future<Output = io::Result<Supervised>> + Send + 'static) -> Self {
        Self::Starting { starting: Box::pin(starting), told: false }
    }

    /// What becomes of it next; never, while there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Change {
        match self {
            Self::None => pending().await,
            Self::Starting { starting, told } => match starting.await {
                Ok(child) => {
                    if *told {
                        child.terminate_alone();
                    }
                    let pid = child.pid();
                    *self = Self::Runs(child);
                    Change::Started(pid)
                }
                Err(error) => {
                    *self = Self::None;
                    Change::NotStarted(error)
                }
            },
            Self::Runs(child) => {
                let ended = child.ended().await;
                *self = Self::None;
                Change::Ended(ended)
            }
        }
    }

    /// Asks it to end, and not its job processes. One that has no handler yet dies of it, and has no calls.
    pub(super) fn terminate(&mut self) {
        match self {
            Self::None => {}
            Self::Starting { told, .. } => *told = true,
            Self::Runs(child) => child.terminate_alone(),
        }
    }

    /// Ends it at once, with whatever it started. Its end is heard of by [`Process::next`], but for one that only starts:
    /// that is killed as soon as it is there, and `true` says so.
    pub(super) fn kill(&mut self) -> bool {
        match self {
            Self::None => false,
            Self::Starting { .. } => {
                *self = Self::None;
                true
            }
            Self::Runs(child) => {
                child.kill(None);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use nix::sys::signal::Signal;

    use super::*;

    /// Only there to end a hang.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn who_is_told_to_end_while_it_starts_ends() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let mut process = Process::starting(Supervised::spawn(command, |_| {}));
        process.terminate();
        assert!(matches!(process.next().await, Change::Started(_)));
        let ended = tokio::time::timeout(PATIENCE, process.next()).await.expect("it was told");
        assert!(matches!(ended, Change::Ended(Ended::Signal(signal)) if signal == Signal::SIGTERM as i32));
    }
}
