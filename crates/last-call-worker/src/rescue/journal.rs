//! The calls that run, on disk, so that a process that was killed leaves word of them.
//!
//! Owns the directory's two files, readable by this user alone: `calls.lock`, held for as long as the process lives, and
//! `calls.journal`, a line of JSON for each call that begins or ends. Refuses tokens, metadata and attributes, which it
//! is never given, and to wait for the disk: what it holds survives the process, not the machine.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::call::Call;

/// Bytes of the file; some ten thousand calls at once.
const FILE_LIMIT: usize = 4 << 20;
/// Bytes of one line. Names and identities have at most 256 each on livekit-server.
const LINE_LIMIT: usize = 8 << 10;

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// Another process has it.
    #[error("the state directory {} is another process's; give each a --state-dir of its own", .0.display())]
    Taken(PathBuf),
    /// The file system says no.
    #[error("cannot keep calls in the state directory {}: {error}; it must be a directory that this user may write to", .path.display())]
    Io {
        /// The directory asked for.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Began(Call),
    Ended(String),
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    file: File,
    /// Bytes of the file, and of that what is over.
    bytes: usize,
    over: usize,
    /// The lines of calls that run, by job.
    lines: BTreeMap<String, String>,
    /// The last line may not be whole.
    torn: bool,
    _lock: Flock<File>,
}

impl Journal {
    /// Opens the journal in `dir`, which is made where it is not there, and takes out the calls that were running when
    /// its last process ended. They stay in it until they have ended here.
    ///
    /// # Errors
    /// When another process has it, or the file system refuses.
    pub(super) fn open(dir: &Path) -> Result<(Self, Vec<Call>), JournalError> {
        let failed = |error| JournalError::Io { path: dir.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join("calls.lock"));
        let lock = Flock::lock(lock.map_err(failed)?, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| {
            if errno == Errno::EWOULDBLOCK {
                JournalError::Taken(dir.to_owned())
            } else {
                failed(errno.into())
            }
        })?;
        let (left, skipped) = read(&bytes_of(&journal(dir)).map_err(failed)?);
        if skipped > 0 {
            tracing::warn!(skipped, dir = %dir.display(), "lines of the journal of calls make no sense: skipped");
        }
        let lines =
            left.iter().filter_map(|call| Some((call.job.clone(), text(&Line::Began(call.clone()))?)));
        let lines = lines.collect();
        let (file, bytes) = write_anew(dir, &lines).map_err(failed)?;
        Ok((Self { dir: dir.to_owned(), file, bytes, over: 0, lines, torn: false, _lock: lock }, left))
    }

    /// A call runs from now on.
    pub(super) fn began(&mut self, call: &Call) {
        // What has no room here is still rescued by this process.
        let Some(line) = text(&Line::Began(call.clone())).filter(|line| line.len() <= LINE_LIMIT) else {
            return tracing::warn!(job = call.job, "names too long: the call is not in the journal");
        };
        if self.append(&line) {
            self.lines.insert(call.job.clone(), line);
        } else {
            tracing::warn!(
                job = call.job,
                "the call is not in the journal, which is full or cannot be written"
            );
        }
    }

    /// It has ended, or its rescue is over.
    pub(super) fn ended(&mut self, job: &str) {
        let Some(begun) = self.lines.remove(job) else { return };
        self.over += begun.len();
        let Some(line) = text(&Line::Ended(job.to_owned())) else { return };
        if self.append(&line) {
            self.over += line.len();
        }
    }

    /// Whether the line is in the file.
    fn append(&mut self, line: &str) -> bool {
        if self.bytes + line.len() > FILE_LIMIT && !self.compact() {
            return false;
        }
        let whole = if self.torn { format!("\n{line}") } else { line.to_owned() };
        let written = self.file.write_all(whole.as_bytes());
        self.bytes += whole.len();
        self.torn = written.is_err();
        if let Err(error) = written {
            tracing::warn!(%error, dir = %self.dir.display(), "the journal of calls cannot be written");
        }
        !self.torn
    }

    /// Writes what runs into a file of its own, if that makes it half as large.
    fn compact(&mut self) -> bool {
        if self.over < FILE_LIMIT / 2 {
            return false;
        }
        match write_anew(&self.dir, &self.lines) {
            Ok((file, bytes)) => {
                (self.file, self.bytes, self.over, self.torn) = (file, bytes, 0, false);
                true
            }
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "the journal of calls cannot be written");
                false
            }
        }
    }
}

fn journal(dir: &Path) -> PathBuf {
    dir.join("calls.journal")
}

fn text(line: &Line) -> Option<String> {
    // Texts and numbers alone: none fails.
    serde_json::to_string(line).ok().map(|text| text + "\n")
}

/// What is in the file, as far as this process would have written it.
fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_LIMIT as u64 + LINE_LIMIT as u64).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(bytes)
}

