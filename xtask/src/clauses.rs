//! The tie between docs/protocol.md and the tests: no clause without a test, no test for a clause
//! that is not written down.
//!
//! A clause is a heading `### DRAIN-3 …`. A test is for it when its function's name starts with the
//! clause's id, as `drain_3_nothing_is_accepted` does. Refuses to judge whether the test is enough.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::{self, SourceFile};

const HEADING: &str = "### ";
/// The first words of a section whose clause nothing keeps yet.
const OPEN: &str = "Status: open";
/// Where black-box tests, drivers' tests and the core's properties live.
const TESTED: &[&str] = &["crates/", "examples/", "testkit/"];

/// The clauses of the document, and whether each is open.
fn clauses(document: &str) -> BTreeMap<String, bool> {
    let mut clauses = BTreeMap::new();
    let mut current = None;
    for line in document.lines() {
        if line.starts_with('#') {
            current = line.strip_prefix(HEADING).and_then(|title| title.split_whitespace().next());
            clauses.extend(current.map(|id| (id.to_owned(), false)));
        } else if let (Some(id), true) = (current, line.starts_with(OPEN)) {
            clauses.insert(id.to_owned(), true);
        }
    }
    clauses
}

/// The names of the functions that `text` marks as tests.
pub(crate) fn tests(text: &str) -> Vec<&str> {
    let mut marked = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((_, rest)) = line.split_once("fn ")
            && std::mem::take(&mut marked)
        {
            names.extend(rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next());
        }
    }
    names
}

/// The clause that a test's name claims: `DRAIN-3` for `drain_3_…`, where DRAIN is a family.
fn claimed(test: &str, families: &BTreeSet<&str>) -> Option<String> {
    let mut words = test.split('_');
    let family = words.next()?.to_uppercase();
    let number: u32 = words.next()?.parse().ok()?;
    families.contains(family.as_str()).then(|| format!("{family}-{number}"))
}

/// One sentence for each clause without a test and each test without a clause.
fn findings(document: &str, files: &[SourceFile]) -> Vec<String> {
    let clauses = clauses(document);
    let families: BTreeSet<&str> = clauses.keys().filter_map(|id| id.split('-').next()).collect();
    let mut claims: BTreeMap<String, String> = BTreeMap::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        if TESTED.iter().any(|directory| file.path.starts_with(directory)) {
            let claiming = tests(&file.text).into_iter().filter_map(|test| {
                claimed(test, &families).map(|id| (id, format!("{test} in {}", file.path)))
            });
            claims.extend(claiming);
        }
    }
    let orphans = clauses.iter().filter_map(|(id, open)| match (open, claims.get(id)) {
        (false, None) => {
            Some(format!("{id}: no test's name starts with {}_", id.to_lowercase().replace('-', "_")))
        }
        (true, Some(test)) => Some(format!("{id}: marked \"{OPEN}\", but there is {test}")),
        (false, Some(_)) | (true, None) => None,
    });
    let strays = claims.iter().filter(|(id, _)| !clauses.contains_key(*id));
    orphans.chain(strays.map(|(id, test)| format!("{id}: no such clause, claimed by {test}"))).collect()
}

#[test]
fn every_clause_is_tested_and_every_tested_clause_is_written_down() {
    let document = workspace::read("docs/protocol.md").expect("the clauses are part of the repository");
    let files = workspace::files().expect("tests run in a checkout");
    let findings = findings(&document, &files);
    assert!(findings.is_empty(), "docs/protocol.md and the tests disagree:\n  {}", findings.join("\n  "));
}

#[test]
fn the_document_has_the_families_that_it_should() {
    let document = workspace::read("docs/protocol.md").expect("the clauses are part of the repository");
    let ids: Vec<String> = clauses(&document).into_keys().collect();
    for (family, count) in [("CALL", 2), ("DRAIN", 11), ("JOB", 5), ("REG", 3), ("WIRE", 2)] {
        let numbers = (1..=count).map(|number| format!("{family}-{number}"));
        let missing: Vec<String> = numbers.filter(|id| !ids.contains(id)).collect();
        assert!(missing.is_empty(), "clauses are never removed or renumbered: {missing:?}");
    }
}

mod fixtures {
    use super::*;

    const DOCUMENT: &str =
        "# P\n### DRAIN-1 A\ntext\n### DRAIN-2 B\n\nStatus: open: not built\n## Other\nStatus: open\n";

    fn judged(path: &str, text: &str) -> Vec<String> {
        findings(DOCUMENT, &[SourceFile { path: path.into(), text: text.into() }])
    }

    #[test]
    fn a_tested_clause_and_an_open_one_pass() {
        let text = "#[tokio::test(flavor = \"multi_thread\")]\n#[ignore]\nasync fn drain_1_holds() {}\n";
        assert_eq!(judged("examples/tests/a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn a_clause_without_a_test_is_found() {
        assert_eq!(judged("crates/a/src/a.rs", "fn drain_1_is_no_test() {}").len(), 1);
        assert_eq!(judged("elsewhere/a.rs", "#[test]\nfn drain_1_is_not_looked_at() {}").len(), 1);
    }

    #[test]
    fn a_test_of_an_unknown_or_open_clause_is_found() {
        let first = "#[test]\nfn drain_1_holds() {}\n";
        assert_eq!(judged("crates/a.rs", &format!("{first}#[test]\nfn drain_9_unknown() {{}}")).len(), 1);
        assert_eq!(judged("crates/a.rs", &format!("{first}#[test]\nfn drain_2_open() {{}}")).len(), 1);
        assert!(judged("crates/a.rs", &format!("{first}#[test]\nfn drain_is_free() {{}}")).is_empty());
    }
}
