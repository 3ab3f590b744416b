//! A group of cgroup v2 for a child and all that it starts, where the worker was given a place for groups.
//!
//! Owns the groups, from before the child's start until nothing is left in them. Refuses a place that it was not
//! given: which part of the tree is the worker's, the system's own supervisor decides.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::supervised::{MARK, marks};

/// What has been killed leaves its group a little later.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LOOKS: usize = 100;

/// The place for groups.
#[derive(Clone, Debug)]
pub struct Groups(Arc<Place>);

#[derive(Debug)]
struct Place {
    dir: PathBuf,
    /// What the kernel may give to each, in bytes.
    memory: Option<u64>,
    /// Why it cannot keep that limit.
    unkept: Option<String>,
}

impl Groups {
    /// The place `dir`, after a trial. Where the kernel cannot keep `memory` there, the log says so.
    ///
    /// # Errors
    /// Where no groups can be made: why, and what to do.
    pub(super) fn open(dir: &Path, memory: Option<u64>) -> Result<Self, String> {
        let shown = dir.display();
        if !dir.join("cgroup.controllers").is_file() {
            return Err(format!("--cgroup {shown}: it is no directory of cgroup v2"));
        }
        let unkept = memory.and_then(|_| limit_memory_in(dir).err()).map(|error| error.to_string());
        let memory = memory.filter(|_| unkept.is_none());
        let groups = Self(Arc::new(Place { dir: dir.to_owned(), memory, unkept }));
        let tried = groups.create(&format!("{}trial", marks())).and_then(Group::try_it);
        let advice = "it must be the worker's to use, as by systemd's Delegate=yes, and Linux 5.14 or later";
        tried
            .map(|()| groups)
            .map_err(|error| format!("--cgroup {shown}: no group can be made: {error}; {advice}"))
    }

    /// Says it in the log where the kernel does not keep the limit on memory. Call it once there is a log.
    pub fn warn(&self) {
        if let Some(error) = &self.0.unkept {
            let dir = self.0.dir.display();
            tracing::warn!(%dir, error, "the kernel does not keep --memory-limit here: the worker looks each 2 s");
        }
    }

    pub(super) fn create(&self, mark: &str) -> io::Result<Group> {
        let group = Group(self.0.dir.join(mark));
        fs::create_dir(&group.0)?;
        if let Some(bytes) = self.0.memory {
            fs::write(group.0.join("memory.max"), bytes.to_string())?;
            // A job that has lost a process is none any more.
            fs::write(group.0.join("memory.oom.group"), "1")?;
        }
        Ok(group)
    }
}

/// The memory controller for the groups in `dir`.
fn limit_memory_in(dir: &Path) -> io::Result<()> {
    let switch = dir.join("cgroup.subtree_control");
    if fs::read_to_string(&switch)?.split_whitespace().any(|controller| controller == "memory") {
        return Ok(());
    }
    fs::write(switch, "+memory")
}

/// Puts this process into its group in `dir`: for a child, before foreign code runs in it.
///
/// # Errors
/// If no worker has started it, or the system refuses.
pub(super) fn join(dir: &Path) -> io::Result<()> {
    let mark = std::env::var_os(MARK).ok_or_else(|| io::Error::other("no worker has started it"))?;
    fs::write(dir.join(mark).join("cgroup.procs"), "0")
}

/// One group.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Group {
    fn try_it(self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.kill"), "1")
    }

    /// Kills everything in it, whatever it forks meanwhile.
    pub(super) fn kill(&self) {
        // It is gone with the last of it, at the latest.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
    }

    /// Whether the kernel has killed something in it because its limit was used up.
    pub(super) fn out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        crate::load::keyed(&events, "oom_kill").is_some_and(|kills| kills > 0)
    }

    /// Removes it, once it is empty: within half a second, or it stays. Cancel safe.
    pub(super) async fn remove(&self) {
        for _ in 0..LOOKS {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok(()) | Err(_) => return,
            }
        }
        tracing::warn!(group = %self.0.display(), "a job's group is not empty, and stays");
    }
}

/// For one that no child was ever in.
impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
