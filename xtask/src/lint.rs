//! `cargo xtask lint`: what must hold of every change besides its tests.
//!
//! Owns the list of checks; each runs although an earlier one failed, so that one run shows all.
//! Refuses to mend: `cargo fmt` and `cargo clippy --fix` do that.

mod arrows;
mod house;

use anyhow::{Result, bail, ensure};

use crate::{say, setup, step, target, workspace};

type Check = fn() -> Result<()>;

/// Runs every check.
///
/// # Errors
/// When any check failed; each has said why.
pub(crate) fn run() -> Result<()> {
    let checks: [(&str, Check); 7] = [
        ("house rules", house_rules),
        ("arrows between crates", crate_arrows),
        ("format", format),
        ("clippy", clippy),
        ("clippy for macOS", macos),
        ("documentation", documentation),
        ("licences, bans and sources", dependencies),
    ];
    let mut failed = Vec::new();
    for (title, check) in checks {
        if let Err(error) = check() {
            say::progress(format_args!("{error:#}"));
            failed.push(title);
        }
    }
    ensure!(failed.is_empty(), "lint failed: {}", failed.join(", "));
    say::progress("    lint: clean");
    Ok(())
}

fn house_rules() -> Result<()> {
    none_of("house rules", &house::findings(&workspace::files()?))
}

fn crate_arrows() -> Result<()> {
    none_of("arrows between crates", &arrows::findings(&arrows::read()?))
}

fn none_of(title: &str, findings: &[String]) -> Result<()> {
    if findings.is_empty() {
        say::progress(format_args!("==> {title}: as they should be"));
        return Ok(());
    }
    bail!("==> {title}: {} to mend\n    {}", findings.len(), findings.join("\n    "))
}

fn format() -> Result<()> {
    step::run("format", step::cargo("fmt").args(["--all", "--check"]))
}

fn clippy() -> Result<()> {
    let mut clippy = step::cargo("clippy");
    clippy.args(["--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"]);
    step::run("clippy", &mut clippy)?;
    // What most people build: without OpenTelemetry there is other code in its place.
    let mut bare = step::cargo("clippy");
    bare.args(["--package", "last-call-worker", "--all-targets", "--", "--deny", "warnings"]);
    step::run("clippy without features", &mut bare)
}

/// What rustc calls macOS.
const MACOS: &str = "aarch64-apple-darwin";

/// Sees whether rustc can check for macOS.
pub(crate) fn check_macos(install: bool) {
    target::check(MACOS, install, "to check the code for macOS", "lint does not check it");
}

/// The libraries and the program, as far as rustc goes: nothing is linked, and what is C in them is not compiled.
fn macos() -> Result<()> {
    if !target::is_there(MACOS) {
        say::progress(format_args!("=== NOT CHECKED: clippy for macOS: `rustup target add {MACOS}` ==="));
        return Ok(());
    }
    let mut clippy = step::cargo("clippy");
    clippy.args([
        "--target",
        MACOS,
        "--package",
        "last-call",
        "--package",
        "last-call-cli",
        // Without rooms: the build of their cryptography and of Opus runs a compiler for the target.
        "--no-default-features",
        "--",
        "--deny",
        "warnings",
    ]);
    for tool in ["CC", "AR"] {
        clippy.env(format!("{tool}_{}", MACOS.replace('-', "_")), "true");
    }
    step::run("clippy for macOS", &mut clippy)
}

fn documentation() -> Result<()> {
    let mut rustdoc = step::cargo("doc");
    rustdoc.args(["--workspace", "--no-deps", "--all-features"]).env("RUSTDOCFLAGS", "--deny warnings");
    step::run("documentation", &mut rustdoc)
}

fn dependencies() -> Result<()> {
    let mut deny = std::process::Command::new(setup::cargo_deny()?);
    // Advisories need a database from the network and change by the day: they fail no change.
    deny.args(["--all-features", "check", "licenses", "bans", "sources"]).current_dir(workspace::root());
    step::run("licences, bans and sources", &mut deny)
}
