//! What a job's process may use, and the look at what it does.
//!
//! Owns the options and the two limits that are watched from outside, memory and silence. Refuses the limits that
//! the kernel keeps by itself, which a process takes on at its start.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::cgroup::Groups;
use super::{Ended, Supervised};
use crate::job::JobContext;
use crate::timers::every;

/// Between two looks at a job's memory, where it is limited.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// And where nobody waits for it but people: a large process has a long table.
const LOOK_FOR_PEOPLE_EVERY: Duration = Duration::from_secs(10);

/// What a process may use. On a command line these are options of every worker, for jobs that are processes.
#[derive(Args, Clone, Debug, Default)]
pub struct Limits {
    /// End a job's process that has not answered a ping for so long [default: none is sent]
    #[arg(long, env = "LAST_CALL_PING_LIMIT", value_name = "TIME", value_parser = at_least_100_ms, help_heading = "Processes")]
    pub ping_limit: Option<Duration>,
    /// Warn when a job, with all its processes, uses so much memory, such as 300MiB
    #[arg(long, env = "LAST_CALL_MEMORY_WARN", value_name = "SIZE", help_heading = "Processes")]
    pub memory_warn: Option<ByteSize>,
    /// End a job that, with all its processes, uses more memory than this, such as 512MiB
    #[arg(long, env = "LAST_CALL_MEMORY_LIMIT", value_name = "SIZE", help_heading = "Processes")]
    pub memory_limit: Option<ByteSize>,
    /// Files that a job's process may have open (RLIMIT_NOFILE) [default: as many as the worker]
    #[arg(long, env = "LAST_CALL_OPEN_FILES", value_name = "N", value_parser = clap::value_parser!(u64).range(16..), help_heading = "Processes")]
    pub open_files: Option<u64>,
    /// A directory of cgroup v2 that is the worker's to use: each job's processes get a group in it, which ends
    /// whole, and in which the kernel keeps --memory-limit
    #[arg(long, env = "LAST_CALL_CGROUP", value_name = "DIRECTORY", help_heading = "Processes")]
    pub cgroup: Option<PathBuf>,
}

impl Limits {
    /// The first option that was given, by its name.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.ping_limit.is_some(), "--ping-limit"),
            (self.memory_warn.is_some(), "--memory-warn"),
            (self.memory_limit.is_some(), "--memory-limit"),
            (self.open_files.is_some(), "--open-files"),
            (self.cgroup.is_some(), "--cgroup"),
        ];
        given.iter().find(|(given, _)| *given).map(|(_, name)| *name)
    }

    /// The place for its groups, if it was given.
    ///
    /// # Errors
    /// Where no groups can be made there: why, and what to do.
    pub fn groups(&self) -> Result<Option<Groups>, String> {
        let memory = self.memory_limit.map(|limit| limit.as_u64());
        self.cgroup.as_deref().map(|dir| Groups::open(dir, memory)).transpose()
    }

    /// Looks at what `child` uses for as long as this is polled: for the operators' pages, and for the limit, at
    /// which it kills. Never done. Cancel safe.
    pub async fn watch_memory(&self, child: &Supervised, job: &JobContext) {
        let limited = self.memory_warn.is_some() || self.memory_limit.is_some();
        let mut due = every(if limited { LOOK_EVERY } else { LOOK_FOR_PEOPLE_EVERY });
        let mut warned = false;
        loop {
            due.tick().await;
            let usage = child.usage().await;
            job.uses(child.pid(), usage);
            let Some(used) = usage.map(|usage| usage.memory) else { continue };
            if let Some(limit) = self.memory_limit.map(|limit| limit.as_u64()).filter(|limit| used > *limit) {
                child.kill(Some(Ended::MemoryLimit { used, limit }));
            }
            if !warned && self.memory_warn.is_some_and(|warn| used > warn.as_u64()) {
                warned = true;
                tracing::warn!(mib = used >> 20, "the job uses much memory (--memory-warn)");
            }
        }
    }
}

/// The pings of one process.
#[derive(Debug)]
pub struct Pings {
    limit: Duration,
    due: tokio::time::Interval,
    answers: u64,
    unanswered: u32,
}

/// Pings in the time that an answer may take.
const PINGS: u32 = 3;

impl Pings {
    /// The first is due at once.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, due: every(limit / PINGS), answers: 0, unanswered: 0 }
    }

    /// Waits for the next ping; or says how the process is to be ended, where none of the last ones was among its
    /// `answers` so far. Pings are counted, and not time: where this process stood still, nobody has been asked.
    /// Cancel safe.
    ///
    /// # Errors
    /// See above.
    pub async fn next(&mut self, answers: impl Fn() -> u64) -> Result<(), Ended> {
        self.due.tick().await;
        let answers = answers();
        if answers > self.answers {
            self.answers = answers;
            self.unanswered = 0;
        }
        if self.unanswered >= PINGS {
            return Err(Ended::Unresponsive(self.limit));
        }
        self.unanswered += 1;
        Ok(())
    }
}

fn at_least_100_ms(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(100);
    crate::options::duration(text)
        .and_then(|time| if time < least { Err("at least 100ms".to_owned()) } else { Ok(time) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn silence_for_the_limit_ends_and_an_answer_in_it_does_not() {
        let mut pings = Pings::new(LIMIT);
        for answers in [0, 0, 0, 1, 1, 2, 2, 2] {
            assert_eq!(pings.next(|| answers).await, Ok(()));
        }
        assert_eq!(pings.next(|| 2).await, Err(Ended::Unresponsive(LIMIT)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_too_late_gives_the_whole_limit_again() {
        let mut pings = Pings::new(LIMIT);
        assert_eq!(pings.next(|| 0).await, Ok(()));
        // The worker stands still, as in a debugger or a moved machine.
        tokio::time::advance(LIMIT * 100).await;
        let asked = tokio::time::Instant::now();
        while pings.next(|| 0).await.is_ok() {}
        assert!(asked.elapsed() >= LIMIT * 2 / 3, "{:?}", asked.elapsed());
    }
}
