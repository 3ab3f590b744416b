//! The Python environment in which tests drive LiveKit's official client packages.
//!
//! Owns the environment. Refuses the user's own site-packages: versions come from testkit/python/requirements.txt alone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::{step, workspace};

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
    let packages = workspace::root().join(REQUIREMENTS);
    let place =
        cache.made("venv", &wanted, |place| environment(place, ["-r".as_ref(), packages.as_os_str()]))?;
    Ok(interpreter(&place))
}

/// Makes an environment at `place` with these packages, as pip takes them.
///
/// # Errors
/// When it cannot be made or filled.
pub(super) fn environment<'p>(place: &Path, packages: impl IntoIterator<Item = &'p OsStr>) -> Result<()> {
    let mut make = Command::new("python3");
    step::run("python environment", make.args(["-m", "venv", "--clear"]).arg(place))?;
    let mut fill = Command::new(interpreter(place));
    fill.args(["-m", "pip", "install", "--progress-bar=off", "--no-input", "--disable-pip-version-check"]);
    step::run("python packages", fill.args(packages))
}

/// The interpreter of an environment.
pub(super) fn interpreter(place: &Path) -> PathBuf {
    place.join("bin/python")
}
