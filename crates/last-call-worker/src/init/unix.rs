//! Systems without subreapers.
//!
//! Owns the refusal. Refuses half an init: one that orphans pass by.

use std::io;
use std::process::Command;

use super::End;

pub(super) fn serve(_worker: impl FnOnce() -> io::Result<Command>, _parent: Option<u32>) -> io::Result<End> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not called.
pub(super) fn end_as(end: End) -> ! {
    std::process::exit(end.code().into())
}

/// Nothing is one here.
pub(super) fn is_there(_init: u32) -> bool {
    false
}
