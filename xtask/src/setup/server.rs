//! The real livekit-server that tests run against, built from source at one pinned version.
//!
//! Refuses other versions: the measurements that docs/protocol.md quotes are of this one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::{say, step};

const VERSION: &str = "1.13.5";

/// The server's path in the cache; built there first where it is missing.
///
/// # Errors
/// When the build fails: no network, no Go, or a Go that may not fetch the toolchain it needs.
pub(super) fn fetch(cache: &Cache) -> Result<PathBuf> {
    let path = cache.path(format!("livekit-server-{VERSION}"));
    if path.exists() {
        say::progress(format_args!("    livekit-server {VERSION}: {}", path.display()));
        return Ok(path);
    }
    // Built aside and renamed: the final name never holds half a program.
    let aside = cache.path("livekit-server.partial");
    let _leftover = fs::remove_dir_all(&aside);
    fs::create_dir_all(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    let mut install = Command::new("go");
    install
        .arg("install")
        .arg(format!("github.com/livekit/livekit-server/cmd/server@v{VERSION}"))
        .current_dir(&aside)
        .env("GOFLAGS", "-mod=mod")
        .env("GOBIN", &aside);
    step::run(&format!("livekit-server {VERSION} (about two minutes, once)"), &mut install)?;
    fs::rename(aside.join("server"), &path)
        .with_context(|| format!("cannot move the server to {}", path.display()))?;
    fs::remove_dir_all(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
    Ok(path)
}
