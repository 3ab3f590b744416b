//! `cargo xtask test`: everything that must be true before a change is merged, except style.
//!
//! Owns the environment that tests run in. Refuses to skip: where a tool is missing it says which
//! command installs it, and in CI (the variable CI is set) a test that would skip itself fails.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{musl, programs, setup, step, workspace};

/// Every package. OpenTelemetry is in the workers under test although it is off by default, so that its own
/// tests run; the other tests show that it does nothing unless told to.
const EVERYTHING: [&str; 3] = ["--workspace", "--features", "last-call-examples/otel"];

/// The tests of a worker from outside run again with each job in a process of its own, with programs,
/// and behind guard.
const BLACKBOX: [&str; 2] = ["--test", "blackbox"];
const RUNNER: &str = "LAST_CALL_TEST_RUNNER";

/// Sets up, builds, and runs the tests whose names contain one of `filters` (all where there is none).
///
/// # Errors
/// When a tool is missing, the build fails or a test fails.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    let ready = setup::run(false)?;
    step::run("build", step::cargo("test").args(EVERYTHING).arg("--no-run"))?;
    let binary = static_binary()?;
    // A developer who names a server or an interpreter means it.
    let mut variables = vec![
        ("LAST_CALL_LIVEKIT_SERVER", ready.server.into_os_string()),
        ("LAST_CALL_PYTHON", ready.python.into_os_string()),
        ("LAST_CALL_NODE_MODULES", ready.node.into_os_string()),
    ];
    variables.retain(|(name, _)| env::var_os(name).is_none());
    variables.extend(binary.map(|path| (musl::VARIABLE, path.into_os_string())));
    if env::var_os("CI").is_some() {
        variables.push(("LAST_CALL_NO_SKIP", "1".into()));
    }
    let tests = |which: &[&str]| {
        let mut tests = step::cargo("test");
        tests.args(EVERYTHING).args(which).args(["--no-fail-fast", "--"]).args(filters);
        tests.envs(variables.iter().cloned());
        tests
    };
    let again = |run: &str, runner, left_out| {
        let mut tests = tests(&BLACKBOX);
        step::run(&format!("test, {run}"), tests.args(programs::skip(run, left_out)).env(RUNNER, runner))
    };
    let as_tasks = step::run("test", &mut tests(&[]));
    let as_processes = again("jobs as processes", "process", &[]);
    let as_programs = again("jobs as programs", "program", programs::PROGRAMS);
    let guarded = again("behind guard", "guard", programs::GUARDED);
    let advice = "some tests failed; run one alone with `cargo xtask test <name>`";
    as_tasks.and(as_processes).and(as_programs).and(guarded).context(advice)?;
    if filters.is_empty() { soaks(&variables) } else { Ok(()) }
}

/// What guard promises of many trials, at a twentieth of their number; xtask/src/bench.rs names them all.
const SOAKS: [(&str, &str); 5] = [
    ("guard-drains", "5"),
    ("guard-reconnects", "500"),
    ("guard-wedged", "65"),
    ("guard-5856", "50"),
    ("guard-crash", "3"),
];

fn soaks(variables: &[(&str, OsString)]) -> Result<()> {
    for (name, count) in SOAKS {
        let mut soak = step::cargo("run");
        soak.args(["--quiet", "--package", "xtask", "--features", "bench"])
            .args(["--", "soak", name, "--count", count]);
        soak.envs(variables.iter().cloned());
        step::run(&format!("soak {name}, {count} trials"), &mut soak)?;
    }
    Ok(())
}

/// What the tests put into an empty root: linked as what `cargo xtask dist` releases, but not optimised.
fn static_binary() -> Result<Option<PathBuf>> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let quick = ["--config", "profile.dev.package.\"*\".opt-level=0", "--config", "profile.dev.debug=false"];
    musl::build("static binary", &workspace::root(), &quick, &[]).map(Some)
}
