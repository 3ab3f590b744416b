//! The licences of the crates that the binary is made of, as their authors ask.
//!
//! Owns the list and its order. Refuses to judge them: that is `cargo xtask lint`, by deny.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{musl, step};

const PACKAGE: &str = "last-call-cli";
/// How the files begin in which crates carry their terms.
const TERMS: &[&str] = &["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

const OPENING: &str = "\
last-call contains the C library musl (https://musl.libc.org; Copyright © 2005-2020 Rich Felker, et al.; MIT),
Rust's standard library (Copyright (c) The Rust Project Contributors; MIT OR Apache-2.0), and these crates.
";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// None for our own.
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// None for what is linked.
    kind: Option<String>,
}

/// The text, for the workspace at `root`.
///
/// # Errors
/// When cargo does not say what the binary depends on, or a crate's files cannot be read.
pub(super) fn of(root: &Path) -> Result<String> {
    let metadata = metadata(root)?;
    let mut text = String::from(OPENING);
    for package in linked(&metadata)? {
        let licence = package.license.as_deref().unwrap_or("in its own terms");
        write!(text, "\n==== {} {}: {licence}\n", package.name, package.version)?;
        for (_, terms) in terms(&package.manifest_path)? {
            write!(text, "\n{}\n", terms.trim())?;
        }
    }
    Ok(text)
}

fn metadata(root: &Path) -> Result<Metadata> {
    let mut cargo = step::cargo("metadata");
    cargo.args(["--format-version=1", "--locked", "--filter-platform", &musl::triple()]).current_dir(root);
    let output = cargo.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    serde_json::from_slice(&output.stdout).context("cargo metadata printed something else than it used to")
}

/// Other people's crates that end up in the binary: procedural macros and what they use run at build time, and are
/// listed with them rather than told apart.
fn linked(metadata: &Metadata) -> Result<Vec<&Package>> {
    let packages: BTreeMap<_, _> = metadata.packages.iter().map(|package| (&package.id, package)).collect();
    let nodes: BTreeMap<_, _> = metadata.resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let program = metadata.packages.iter().find(|package| package.name == PACKAGE);
    let mut ahead = vec![&program.with_context(|| format!("no package {PACKAGE}"))?.id];
    let mut seen = BTreeSet::new();
    while let Some(id) = ahead.pop() {
        if seen.insert(id) {
            let used = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            let used = used.filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            ahead.extend(used.map(|dependency| &dependency.pkg));
        }
    }
    let mut found: Vec<_> = seen.into_iter().filter_map(|id| packages.get(id).copied()).collect();
    found.retain(|package| package.source.is_some());
    found.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(found)
}

/// The files beside a manifest that hold terms, by name.
fn terms(manifest: &Path) -> Result<BTreeMap<String, String>> {
    let directory = manifest.parent().unwrap_or(manifest);
    let unreadable = || format!("cannot read {}", directory.display());
    let mut terms = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && TERMS.iter().any(|begin| name.to_uppercase().starts_with(begin)) {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            terms.insert(name, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(terms)
}
