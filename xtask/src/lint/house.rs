//! The house rules that no compiler knows: size, headers, names, and nothing of one machine.
//!
//! Owns the rules and their wording. Refuses matters of taste that only a reader can judge.

use crate::workspace::SourceFile;

/// A file may not be longer.
const MOST_LINES: usize = 1000;
/// A longer file says in its header why.
const LONG: usize = 600;
const REASON: &str = "This file is long because";

/// Extensions of files that people write by hand and read from top to bottom.
const CODE: &[&str] = &["rs", "py", "sh", "js", "mjs"];

/// Words that name nothing, so no file, module or type bears them.
const EMPTY_WORDS: &[&str] = &["manager", "helper", "util", "utils", "common", "base", "impl"];

/// Top directories that exist on one machine and not on the next.
const MACHINE: &[&str] = &["tmp", "root", "work", "home"];

/// Marks of unfinished work, split so that this file does not contain them.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// The command that README.md tells a newcomer to run and that CI runs.
const TEST_COMMAND: &str = "cargo xtask test";

/// One sentence for each breach, with its place.
pub(super) fn findings(files: &[SourceFile]) -> Vec<String> {
    let mut findings: Vec<String> = files.iter().flat_map(of_file).collect();
    for path in ["README.md", ".ci/run"] {
        if !files.iter().any(|file| file.path == path && file.text.contains(TEST_COMMAND)) {
            findings.push(format!("{path}: must be there and run `{TEST_COMMAND}`"));
        }
    }
    findings
}

fn of_file(file: &SourceFile) -> Vec<String> {
    let SourceFile { path, text } = file;
    let name = path.rsplit('/').next().unwrap_or(path);
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let mut findings = Vec::new();
    if CODE.contains(&extension) {
        findings.extend(size(text));
        findings.extend(empty_word(stem).map(|word| format!("a file is not called {word:?}")));
    }
    if extension == "rs" {
        findings.extend(header(path, text));
        findings.extend(lines(text, rust_line));
    }
    if extension != "lock" && !name.ends_with("-lock.json") {
        findings.extend(lines(text, machine_path));
    }
    findings.into_iter().map(|finding| format!("{path}: {finding}")).collect()
}

fn size(text: &str) -> Option<String> {
    let count = text.lines().count();
    let explained = text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains(REASON));
    if count > MOST_LINES {
        Some(format!("{count} lines, at most {MOST_LINES} are allowed"))
    } else if count > LONG && !explained {
        Some(format!("{count} lines: over {LONG} the header says \"{REASON} …\""))
    } else {
        None
    }
}

fn header(path: &str, text: &str) -> Option<String> {
    // An included fragment of a test can carry no inner documentation.
    let fragment = path.contains("/tests/") && text.starts_with("// ");
    let opens = text.starts_with("//! ") || fragment;
    (!opens).then(|| "must open with `//!`: what it owns and what it refuses".to_owned())
}

fn lines(text: &str, rule: fn(&str) -> Option<String>) -> Vec<String> {
    let numbered = text.lines().zip(1_usize..);
    numbered
        .filter_map(|(line, number)| rule(line).map(|finding| format!("line {number}: {finding}")))
        .collect()
}

fn rust_line(line: &str) -> Option<String> {
    let code = line.trim_start();
    if code.starts_with("#[allow(") || code.starts_with("#![allow(") {
        return Some("write #[expect(…, reason = \"…\")] instead of #[allow(…)]".to_owned());
    }
    if let Some(mark) = UNFINISHED.iter().find(|mark| code.contains(*mark)) {
        return Some(format!("{mark}: finish it, or write it into an issue"));
    }
    let word = declared_name(code).and_then(empty_word)?;
    Some(format!("nothing is called {word:?}: say what it does"))
}

