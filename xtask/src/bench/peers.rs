//! LiveKit's own SDKs, in the versions that figures are compared with.
//!
//! Owns their places in the cache, apart from those of the tests: the two need other versions of LiveKit's packages.
//! Refuses the system's packages.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::setup::{node, python};

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
    let cache = Cache::open()?;
    let _claim = cache.lock()?;
    let make = |place: &Path| python::environment(place, [PYTHON_PACKAGE.as_ref()]);
    let place = cache.made("peer-livekit-agents", PYTHON_PACKAGE, make)?;
    Ok(python::interpreter(&place))
}

/// The `node_modules` with the Node SDK, which is filled where it is missing.
///
/// # Errors
/// When it cannot be filled.
pub(crate) fn node() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let _claim = cache.lock()?;
    let folder = cache.made("peer-node-agents", &NODE_PACKAGES.join("\n"), |folder| {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        node::install(folder, &NODE_PACKAGES)
    })?;
    Ok(node::modules(&folder))
}
