//! Targets of rustc beside this machine's own.
//!
//! Owns whether one is there, and the way to it. Refuses to do without rustup what only rustup does.

use std::path::Path;
use std::process::Command;

use crate::{say, step};

/// Whether rustc can build for `triple`.
pub(crate) fn is_there(triple: &str) -> bool {
    let sysroot = step::output("rustc", &["--print", "sysroot"]);
    sysroot.is_some_and(|path| Path::new(path.trim()).join("lib/rustlib").join(triple).is_dir())
}

/// Sees whether rustc can build for `triple`, which is wanted for `what`; where it cannot and `install` says so, has
/// rustup mend that. Where neither helps, says what is `done` in its place.
pub(crate) fn check(triple: &str, install: bool, what: &str, done: &str) {
    let command = format!("rustup target add {triple}");
    if install && !is_there(triple) {
        let added = step::run(&command, Command::new("rustup").args(["target", "add", triple]));
        added.unwrap_or_else(|error| say::progress(format_args!("    {error:#}")));
    }
    if is_there(triple) {
        say::progress(format_args!("    have    {triple:<33}{what}"));
    } else {
        say::progress(format_args!("    without {triple:<33}{done}; `{command}`"));
    }
}
