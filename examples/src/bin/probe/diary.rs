//! What a job writes down: `<event> <unix seconds> <pid>` lines in a file named by its id.
//!
//! Owns the file. Refuses buffering: whoever waits for a line sees it at once.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// One event of a job's life.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    Started,
    Connected,
    Draining,
    Finished,
    Raised,
    Cancelled,
}

impl Entry {
    fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Connected => "connected",
            Self::Draining => "draining",
            Self::Finished => "finished",
            Self::Raised => "raised",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An id comes from the network: it must name a file in the directory and no other.
pub(crate) fn file_name(job: &str) -> String {
    job.chars().filter(|c| c.is_alphanumeric() || "_-".contains(*c)).collect()
}

/// A job's file, or nothing.
#[derive(Clone)]
pub(crate) struct Diary(Option<Arc<File>>);

impl Diary {
    pub(crate) fn open(dir: Option<&Path>, job: &str) -> io::Result<Self> {
        let Some(dir) = dir else { return Ok(Self(None)) };
        let file = File::options().create(true).append(true).open(dir.join(file_name(job)))?;
        Ok(Self(Some(Arc::new(file))))
    }

    pub(crate) fn write(&self, entry: Entry) {
        let Some(file) = &self.0 else { return };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let line = format!("{} {:.6} {}\n", entry.word(), now.as_secs_f64(), std::process::id());
        if let Err(error) = file.as_ref().write_all(line.as_bytes()) {
            tracing::error!(%error, "cannot write down what the job did");
        }
    }
}
