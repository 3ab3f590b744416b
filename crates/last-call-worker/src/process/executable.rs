//! This program's own file, as it was when the program started.
//!
//! Owns the open file. Refuses to look the file up again: a deploy that replaces it must not start the new version
//! under an old worker.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// This program's own executable. Open it before anything can take long: what is opened is what is then there.
#[derive(Debug)]
pub struct Executable {
    path: PathBuf,
    name: OsString,
    /// Keeps `path` good.
    #[cfg(target_os = "linux")]
    _file: std::os::fd::OwnedFd,
}

static OWN: OnceLock<Executable> = OnceLock::new();

impl Executable {
    /// The one of this process, opened at the first call.
    ///
    /// # Errors
    /// If it cannot be opened: no `/proc`, or no file descriptor left.
    pub fn own() -> io::Result<&'static Self> {
        if let Some(own) = OWN.get() {
            return Ok(own);
        }
        let opened = Self::open()?;
        Ok(OWN.get_or_init(|| opened))
    }

    /// A command that runs it again, with this process's own name as the first argument.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg0(&self.name);
        command
    }

    #[cfg(target_os = "linux")]
    fn open() -> io::Result<Self> {
        use std::os::fd::AsRawFd;

        use nix::fcntl::{OFlag, open};
        use nix::sys::stat::Mode;

        /// Above every number that a child is given, and below any limit on open files.
        const HIGH: i32 = 10;

        // Not to read: to run it is enough.
        let file = open("/proc/self/exe", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let file = rustix::io::fcntl_dupfd_cloexec(&file, HIGH)?;
        // In the child it is the child's own, which the kernel looks up before it closes it.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Self { path, name: own_name(), _file: file })
    }

    #[cfg(not(target_os = "linux"))]
    fn open() -> io::Result<Self> {
        Ok(Self { path: std::env::current_exe()?, name: own_name() })
    }
}

/// Where this process is such a command: gives it back the name that `ps` shows. The kernel has called it by the
/// number of the open file.
pub(crate) fn restore_name() {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;

        let shown = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
        let by_number = !shown.trim().is_empty() && shown.trim().bytes().all(|byte| byte.is_ascii_digit());
        let own = PathBuf::from(own_name());
        let name = own.file_name().and_then(|name| std::ffi::CString::new(name.as_bytes()).ok());
        if let Some(name) = name.filter(|_| by_number) {
            // A name is for people; without it all goes on.
            let _ = nix::sys::prctl::set_name(&name);
        }
    }
}

fn own_name() -> OsString {
    std::env::args_os().next().unwrap_or_else(|| "last-call".into())
}
