//! `cargo xtask test`: everything that must be true before a change is merged, except style.
//!
//! Owns the environment that tests run in. Refuses to skip: where a tool is missing it says which
//! command installs it, and in CI (the variable CI is set) a test that would skip itself fails.

use std::env;

use anyhow::{Context as _, Result};

use crate::{setup, step};

/// Sets up, builds, and runs the tests whose names contain one of `filters` (all where there is none).
///
/// # Errors
/// When a tool is missing, the build fails or a test fails.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    let ready = setup::run(false)?;
    step::run("build", step::cargo("test").args(["--workspace", "--no-run"]))?;
    let mut tests = step::cargo("test");
    tests.args(["--workspace", "--no-fail-fast", "--"]).args(filters);
    // A developer who names a server or an interpreter means it.
    for (name, path) in [
        ("LAST_CALL_LIVEKIT_SERVER", ready.server),
        ("LAST_CALL_PYTHON", ready.python),
        ("LAST_CALL_NODE_MODULES", ready.node),
    ] {
        if env::var_os(name).is_none() {
            tests.env(name, path);
        }
    }
    if env::var_os("CI").is_some() {
        tests.env("LAST_CALL_NO_SKIP", "1");
    }
    step::run("test", &mut tests).context("some tests failed; run one alone with `cargo xtask test <name>`")
}