/// The name after `mod`, `struct`, `enum` or `trait`, where the line begins by declaring one.
fn declared_name(code: &str) -> Option<&str> {
    let mut words = code.split_whitespace().skip_while(|word| word.starts_with("pub"));
    if !["mod", "struct", "enum", "trait"].contains(&words.next()?) {
        return None;
    }
    words.next()?.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

/// The empty word in a name such as `job_util` or `JobManager`, if there is one.
fn empty_word(name: &str) -> Option<&'static str> {
    let mut spaced = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() || !letter.is_alphanumeric() {
            spaced.push(' ');
        }
        spaced.extend(letter.to_lowercase());
    }
    let mut words = spaced.split(|letter: char| !letter.is_alphanumeric());
    words.find_map(|word| EMPTY_WORDS.iter().copied().find(|empty| *empty == word))
}

fn machine_path(line: &str) -> Option<String> {
    let found = MACHINE.iter().find(|directory| {
        let path = format!("/{directory}/");
        // Where something stands before the slash this is the middle of a longer path or address.
        let inner = |before: char| before.is_alphanumeric() || "._-/}*".contains(before);
        line.match_indices(&path).any(|(at, _)| !line[..at].ends_with(inner))
    })?;
    Some(format!("names /{found}/…, a path of one machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_file(path: &str, text: &str) -> Vec<String> {
        of_file(&SourceFile { path: path.into(), text: text.into() })
    }

    fn long(header: &str, lines: usize) -> String {
        format!("{header}\n{}", "fn f() {}\n".repeat(lines - 1))
    }

    #[test]
    fn a_plain_file_passes() {
        let text =
            "//! Owns a job. Refuses nothing.\n\npub struct Job;\n// A base and a util in a comment.\n";
        assert_eq!(in_file("crates/a/src/job.rs", text), Vec::<String>::new());
    }

    #[test]
    fn long_files_explain_themselves_and_have_an_end() {
        assert!(in_file("a.rs", &long("//! A.", 600)).is_empty());
        assert_eq!(in_file("a.rs", &long("//! A.", 601)).len(), 1);
        assert!(in_file("a.rs", &long("//! This file is long because of its table.", 1000)).is_empty());
        assert_eq!(in_file("a.rs", &long("//! This file is long because of its table.", 1001)).len(), 1);
        assert!(in_file("bench/results/a.json", &long("{", 5000)).is_empty());
    }

    #[test]
    fn a_missing_header_is_found() {
        assert_eq!(in_file("a.rs", "use std::fs;\n").len(), 1);
        assert_eq!(in_file("src/a.rs", "// A fragment.\n").len(), 1);
        assert!(in_file("crates/a/tests/it/a.rs", "// A fragment.\n").is_empty());
    }

    #[test]
    fn empty_names_are_found() {
        assert_eq!(in_file("src/job_util.rs", "//! A.\n").len(), 1);
        assert_eq!(in_file("src/a.rs", "//! A.\npub(crate) struct JobManager {\n").len(), 1);
        assert_eq!(in_file("src/a.rs", "//! A.\nmod common;\n").len(), 1);
        assert!(in_file("src/a.rs", "//! A.\nstruct Database;\nmod baseline;\n").is_empty());
    }

    #[test]
    fn silenced_lints_and_unfinished_work_are_found() {
        assert_eq!(in_file("a.rs", "//! A.\n    #[allow(dead_code)]\n").len(), 1);
        assert_eq!(in_file("a.rs", concat!("//! A.\n// TO", "DO later\n")).len(), 1);
        assert!(in_file("a.rs", "//! A.\n#[expect(dead_code, reason = \"b\")]\n").is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found_and_longer_paths_are_not() {
        let path = |root: &str| format!("see /{root}/x\n");
        assert_eq!(in_file("a.md", &path("tmp")).len(), 1);
        assert_eq!(in_file("a.toml", &format!("\"/{}/x\"", "root")).len(), 1);
        let longer = format!("https://livekit.io/{}/x crates/a/{}/x /usr/sbin/x", "home", "work");
        assert!(in_file("a.md", &longer).is_empty());
        assert!(in_file("Cargo.lock", &path("work")).is_empty());
    }

    #[test]
    fn readme_and_ci_name_the_same_command() {
        let file = |path: &str| SourceFile { path: path.into(), text: "cargo xtask test\n".into() };
        assert!(findings(&[file("README.md"), file(".ci/run")]).is_empty());
        assert_eq!(findings(&[file("README.md")]).len(), 1);
    }
}
