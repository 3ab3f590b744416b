//! LiveKit's own SDKs, in the versions that figures are compared with.
//!
//! Owns their places in the cache, apart from those of the tests: the two need other versions of LiveKit's packages.
//! Refuses the system's packages.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::step;

/// The Python SDK, as figures name it.
pub(crate) const PYTHON: &str = "livekit-agents 1.8.9";
/// The Node SDK, as figures name it.
pub(crate) const NODE: &str = "@livekit/agents 1.9.0";

const PYTHON_PACKAGE: &str = "livekit-agents==1.8.9";
/// With the room client that it wants beside it.
const NODE_PACKAGES: [&str; 2] = ["@livekit/agents@1.9.0", "@livekit/rtc-node@0.13.35"];

/// The interpreter of an environment with the Python SDK, which is made where it is missing.
///
/// # Errors
/// When it cannot be made or filled.
pub(crate) fn python() -> Result<PathBuf> {
    let place = kept("peer-livekit-agents-1.8.9", |place| {
        let mut make = Command::new("python3");
        step::run("environment of livekit-agents", make.args(["-m", "venv", "--clear"]).arg(place))?;
        let mut fill = Command::new(place.join("bin/python"));
        fill.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        step::run(PYTHON_PACKAGE, fill.arg(PYTHON_PACKAGE))
    })?;
    Ok(place.join("bin/python"))
}

/// The `node_modules` with the Node SDK, which is filled where it is missing.
///
/// # Errors
/// When it cannot be filled.
pub(crate) fn node() -> Result<PathBuf> {
    let place = kept("peer-node-agents-1.9.0", |place| {
        std::fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
        let mut install = Command::new("npm");
        install.args(["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]);
        step::run("packages of @livekit/agents", install.arg(place).args(NODE_PACKAGES))
    })?;
    Ok(place.join("node_modules"))
}

/// The place of `name` in the cache, made where it is not complete.
fn kept(name: &str, make: impl FnOnce(&PathBuf) -> Result<()>) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let _claim = cache.lock()?;
    let place = cache.path(name);
    let stamp = place.join("complete");
    if !stamp.exists() {
        make(&place)?;
        // Written last: a place without it is made again.
        std::fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))?;
    }
    Ok(place)
}
