//! The target for which `last-call` is linked statically: this machine's processor, Linux, musl.
//!
//! Owns its name, whether it is there, and the build for it. Refuses the GNU C Library for a release: linked statically
//! it still loads what /etc/nsswitch.conf names, of whatever version the machine has, and its licence goes along.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{step, target, workspace};

/// Names the static binary to the tests that put it into an empty root.
pub(crate) const VARIABLE: &str = "LAST_CALL_STATIC_BINARY";

const PROGRAM: &str = "last-call";

/// What rustc calls the target.
pub(crate) fn triple() -> String {
    format!("{ARCH}-unknown-linux-musl")
}

/// Sees whether rustc can build for the target. Where it cannot, tests take a program that is linked with the GNU C
/// Library: what they look for holds for it too.
pub(crate) fn check(install: bool) {
    target::check(&triple(), install, "to link the program statically", "tests take the GNU C Library");
}

/// As [`check`], where nothing else will do.
///
/// # Errors
/// When rustc cannot build for the target: with the command that helps.
pub(crate) fn need() -> Result<()> {
    let triple = triple();
    ensure!(target::is_there(&triple), "missing: {triple}; this installs it: rustup target add {triple}");
    Ok(())
}

/// Builds the program of the workspace at `root` with these arguments of cargo and flags of rustc; its path.
///
/// # Errors
/// When the build fails.
pub(crate) fn build(title: &str, root: &Path, arguments: &[&str], flags: &[String]) -> Result<PathBuf> {
    let mut flags = flags.to_vec();
    let triple = triple();
    let triple = if target::is_there(&triple) {
        triple
    } else {
        flags.push("-Ctarget-feature=+crt-static".to_owned());
        format!("{ARCH}-unknown-linux-gnu")
    };
    let directory = target_directory(root);
    let mut build = step::cargo("build");
    build.args(["--locked", "--package", "last-call-cli", "--bin", PROGRAM, "--target", &triple]);
    build.args(arguments).arg("--target-dir").arg(&directory).current_dir(root);
    if triple.ends_with("-musl") {
        // The system's own compiler would take the headers of another C library.
        build.env(format!("CC_{}", triple.replace('-', "_")), "musl-gcc");
    }
    // This one wins over all other places where a machine may have flags of its own.
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    step::run(title, &mut build)?;
    let profile = arguments.iter().find_map(|argument| argument.strip_prefix("--profile="));
    let path = directory.join(&triple).join(profile.unwrap_or("debug")).join(PROGRAM);
    path.is_file().then_some(path).with_context(|| format!("{title}: no {PROGRAM} came of it"))
}

fn target_directory(root: &Path) -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").filter(|_| root == workspace::root());
    chosen.map_or_else(|| root.join("target"), PathBuf::from)
}
