//! Which crate of the workspace may use which, checked against what their manifests say.
//!
//! Owns the table. Refuses a crate that is not in it: a new crate is a decision, made here first.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{step, workspace};

/// Each crate with the crates of this workspace that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("last-call-proto", &[]),
    ("last-call-worker", &["last-call-proto"]),
    ("last-call-server", &["last-call-proto"]),
    ("last-call-rtc", &[]),
    ("last-call", &["last-call-worker", "last-call-rtc"]),
    ("last-call-cli", &["last-call-worker", "last-call-server"]),
    ("last-call-examples", &["last-call"]),
    ("last-call-testkit", &[]),
    ("xtask", &["last-call-testkit"]),
];

/// What the tests of any crate may use besides.
const IN_TESTS: &[&str] = &["last-call-testkit", "last-call-server"];

/// The crate whose purity the compiler guards: it has no dependency at all.
const PURE: &str = "last-call-proto";

/// What `cargo metadata` says of the workspace's own packages.
#[derive(Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// None for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
    /// Only dependencies inside the workspace have one.
    path: Option<String>,
}

/// Asks cargo.
///
/// # Errors
/// When cargo fails, as it does on a broken manifest.
pub(super) fn read() -> Result<Metadata> {
    let output = step::cargo("metadata")
        .args(["--format-version", "1", "--no-deps"])
        .output()
        .with_context(|| format!("cannot run `cargo metadata` in {}", workspace::root().display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).with_context(|| format!("`cargo metadata` failed: {text}"))
}

/// One sentence for each arrow that the table does not have.
pub(super) fn findings(metadata: &Metadata) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut findings = Vec::new();
    for Package { name, dependencies } in &metadata.packages {
        let Some(allowed) = table.get(name.as_str()) else {
            findings.push(format!("{name} is not in the table of xtask/src/lint/arrows.rs"));
            continue;
        };
        for dependency in dependencies {
            findings.extend(finding(name, allowed, dependency));
        }
    }
    findings
}

fn finding(user: &str, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    let used = dependency.name.as_str();
    let in_tests = dependency.kind.as_deref() == Some("dev");
    if user == PURE && !in_tests {
        return Some(format!("{user} must have no dependency, but it has {used}"));
    }
    let fine = dependency.path.is_none() || allowed.contains(&used) || in_tests && IN_TESTS.contains(&used);
    (!fine).then(|| {
        format!("{user} must not use {used}; docs: ARCHITECTURE.md, table: xtask/src/lint/arrows.rs")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(user: &str, used: &str, kind: Option<&str>, path: Option<&str>) -> Vec<String> {
        let dependency =
            Dependency { name: used.into(), kind: kind.map(Into::into), path: path.map(Into::into) };
        findings(&Metadata { packages: vec![Package { name: user.into(), dependencies: vec![dependency] }] })
    }

    #[test]
    fn arrows_of_the_table_and_outside_crates_pass() {
        assert!(one("last-call-worker", "last-call-proto", None, Some("p")).is_empty());
        assert!(one("last-call-worker", "last-call-testkit", Some("dev"), Some("p")).is_empty());
        assert!(one("last-call-worker", "tokio", None, None).is_empty());
        assert!(one("last-call-proto", "proptest", Some("dev"), None).is_empty());
    }

    #[test]
    fn every_other_arrow_is_found() {
        assert_eq!(one("last-call-worker", "last-call-rtc", None, Some("p")).len(), 1);
        assert_eq!(one("last-call-worker", "last-call-testkit", None, Some("p")).len(), 1);
        assert_eq!(one("last-call-proto", "bytes", None, None).len(), 1);
        assert_eq!(one("last-call-proto", "cc", Some("build"), None).len(), 1);
        assert_eq!(one("last-call-new", "bytes", None, None).len(), 1);
    }
}
