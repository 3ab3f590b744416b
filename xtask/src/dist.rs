//! `cargo xtask dist`: the archive that a release is, from the static binary to its pages.
//!
//! Owns what is in it, and the comparison of two builds. Refuses to publish, and to pack a binary that was not tried
//! where there is nothing but itself.

mod archive;
mod linkage;
mod notices;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use self::archive::Entry;
use crate::{musl, say, step, workspace};

const NAME: &str = "last-call";

/// What one build came to.
struct Made {
    binary: PathBuf,
    archive: PathBuf,
}

/// Builds, tries and packs; or, to `check`, does the building and packing twice from two clones of the last commit.
///
/// # Errors
/// When something is missing, the binary is not what it should be, or two builds differ.
pub(crate) fn run(check: bool) -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "a static binary is for Linux, and can be built only there");
    musl::need()?;
    if check {
        return twice();
    }
    let made = make(&workspace::root())?;
    attempt(&made.binary)?;
    say::progress(format_args!("    {NAME} needs no other file: neither an interpreter nor a library"));
    for path in [&made.binary, &made.archive] {
        say::result(describe(path)?);
    }
    Ok(())
}

fn describe(path: &Path) -> Result<String> {
    let size = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    Ok(format!("{}  {size:>9} bytes  {}", sha256(path)?, path.display()))
}

fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Builds and packs the workspace at `root`.
fn make(root: &Path) -> Result<Made> {
    let time = time(root)?;
    let flags = same_everywhere(root)?;
    let binary = musl::build("static binary (minutes)", root, &["--profile=static"], &flags)?;
    linkage::check(&binary)?;
    let whole = format!("{NAME}-{}-{}", env!("CARGO_PKG_VERSION"), musl::triple());
    let directory = root.join("target/dist");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let archive = directory.join(format!("{whole}.tar.gz"));
    archive::write(&archive, &whole, time, entries(root, &binary)?)?;
    Ok(Made { binary, archive })
}

/// Seconds since 1970: that of SOURCE_DATE_EPOCH, else of the last commit.
fn time(root: &Path) -> Result<u64> {
    let path = root.to_string_lossy();
    let git = ["-c", "safe.directory=*", "-C", &path, "log", "-1", "--format=%ct"];
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            step::output("git", &git).context("no commit and no SOURCE_DATE_EPOCH to date the archive by")?
        }
    };
    text.trim().parse().with_context(|| format!("{:?} is no time in seconds", text.trim()))
}

/// Flags that take the paths of this machine out of the binary.
fn same_everywhere(root: &Path) -> Result<Vec<String>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let home = home.context("no place for cargo's own files: set CARGO_HOME or HOME")?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    Ok(vec![remap(&home, "cargo"), remap(root, NAME)])
}

/// What the archive holds, in no order.
fn entries(root: &Path, binary: &Path) -> Result<Vec<Entry>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut entries = vec![
        Entry::program(NAME, read(binary)?),
        Entry::text("LICENSE", read(&root.join("LICENSE"))?),
        Entry::text("NOTICE", read(&root.join("NOTICE"))?),
        Entry::text("THIRD-PARTY.txt", notices::of(root)?.into_bytes()),
    ];
    for (shell, file) in [("bash", "last-call.bash"), ("zsh", "_last-call"), ("fish", "last-call.fish")] {
        entries.push(Entry::text(format!("completions/{file}"), printed(binary, &["completions", shell])?));
    }
    let main = printed(binary, &["man"])?;
    for command in commands(&String::from_utf8_lossy(&main)) {
        let page = printed(binary, &["man", &command])?;
        entries.push(Entry::text(format!("man/man1/{NAME}-{command}.1"), page));
    }
    entries.push(Entry::text(format!("man/man1/{NAME}.1"), main));
    Ok(entries)
}

/// What the program prints about itself, whatever this machine has set for it.
fn printed(binary: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(binary).args(arguments).env_clear().output();
    let output = output.with_context(|| format!("cannot start {}", binary.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{NAME} {} failed: {}", arguments.join(" "), said.trim());
    Ok(output.stdout)
}

/// The commands whose pages the program's own page refers to, as `last\-call\-server(1)`.
fn commands(page: &str) -> Vec<String> {
    let lines = page.lines().map(|line| line.replace('\\', ""));
    let referred = lines.filter_map(|line| Some(line.strip_prefix(NAME)?.strip_prefix('-')?.to_owned()));
    referred.filter_map(|line| line.strip_suffix("(1)").map(str::to_owned)).collect()
}

/// Tries a binary in an empty root: names, localhost, TLS.
fn attempt(binary: &Path) -> Result<()> {
    let mut test = step::cargo("test");
    test.args(["--package", "last-call-cli", "--test", "empty_root"]).env(musl::VARIABLE, binary);
    step::run("the binary in an empty root", &mut test)
}

/// Builds two clones that lie at paths of different length.
fn twice() -> Result<()> {
    let root = workspace::root();
    let scratch = tempfile::tempdir().context("cannot make a directory for the clones")?;
    let mut archives = Vec::new();
    for name in ["one", "another-one"] {
        let clone = scratch.path().join(name);
        let mut git = Command::new("git");
        git.args(["-c", "safe.directory=*", "clone", "--quiet"]).arg(&root).arg(&clone);
        step::run("clone", &mut git)?;
        let made = make(&clone)?;
        say::result(describe(&made.binary)?);
        say::result(describe(&made.archive)?);
        archives.push(sha256(&made.archive)?);
    }
    ensure!(archives[0] == archives[1], "two builds of one commit differ: compare what was printed above");
    say::progress("    two builds of the last commit in two places are the same, byte for byte");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_program_names_the_others() {
        let page = ".SH SUBCOMMANDS\n.TP\nlast\\-call\\-server(1)\nRun last\\-call\\-x(1)\n.TP\nlast\\-call\\-ps(1)\n";
        assert_eq!(commands(page), ["server", "ps"]);
    }
}
