//! The whole xtask: chores that drive workers and servers need the testkit, which a plain build goes without.
//!
//! Owns the step from the plain build to the whole one. Refuses debug builds there: figures come from it.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::step;

/// Becomes `cargo xtask <words>` of a release build with the feature `bench`; its exit code is this process's.
///
/// # Errors
/// When cargo cannot be started; otherwise it does not return.
pub(crate) fn again(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
    let mut whole = step::cargo("run");
    whole.args(["--quiet", "--release", "--package", "xtask", "--features", "bench", "--"]).args(words);
    Err(whole.exec()).context("cannot start cargo")
}
