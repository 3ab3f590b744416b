//! Where figures are kept: files under bench/results/.
//!
//! Refuses to keep a history: git does.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{say, workspace};

/// Keeps `result` as bench/results/`name`.json in place of the previous one, and says so.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn keep(name: &str, result: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(result).context("the result is no JSON")?;
    keep_text(&format!("{name}.json"), &(text + "\n"))
}

/// Keeps `text` as bench/results/`file`.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn keep_text(file: &str, text: &str) -> Result<()> {
    let directory = workspace::root().join("bench/results");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join(file);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say::progress(format_args!("    result: bench/results/{file}"));
    Ok(())
}
