//! The start-up shim: only the worker's own process sees guard's address, its job processes see the server's.
//!
//! Owns the private directory with the two scripts that Python and Node run first in every process, and the pipe by
//! which they tell of job processes. Refuses to matter: a worker whose shim fails runs as it would without one.

mod news;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::Mode;
use tempfile::TempDir;

pub(crate) use news::{News, ShimNews};

const PYTHON: (&str, &str) = ("sitecustomize.py", include_str!("shim/sitecustomize.py"));
const NODE: (&str, &str) = ("preload.cjs", include_str!("shim/preload.cjs"));
/// Where the scripts find guard's URL and the server's, a line for each.
const URLS: &str = "urls";
/// The pipe to guard.
const NEWS: &str = "news";

/// How SDKs know LiveKit's own staging servers, and the gateway that belongs to them.
const STAGING: (&str, &str) = (".staging.livekit.cloud", "https://agent-gateway.staging.livekit.cloud/v1");

/// The scripts on disk, until it is dropped.
#[derive(Debug)]
pub(crate) struct Shim {
    directory: TempDir,
    preload: String,
    server: String,
    /// Cleaners of temporary directories pass over one that is locked: Node does not start without its script.
    _held: Flock<File>,
}

impl Shim {
    /// Writes the scripts into a new directory of this user's alone, in the place for temporary files. `server` is the
    /// URL that job processes see, `guard` the one that the worker sees.
    ///
    /// # Errors
    /// If nothing can be written there, or its path cannot stand in the variables that name the scripts.
    pub(crate) fn new(server: &str, guard: &str) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("last-call-guard-").permissions(Permissions::from_mode(0o700));
        let directory = builder.tempdir()?;
        let place = directory.path();
        for (name, text) in [PYTHON, NODE, (URLS, &format!("{guard}\n{server}\n"))] {
            fs::write(place.join(name), text)?;
        }
        nix::unistd::mkfifo(&place.join(NEWS), Mode::S_IRUSR | Mode::S_IWUSR)?;
        let preload = place.join(NODE.0);
        let preload = preload.to_str().filter(|path| !path.contains(':')).ok_or_else(|| odd(place))?;
        let held = Flock::lock(File::open(place)?, FlockArg::LockSharedNonblock);
        let held = held.map_err(|(_, error)| io::Error::from(error))?;
        Ok(Self { preload: preload.to_owned(), server: server.to_owned(), _held: held, directory })
    }

    /// Has the command, and all that it starts, run the scripts first, before whatever the variables name already.
    pub(crate) fn environment(&self, command: &mut Command) {
        let python = python_path(self.directory.path(), seen(command, "PYTHONPATH"));
        let node = node_options(&self.preload, seen(command, "NODE_OPTIONS"));
        command.env("PYTHONPATH", python).env("NODE_OPTIONS", node);
        imply_inference(&self.server, command);
    }

    /// What the scripts tell from now on. In a runtime only.
    ///
    /// # Errors
    /// If the pipe cannot be opened.
    pub(crate) fn news(&self) -> io::Result<News> {
        News::open(&self.directory.path().join(NEWS))
    }
}

/// Names the gateway that SDKs find by the server's URL, where they cannot see it: as long as they are not told
/// another one.
pub(crate) fn imply_inference(server: &str, command: &mut Command) {
    const VARIABLE: &str = "LIVEKIT_INFERENCE_URL";
    if server.contains(STAGING.0) && seen(command, VARIABLE).is_none() {
        command.env(VARIABLE, STAGING.1);
    }
}

/// The variable as the command will see it.
fn seen(command: &Command, name: &str) -> Option<OsString> {
    match command.get_envs().find(|(set, _)| *set == name) {
        Some((_, value)) => value.map(OsStr::to_owned),
        None => std::env::var_os(name),
    }
}

fn python_path(directory: &Path, before: Option<OsString>) -> OsString {
    let mut path = directory.as_os_str().to_owned();
    // An empty entry would be the current directory.
    if let Some(before) = before.filter(|before| !before.is_empty()) {
        path.push(":");
        path.push(before);
    }
    path
}

/// Node takes words apart at spaces, but for those in double quotes; there a backslash takes the next letter as it is.
fn node_options(preload: &str, before: Option<OsString>) -> OsString {
    let quoted = preload.replace('\\', "\\\\").replace('"', "\\\"");
    let mut options = OsString::from(format!("--require \"{quoted}\""));
    if let Some(before) = before {
        options.push(" ");
        options.push(before);
    }
    options
}

fn odd(place: &Path) -> io::Error {
    let text = format!(
        "{place:?}: PYTHONPATH cannot name a directory with ':', or one that is not UTF-8, in its path"
    );
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
