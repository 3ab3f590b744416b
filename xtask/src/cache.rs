//! The directory outside the repository that holds what `setup` fetched: one for all checkouts.
//!
//! Owns its place, its lock, and what each thing in it was made from. Refuses to clean up: whoever wants the space back deletes the directory.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::say;

/// The cache's directory, which exists.
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// `$LAST_CALL_CACHE/last-call`, else `$XDG_CACHE_HOME/last-call`, else `~/.cache/last-call`.
    ///
    /// # Errors
    /// When none of the three variables is set, or the directory cannot be made.
    pub(crate) fn open() -> Result<Self> {
        let directory = place(|name| env::var_os(name).filter(|value| !value.is_empty()))
            .context("no place for the cache: set LAST_CALL_CACHE, XDG_CACHE_HOME or HOME")?;
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// The path of `name` in the cache.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// The path of `name` in the cache, as `make` leaves it: made anew where it is not there, not complete, or was made
    /// from something else than `wanted`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn made(
        &self,
        name: &str,
        wanted: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let place = self.path(name);
        let stamp = place.join("made-from");
        if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
            say::progress(format_args!("    have    {}", place.display()));
            return Ok(place);
        }
        make(&place)?;
        // Written last: a place without it is made again.
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(place)
    }

    /// Waits until no other chore fetches into this cache; the claim ends with the returned value.
    ///
    /// # Errors
    /// When the lock file cannot be made or the file system knows no locks.
    pub(crate) fn lock(&self) -> Result<Flock<File>> {
        let path = self.path("lock");
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let (file, errno) = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(claim) => return Ok(claim),
            Err(refused) => refused,
        };
        if errno == Errno::EWOULDBLOCK {
            say::progress("    another setup is running: waiting for it");
        }
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| anyhow!("cannot lock {}: {errno}", path.display()))
    }
}

fn place(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    variable("LAST_CALL_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME"))
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")))
        .map(|parent| parent.join("last-call"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_with(set: &[&str]) -> Option<PathBuf> {
        place(|name| set.contains(&name).then(|| OsString::from(format!("/{name}"))))
    }

    #[test]
    fn our_own_variable_wins_and_home_comes_last() {
        let expected = |path: &str| Some(PathBuf::from(path));
        assert_eq!(
            place_with(&["HOME", "XDG_CACHE_HOME", "LAST_CALL_CACHE"]),
            expected("/LAST_CALL_CACHE/last-call")
        );
        assert_eq!(place_with(&["HOME", "XDG_CACHE_HOME"]), expected("/XDG_CACHE_HOME/last-call"));
        assert_eq!(place_with(&["HOME"]), expected("/HOME/.cache/last-call"));
        assert_eq!(place_with(&[]), None);
    }
}
