//! The programs that a job starts and leaves behind.
//!
//! Owns their start. Refuses to end them: that is what is tried.

use std::error::Error;
use std::io::{self, Read};
use std::process::{Command, Stdio};

/// Starts one in a session of its own; its process number.
pub(crate) fn leave_one() -> io::Result<u32> {
    let mut stray = Command::new("setsid");
    let mut stray = stray.args(["sh", "-c", "echo; exec sleep 3600"]).stdout(Stdio::piped()).spawn()?;
    // Until it is in that session: before, it would end with this one's group.
    stray.stdout.take().map_or(Ok(()), |mut out| out.read_exact(&mut [0]))?;
    Ok(stray.id())
}

/// Has a program start so many and leave them, and looks at its exit code.
pub(crate) fn leave(orphans: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
    let script = format!("for n in $(seq {orphans}); do (sleep 0.01 &) ; done; exit 7");
    match Command::new("sh").arg("-c").arg(script).status()? {
        status if status.code() == Some(7) => Ok(()),
        status => Err(format!("the exit code of a program is 7 and not {status}").into()),
    }
}
