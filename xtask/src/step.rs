//! One external command of a chore: announced, timed, and turned into an error when it fails.
//!
//! Owns the environment that commands start with. Refuses stdin: a chore never waits for a person.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::{say, workspace};

/// `cargo <subcommand>` at the workspace root.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(workspace::root());
    // `cargo run` describes xtask in these. Build scripts that watch them would run again each time
    // that a chore and a plain `cargo build` alternate.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_xtask) {
            command.env_remove(name);
        }
    }
    command
}

fn describes_xtask(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// Runs `command` to its end under the heading `title`.
///
/// # Errors
/// When it cannot be started, or ends with anything but exit code 0; the text carries the command line.
pub(crate) fn run(title: &str, command: &mut Command) -> Result<()> {
    say::progress(format_args!("==> {title}"));
    let started = Instant::now();
    let line = command_line(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "{title}: `{line}` ended with {status}");
    say::progress(format_args!("    {title}: done in {:.1} s", started.elapsed().as_secs_f32()));
    Ok(())
}

/// The standard output of `program arguments…` where it ran and succeeded; stderr is dropped.
pub(crate) fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
