//! cargo-deny, which judges licences, bans and sources for `cargo xtask lint`.
//!
//! Refuses to be part of `setup`: it takes minutes to compile and the tests do not need it.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::cache::Cache;
use crate::{say, step};

const VERSION: &str = "0.20.2";

/// A cargo-deny to run: the one on PATH, whatever its version, else the pinned one from the cache,
/// compiled there first where it is missing.
///
/// # Errors
/// When it has to be compiled and that fails.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let on_path = PathBuf::from("cargo-deny");
    if step::output(&on_path, &["--version"]).is_some() {
        return Ok(on_path);
    }
    let cache = Cache::open()?;
    let _claim = cache.lock()?;
    let root = cache.path(format!("cargo-deny-{VERSION}"));
    let program = root.join("bin/cargo-deny");
    if program.exists() {
        say::progress(format_args!("    cargo-deny {VERSION}: {}", program.display()));
        return Ok(program);
    }
    let mut install = step::cargo("install");
    // Unoptimised, it compiles in half the time and runs for seconds.
    install.args(["--debug", "--quiet", "--locked", "--no-track", "--version", VERSION, "--root"]).arg(&root);
    // Outside the workspace its profiles and target directory do not apply.
    install.arg("cargo-deny").current_dir(env::temp_dir());
    step::run(&format!("cargo-deny {VERSION} (minutes, once)"), &mut install)?;
    Ok(program)
}
