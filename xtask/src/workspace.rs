//! Where the workspace lies and which files belong to it.
//!
//! Refuses build outputs and ignored files: what git would not carry is nobody's business here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::step;

/// A file of the repository, as text.
pub(crate) struct SourceFile {
    /// Relative to the root, with `/` between its parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The directory that holds the workspace's Cargo.toml.
pub(crate) fn root() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Reads one file, by its path from the root.
///
/// # Errors
/// When it is missing or is no UTF-8.
pub(crate) fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// Every text file that git carries or would carry, in order of path.
///
/// # Errors
/// Where git is missing or this is no git checkout.
pub(crate) fn files() -> Result<Vec<SourceFile>> {
    // A checkout mounted into a container belongs to another user, which git refuses by default.
    let arguments =
        ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listing = step::output("git", &arguments)
        .context("`git ls-files` failed: the house rules need git and a git checkout")?;
    let mut paths: Vec<&str> = listing.split_terminator('\0').collect();
    paths.sort_unstable();
    paths.dedup();
    let root = root();
    Ok(paths
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(root.join(path)).ok()?;
            Some(SourceFile { path: path.to_owned(), text })
        })
        .collect())
}
