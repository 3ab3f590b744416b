//! `cargo xtask test`: everything that must be true before a change is merged, except style.
//!
//! Owns the environment that tests run in. Refuses to skip: where a tool is missing it says which
//! command installs it, and in CI (the variable CI is set) a test that would skip itself fails.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{musl, setup, step, workspace};

/// Every package. OpenTelemetry is in the workers under test although it is off by default, so that its own
/// tests run; the other tests show that it does nothing unless told to.
const EVERYTHING: [&str; 3] = ["--workspace", "--features", "last-call-examples/otel"];

/// Sets up, builds, and runs the tests whose names contain one of `filters` (all where there is none).
///
/// # Errors
/// When a tool is missing, the build fails or a test fails.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    let ready = setup::run(false)?;
    step::run("build", step::cargo("test").args(EVERYTHING).arg("--no-run"))?;
    let binary = static_binary()?;
    let mut tests = step::cargo("test");
    tests.args(EVERYTHING).args(["--no-fail-fast", "--"]).args(filters);
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
    tests.envs(binary.map(|path| (musl::VARIABLE, path)));
    if env::var_os("CI").is_some() {
        tests.env("LAST_CALL_NO_SKIP", "1");
    }
    step::run("test", &mut tests).context("some tests failed; run one alone with `cargo xtask test <name>`")
}

/// What the tests put into an empty root: linked as what `cargo xtask dist` releases, but not optimised.
fn static_binary() -> Result<Option<PathBuf>> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let quick = ["--config", "profile.dev.package.\"*\".opt-level=0", "--config", "profile.dev.debug=false"];
    musl::build("static binary", &workspace::root(), &quick, &[]).map(Some)
}
