//! The Node packages by which tests drive LiveKit's official server client and a browser.
//!
//! Owns its folder in the cache. Refuses other versions than testkit/node/package.json's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::{step, workspace};

const PACKAGE: &str = "testkit/node/package.json";

/// The `node_modules` folder in the cache, filled anew when the wanted packages have changed.
///
/// # Errors
/// When the packages cannot be installed.
pub(super) fn fetch(cache: &Cache) -> Result<PathBuf> {
    let wanted = workspace::read(PACKAGE)?;
    let folder = cache.made("node", &wanted, |folder| {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let package = folder.join("package.json");
        fs::write(&package, &wanted).with_context(|| format!("cannot write {}", package.display()))?;
        install(folder, &[])
    })?;
    Ok(modules(&folder))
}

/// Installs into `folder` what its package.json wants, and these `packages`.
///
/// # Errors
/// When npm fails.
pub(super) fn install(folder: &Path, packages: &[&str]) -> Result<()> {
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]).arg(folder);
    step::run("node packages", install.args(packages))
}

/// The packages in a folder.
pub(super) fn modules(folder: &Path) -> PathBuf {
    folder.join("node_modules")
}
