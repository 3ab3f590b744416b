//! Where figures are kept: one JSON file for each bench, under bench/results/.
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
#[expect(dead_code, reason = "no bench is registered")]
pub(crate) fn keep(name: &str, result: &impl Serialize) -> Result<()> {
    let directory = workspace::root().join("bench/results");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(result).context("the result is no JSON")?;
    fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    say::progress(format_args!("    result: bench/results/{name}.json"));
    Ok(())
}