/// The calls that had not ended, in the order in which they began, and how many lines are none.
fn read(bytes: &[u8]) -> (Vec<Call>, usize) {
    let (mut calls, mut skipped) = (Vec::<Call>::new(), 0);
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(Line::Began(call)) => {
                calls.retain(|known| known.job != call.job);
                calls.push(call);
            }
            Ok(Line::Ended(job)) => calls.retain(|known| known.job != job),
            Err(_) => skipped += 1,
        }
    }
    (calls, skipped)
}

/// A file of these lines in place of the one that is there.
fn write_anew(dir: &Path, lines: &BTreeMap<String, String>) -> io::Result<(File, usize)> {
    let fresh = dir.join("calls.journal.new");
    // Not another's, and not one with another's permissions.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&fresh)?;
    let text: String = lines.values().map(String::as_str).collect();
    file.write_all(text.as_bytes())?;
    fs::rename(&fresh, journal(dir))?;
    Ok((file, text.len()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::call::Mark;
    use super::*;

    fn call(job: &str) -> Call {
        Call {
            job: job.to_owned(),
            room: "lobby".to_owned(),
            dispatch: format!("AD_{job}"),
            agent: format!("agent-{job}"),
            targeted: false,
            mark: Mark { first: "AD_first".to_owned(), attempt: 1, dead: vec!["agent-0".to_owned()] },
        }
    }

    fn left(dir: &Path) -> Vec<Call> {
        Journal::open(dir).expect("open").1
    }

    #[test]
    fn call_1_what_had_not_ended_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().join("made").join("here");
        let (mut journal, none) = Journal::open(&at).expect("open");
        assert_eq!(none, []);
        for job in ["AJ_2", "AJ_1", "AJ_3"] {
            journal.began(&call(job));
        }
        journal.ended("AJ_1");
        journal.ended("AJ_9");
        let mode = |name: &str| fs::metadata(at.join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("calls.journal"), mode("calls.lock"), mode("")), (0o600, 0o600, 0o700));
        drop(journal);
        assert_eq!(left(&at), [call("AJ_2"), call("AJ_3")]);
        // Whoever took them over was killed as well.
        let (mut journal, again) = Journal::open(&at).expect("open");
        assert_eq!(again.len(), 2);
        journal.ended("AJ_2");
        drop(journal);
        assert_eq!(left(&at), [call("AJ_3")]);
    }

    #[test]
    fn call_1_a_second_process_is_told_whose_the_directory_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let _first = Journal::open(dir.path()).expect("open");
        let error = Journal::open(dir.path()).expect_err("taken").to_string();
        assert!(error.contains("another process's") && error.contains("--state-dir"), "{error}");
        let file = dir.path().join("calls.lock");
        let error = Journal::open(&file).expect_err("no directory").to_string();
        assert!(error.contains(&file.display().to_string()) && error.contains("write"), "{error}");
    }

    #[test]
    fn call_1_a_line_that_broke_off_costs_itself_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Journal::open(dir.path()).expect("open");
        journal.began(&call("AJ_1"));
        journal.file.write_all(b"{\"began\":{\"job\":\"AJ_2").expect("written");
        journal.torn = true;
        journal.began(&call("AJ_3"));
        drop(journal);
        let bytes = bytes_of(&super::journal(dir.path())).expect("read");
        assert_eq!(read(&bytes), (vec![call("AJ_1"), call("AJ_3")], 1));
    }

    #[test]
    fn call_1_no_bytes_of_a_journal_panic() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let _ = read(bytes);
        });
        let good = text(&Line::Began(call("AJ_1"))).expect("a line");
        bolero::check!().with_type::<(usize, u8)>().for_each(|(at, byte)| {
            let mut bytes = format!("{good}{good}").into_bytes();
            let at = at % bytes.len();
            bytes[at] = *byte;
            let (calls, skipped) = read(&bytes);
            assert!(!calls.is_empty() || skipped == 2 || at < good.len() * 2, "{at} {byte}");
        });
    }

    #[test]
    fn call_1_the_file_is_bounded_and_keeps_what_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Journal::open(dir.path()).expect("open");
        journal.began(&call("AJ_stays"));
        for number in 0..30_000 {
            let job = format!("AJ_{number}");
            journal.began(&call(&job));
            journal.ended(&job);
        }
        let size = || fs::metadata(super::journal(dir.path())).expect("there").len();
        assert!(size() <= FILE_LIMIT as u64, "{} bytes", size());
        // None of these ends, and what has no room is not written.
        for number in 0..30_000 {
            journal.began(&call(&format!("AJ_{number}")));
        }
        assert!(size() <= FILE_LIMIT as u64, "{} bytes", size());
        assert!(journal.lines.len() < 30_000, "all have room: the test is of no use");
        let mut long = call("AJ_long");
        long.room = "r".repeat(LINE_LIMIT);
        journal.began(&long);
        drop(journal);
        let left = left(dir.path());
        assert!(left.len() > 10_000 && left.contains(&call("AJ_stays")) && !left.contains(&long));
    }
}
