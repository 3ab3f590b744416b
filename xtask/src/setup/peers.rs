//! LiveKit's own SDKs, in the versions that guard is tried on and that figures are compared with.
//!
//! Owns their places in the cache, where testkit's `Peer` looks: one for each, since they need other versions of LiveKit's
//! packages than the tests, and than each other. Refuses the system's packages.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{node, python};
use crate::cache::Cache;

/// The Python SDK, as figures name it.
#[cfg(feature = "bench")]
pub(crate) const PYTHON: &str = "livekit-agents 1.8.9";
/// The Node SDK, as figures name it.
#[cfg(feature = "bench")]
pub(crate) const NODE: &str = "@livekit/agents 1.9.0";

const NEWEST: &str = "1.8.9";
/// They swallow a SIGTERM; what they import a later httpx lacks.
const OLD: [&str; 2] = ["1.3.12", "1.5.7"];
const HTTPX: &str = "httpx<1";
/// With the room client that it wants beside it.
const NODE_PACKAGES: [&str; 2] = ["@livekit/agents@1.9.0", "@livekit/rtc-node@0.13.35"];

/// Fetches what is missing of them all.
///
/// # Errors
/// When one cannot be fetched.
pub(super) fn fetch(cache: &Cache) -> Result<()> {
    for old in OLD {
        fetch_python(cache, old, &[HTTPX])?;
    }
    fetch_python(cache, NEWEST, &[])?;
    fetch_node(cache).map(drop)
}

/// The interpreter of an environment with the newest Python SDK, which is made where it is missing.
///
/// # Errors
/// When it cannot be made or filled.
#[cfg(feature = "bench")]
pub(crate) fn python() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let _claim = cache.lock()?;
    Ok(python::interpreter(&fetch_python(&cache, NEWEST, &[])?))
}

/// The `node_modules` with the Node SDK, which is filled where it is missing.
///
/// # Errors
/// When it cannot be filled.
#[cfg(feature = "bench")]
pub(crate) fn node() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let _claim = cache.lock()?;
    Ok(node::modules(&fetch_node(&cache)?))
}

fn fetch_python(cache: &Cache, version: &str, beside: &[&str]) -> Result<PathBuf> {
    let package = format!("livekit-agents=={version}");
    let packages: Vec<_> = [package.as_str()].iter().chain(beside).copied().collect();
    let make = |place: &Path| python::environment(place, packages.iter().map(AsRef::as_ref));
    cache.made(&format!("peer-livekit-agents-{version}"), &packages.join("\n"), make)
}

fn fetch_node(cache: &Cache) -> Result<PathBuf> {
    cache.made("peer-node-agents", &NODE_PACKAGES.join("\n"), |folder| {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        node::install(folder, &NODE_PACKAGES)
    })
}
