//! Whether a binary needs other files to run.
//!
//! Owns the two questions: an interpreter, a library. Refuses to run it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use elf::ElfBytes;
use elf::abi::{DT_NEEDED, PT_INTERP};
use elf::endian::AnyEndian;

/// Sees that the binary at `path` needs no other.
///
/// # Errors
/// When it asks for an interpreter or a library, or is no ELF file.
pub(super) fn check(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    needs_nothing(&bytes).with_context(|| format!("{} is not static", path.display()))
}

fn needs_nothing(bytes: &[u8]) -> Result<()> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).context("no ELF file")?;
    let Some(segments) = file.segments() else { bail!("an ELF file without segments runs nowhere") };
    ensure!(
        segments.iter().all(|segment| segment.p_type != PT_INTERP),
        "it names an interpreter, which would load libraries"
    );
    let dynamic = file.dynamic().context("its dynamic section makes no sense")?;
    let needs = dynamic.is_some_and(|table| table.iter().any(|entry| entry.d_tag == DT_NEEDED));
    ensure!(!needs, "it needs shared libraries");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_test_is_linked_to_is_found() {
        let this = fs::read("/proc/self/exe").expect("the program that runs");
        let error = needs_nothing(&this).expect_err("tests are linked dynamically").to_string();
        assert!(error.contains("interpreter"), "{error}");
        assert!(needs_nothing(b"#!/bin/sh").is_err());
    }
}
