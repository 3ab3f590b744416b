//! The Node packages by which tests drive LiveKit's official server client and a browser.
//!
//! Owns its folder in the cache and the stamp that says what it was made from. Refuses other versions than
//! testkit/node/package.json's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::{say, step, workspace};

const PACKAGE: &str = "testkit/node/package.json";

/// The `node_modules` folder in the cache, filled anew when the wanted packages have changed.
///
/// # Errors
/// When the packages cannot be installed.
pub(super) fn fetch(cache: &Cache) -> Result<PathBuf> {
    let wanted = workspace::read(PACKAGE)?;
    let folder = cache.path("node");
    let (modules, stamp) = (folder.join("node_modules"), folder.join("made-from"));
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
        say::progress(format_args!("    node packages: {}", modules.display()));
        return Ok(modules);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let package = folder.join("package.json");
    fs::write(&package, &wanted).with_context(|| format!("cannot write {}", package.display()))?;
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]).arg(&folder);
    step::run("node packages", &mut install)?;
    // Written last: a folder without it is filled again.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(modules)
}
