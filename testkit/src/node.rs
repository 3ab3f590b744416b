//! Owns the use of LiveKit's official Node packages, and of what else tests run on Node. Refuses other versions than those of
//! `testkit/node/package.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::launch::Launch;
use crate::livekit::cache;

/// Names another folder of packages.
const MODULES: &str = "LAST_CALL_NODE_MODULES";

/// Names the browser, in place of the system's.
const BROWSER: &str = "LAST_CALL_BROWSER";

/// Node with the packages that `cargo xtask setup` installs.
#[derive(Clone, Debug)]
pub struct Node {
    modules: PathBuf,
}

impl Node {
    /// Finds Node, and this package.
    ///
    /// # Errors
    /// When one is missing: with the command that installs it, in words for [`skip`](crate::skip()).
    pub fn find(package: &str) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("node").is_file()) {
            bail!("no program `node`: run `cargo xtask setup --install`");
        }
        let modules = match std::env::var_os(MODULES) {
            Some(path) => path.into(),
            None => cache()?.join("node/node_modules"),
        };
        if !modules.join(package).is_dir() {
            let path = modules.display();
            bail!(
                "no {package} in {path}: run `cargo xtask setup`, or name a folder of packages in {MODULES}"
            );
        }
        Ok(Self { modules })
    }

    /// The program of a Chromium.
    ///
    /// # Errors
    /// When there is none: with the command that installs it, in words for [`skip`](crate::skip()).
    pub fn browser() -> Result<PathBuf> {
        if let Some(program) = std::env::var_os(BROWSER) {
            return Ok(program.into());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let programs = ["chromium", "chromium-browser", "google-chrome"];
        let in_folder =
            |folder: PathBuf| programs.iter().map(move |name| folder.join(name)).collect::<Vec<_>>();
        let found = std::env::split_paths(&path).flat_map(in_folder).find(|file| file.is_file());
        found.with_context(|| {
            format!("no Chromium: run `cargo xtask setup --install`, or name one in {BROWSER}")
        })
    }

    /// A program of this file, that finds the packages by `NODE_PATH`.
    pub fn script(&self, path: impl AsRef<Path>) -> Launch {
        Launch::new("node").env("NODE_PATH", &self.modules).arg(path.as_ref())
    }
}
