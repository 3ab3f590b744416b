//! The first act of every entrypoint, seen by one clock: a line in a named pipe of the bench.
//!
//! Owns the pipe, by which a worker in any language tells the same way. Refuses the times that jobs write: the clock that
//! counts is the one that saw the assignment.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::bench::rig::PATIENCE;

/// The pipe's name in the directory.
pub(super) const NAME: &str = "started";
/// Ends the reading thread; no job's line is this.
const OVER: &str = "over";

/// A job's entrypoint runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// When the bench read its line.
    pub(super) at: Instant,
    /// The process that it runs in.
    pub(super) pid: u32,
}

/// Where jobs say that they started: a directory for PROBE_JOB_DIR, in which every job's file is one pipe.
#[derive(Debug)]
pub(super) struct Starts {
    dir: TempDir,
    pipe: PathBuf,
    seen: Receiver<Start>,
}

impl Starts {
    /// A directory without jobs.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new() -> Result<Self> {
        let dir = TempDir::new().context("no directory for the jobs' pipe")?;
        let pipe = dir.path().join(NAME);
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).context("cannot make a named pipe")?;
        // Open for writing too: it has no end between two jobs.
        let both =
            File::options().read(true).write(true).open(&pipe).context("cannot open the named pipe")?;
        let (tell, seen) = channel();
        std::thread::spawn(move || read(both, &tell));
        Ok(Self { dir, pipe, seen })
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the file of this job.
    ///
    /// # Errors
    /// When there is one already.
    pub(super) fn expect(&self, job: &str) -> Result<()> {
        let file = self.dir.path().join(job);
        symlink(NAME, &file).with_context(|| format!("cannot make {}", file.display()))
    }

    /// How long a line takes from a write to the reading thread: one of the wake-ups that a job's way is made of.
    ///
    /// # Errors
    /// When the line does not come.
    pub(super) fn wake_up(&self) -> Result<Duration> {
        let mut pipe = File::options().write(true).open(&self.pipe).context("cannot open the named pipe")?;
        let begun = Instant::now();
        writeln!(pipe, "started 0 0").context("cannot write into the named pipe")?;
        Ok(self.next()?.at.saturating_duration_since(begun))
    }

    /// The next start.
    ///
    /// # Errors
    /// When none comes within [`PATIENCE`].
    pub(super) fn next(&self) -> Result<Start> {
        self.seen.recv_timeout(PATIENCE).with_context(|| format!("no entrypoint ran within {PATIENCE:?}"))
    }
}

impl Drop for Starts {
    fn drop(&mut self) {
        // A thread that stays behind ends with this program.
        let _ = File::options().write(true).open(&self.pipe).and_then(|mut pipe| writeln!(pipe, "{OVER}"));
    }
}

fn read(pipe: File, tell: &Sender<Start>) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        let at = Instant::now();
        if line == OVER {
            return;
        }
        if let Some(pid) = started(&line) {
            // Nobody may wait for it any more.
            let _ = tell.send(Start { at, pid });
        }
    }
}

/// The process of a line `started <unix seconds> <pid>`; other events are none.
fn started(line: &str) -> Option<u32> {
    line.strip_prefix("started ")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_writes_into_its_file_is_its_start_and_nothing_else_is() {
        let starts = Starts::new().expect("a directory");
        for (job, line) in [("a", "finished 1.5 7"), ("b", "started 1.5 8"), ("c", "started 2 9")] {
            starts.expect(job).expect("a file");
            let mut file =
                File::options().append(true).create(true).open(starts.dir().join(job)).expect("a pipe");
            writeln!(file, "{line}").expect("room in the pipe");
        }
        let seen = [(); 2].map(|()| starts.next().expect("a start"));
        assert_eq!(seen.map(|start| start.pid), [8, 9]);
        assert!(seen[0].at <= seen[1].at, "{seen:?}");
        assert!(starts.expect("a").is_err(), "a job starts once");
    }
}
