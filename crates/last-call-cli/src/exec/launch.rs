//! Between the start of a process and its program: what must hold before foreign code runs.
//!
//! Owns this program's own second stage, which the worker starts for each job and which then becomes the agent; and
//! guard's, which stays, so that nothing outlives a guard that was killed. Refuses options, configuration and logs: it is
//! nobody's to call.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::str::FromStr;

use last_call_worker::look_after;
use last_call_worker::process::{self, Executable, Limits};

/// The name of the hidden command.
const NAME: &str = "launch-agent";
/// The one that stays.
const KEEPER: &str = "keep-worker";
/// As a shell says that it cannot run something.
const CANNOT_RUN: u8 = 127;
const NONE: &str = "-";

/// Whether this process is that stage.
pub(crate) fn asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|name| name == NAME || name == KEEPER)
}

/// The command that starts `program` below a stage that stays, where there is such a thing.
pub(super) fn kept(program: &[OsString]) -> io::Result<Command> {
    if !cfg!(target_os = "linux") {
        return command(program, &Limits::default());
    }
    let mut command = Executable::own()?.command();
    command.arg(KEEPER).arg(std::process::id().to_string()).args(program);
    Ok(command)
}

/// The command that starts `program` by way of that stage.
pub(super) fn command(program: &[OsString], limits: &Limits) -> io::Result<Command> {
    let mut command = Executable::own()?.command();
    command.arg(NAME).arg(std::process::id().to_string());
    command.arg(limits.open_files.map_or_else(|| NONE.to_owned(), |files| files.to_string()));
    command.arg(limits.cgroup.as_deref().unwrap_or(Path::new(NONE)));
    command.args(program);
    Ok(command)
}

/// That stage: becomes the program, or says why not.
pub(crate) fn launch() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = || arguments.next();
    let why = if next().is_some_and(|name| name == KEEPER) {
        let parent = next().as_deref().and_then(number).unwrap_or_default();
        let program: Vec<_> = arguments.collect();
        let Err(error) = look_after(parent, || command(&program, &Limits::default()));
        format!("cannot start the worker: {error}")
    } else if let (Some(parent), Some(open_files), Some(cgroup), Some(program)) =
        (next(), next(), next(), next())
    {
        match prepare(&parent, &open_files, &cgroup) {
            Ok(()) => {
                let error = Command::new(&program).args(arguments).exec();
                format!("cannot run {}: {error}", program.display())
            }
            Err(error) => format!("cannot prepare the process for {}: {error}", program.display()),
        }
    } else {
        format!("{NAME} is for `last-call run` to start")
    };
    // Standard error is the worker's log; where it is gone, so is the worker.
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::from(CANNOT_RUN)
}

fn prepare(parent: &OsStr, open_files: &OsStr, cgroup: &OsStr) -> io::Result<()> {
    process::end_with_the_parent()?;
    // A worker that ended before this held is another's child's parent by now.
    if number(parent) != Some(std::os::unix::process::parent_id()) {
        return Err(io::Error::other("the worker has ended"));
    }
    process::leave_the_terminal_to_the_worker()?;
    process::confine((cgroup != NONE).then_some(Path::new(cgroup)), number(open_files))
}

fn number<T: FromStr>(text: &OsStr) -> Option<T> {
    text.to_str()?.parse().ok()
}
