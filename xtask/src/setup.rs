//! `cargo xtask setup`: what the tests need, checked, and fetched where no root is needed.
//!
//! Owns the order: system tools first, since the rest is built with them. Refuses to install
//! anything system-wide unasked.

mod deny;
mod node;
pub(crate) mod peers;
mod python;
mod server;
mod system;

use std::path::PathBuf;

use anyhow::Result;

use crate::cache::Cache;
use crate::{lint, musl, say};

pub(crate) use deny::cargo_deny;

/// What the tests are given.
pub(crate) struct Ready {
    /// A livekit-server of the pinned version.
    pub(crate) server: PathBuf,
    /// The interpreter of an environment with LiveKit's Python packages.
    pub(crate) python: PathBuf,
    /// The `node_modules` with LiveKit's Node packages.
    pub(crate) node: PathBuf,
}

/// Checks the system's tools, installing the missing ones where `install` says so, then fetches the
/// rest into the cache. Safe to run again and to run twice at once.
///
/// # Errors
/// When a tool is missing and `install` is off (the text holds the one command that installs it), or
/// when something cannot be installed, built or fetched.
pub(crate) fn run(install: bool) -> Result<Ready> {
    system::check(install)?;
    if cfg!(target_os = "linux") {
        musl::check(install);
        lint::check_macos(install);
    }
    let cache = Cache::open()?;
    let _claim = cache.lock()?;
    let ready =
        Ready { server: server::fetch(&cache)?, python: python::fetch(&cache)?, node: node::fetch(&cache)? };
    peers::fetch(&cache)?;
    say::progress("    setup: complete");
    Ok(ready)
}

/// The pinned livekit-server alone, built where it is missing.
///
/// # Errors
/// When it cannot be built.
#[cfg(feature = "bench")]
pub(crate) fn livekit_server() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let _claim = cache.lock()?;
    server::fetch(&cache)
}
