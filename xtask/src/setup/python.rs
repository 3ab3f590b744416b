//! The Python environment in which tests drive LiveKit's official client packages.
//!
//! Owns the environment and the stamp that says what it was made from. Refuses the user's own
//! site-packages: versions come from testkit/python/requirements.txt alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::{say, step, workspace};

const REQUIREMENTS: &str = "testkit/python/requirements.txt";

/// The interpreter's path in the cache; the environment is made anew when the interpreter or the
/// requirements have changed.
///
/// # Errors
/// When the requirements are missing, or the environment cannot be made or filled.
pub(super) fn fetch(cache: &Cache) -> Result<PathBuf> {
    let requirements = workspace::read(REQUIREMENTS)?;
    let version = step::output("python3", &["--version"]).context("python3 does not start")?;
    let wanted = format!("{version}{requirements}");
    let environment = cache.path("venv");
    let interpreter = environment.join("bin/python");
    let stamp = environment.join("made-from");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
        say::progress(format_args!("    python environment: {}", environment.display()));
        return Ok(interpreter);
    }
    let mut make = Command::new("python3");
    step::run("python environment", make.args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut fill = Command::new(&interpreter);
    fill.args([
        "-m",
        "pip",
        "install",
        "--progress-bar=off",
        "--no-input",
        "--disable-pip-version-check",
        "-r",
    ])
    .arg(workspace::root().join(REQUIREMENTS));
    step::run("python packages", &mut fill)?;
    // Written last: an environment without it is made again.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(interpreter)
}
