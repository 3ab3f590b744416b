//! The tools that come from the system's package manager: which are there, and the one command that
//! installs the rest.
//!
//! Refuses to guess: where it knows no package manager it names the tools and stops.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::{say, step};

/// One tool that something here needs.
struct Need {
    name: &'static str,
    /// The rest of "needed to …".
    reason: &'static str,
    /// Says which version is there; none where the tool is missing or cannot do what is needed.
    probe: fn() -> Option<String>,
    /// What apt-get, dnf and brew call it; none where missing it is fine.
    packages: Option<[&'static str; 3]>,
}

/// Tools of the kernel's own network and process tests, and a browser that needs no desktop: only where there is Linux.
const LINUX: &[Need] = &[
    Need {
        name: "ip",
        reason: "make network namespaces",
        probe: || on_path("ip"),
        packages: Some(["iproute2", "iproute", ""]),
    },
    Need {
        name: "nft",
        reason: "drop and reset connections",
        probe: || on_path("nft"),
        packages: Some(["nftables", "nftables", ""]),
    },
    Need {
        name: "unshare",
        reason: "start a worker as PID 1",
        probe: || on_path("unshare"),
        packages: Some(["util-linux", "util-linux", ""]),
    },
    Need {
        name: "musl-gcc",
        reason: "compile the TLS library for the static binary",
        probe: || on_path("musl-gcc"),
        packages: Some(["musl-tools", "musl-gcc", ""]),
    },
    Need {
        name: "turnserver",
        reason: "reach a room by a relay (coturn; no test needs it as a service)",
        probe: || on_path("turnserver"),
        packages: Some(["coturn", "coturn", ""]),
    },
    Need {
        name: "chromium",
        reason: "open the server's page",
        probe: || ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(on_path),
        packages: Some(["chromium", "chromium", ""]),
    },
];

const EVERYWHERE: &[Need] = &[
    Need {
        name: "cc",
        reason: "compile the TLS library",
        probe: || on_path("cc"),
        packages: Some(["gcc libc6-dev", "gcc", "gcc"]),
    },
    Need {
        name: "cmake",
        reason: "compile the audio codec of rooms",
        probe: || on_path("cmake"),
        packages: Some(["cmake", "cmake", "cmake"]),
    },
    Need {
        name: "go",
        reason: "build livekit-server (1.21 or later: it fetches the toolchain that it lacks)",
        probe: || version("go", &["version"], 2).filter(|found| at_least(found, (1, 21))),
        packages: Some(["golang-go", "golang", "go"]),
    },
    Need {
        name: "python3",
        reason: "drive LiveKit's Python packages (3.9 or later, with venv)",
        probe: python,
        packages: Some(["python3 python3-venv", "python3", "python3"]),
    },
    Need {
        name: "node",
        reason: "drive LiveKit's Node package and the browser (with npm)",
        probe: || on_path("npm").and_then(|_npm| version("node", &["--version"], 0)),
        packages: Some(["nodejs npm", "nodejs npm", "node"]),
    },
];

/// Prints which tools are there, and installs the missing ones where `install` says so.
///
/// # Errors
/// When a required tool is missing and `install` is off, or still missing after installing.
pub(super) fn check(install: bool) -> Result<()> {
    let missing = survey();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|need| need.name).collect::<Vec<_>>().join(", ");
    let Some(command) = Installer::find().map(|installer| installer.command(&missing, is_root())) else {
        bail!("missing: {names}; there is no apt-get, dnf or brew here: install them by hand");
    };
    if !install {
        bail!("missing: {names}; this installs them:\n\n    {command}\n\n(or: cargo xtask setup --install)");
    }
    step::run(&format!("install {names}"), Command::new("sh").args(["-c", &command]))?;
    let left = survey();
    let left = left.iter().map(|need| need.name).collect::<Vec<_>>().join(", ");
    ensure!(
        left.is_empty(),
        "still missing or too old after installing: {left}; install a newer one by hand"
    );
    Ok(())
}

/// Prints the table and returns the required tools that are missing.
fn survey() -> Vec<&'static Need> {
    let linux = if cfg!(target_os = "linux") { LINUX } else { &[] };
    let mut missing = Vec::new();
    for need in EVERYWHERE.iter().chain(linux) {
        let found = (need.probe)();
        let state = match (&found, need.packages) {
            (Some(_), _) => "have",
            (None, Some(_)) => "MISSING",
            (None, None) => "none",
        };
        let detail = found.as_deref().unwrap_or("-");
        say::progress(format_args!("    {state:<8}{:<9}{detail:<24}to {}", need.name, need.reason));
        if found.is_none() && need.packages.is_some() {
            missing.push(need);
        }
    }
    missing
}

#[derive(Clone, Copy)]
enum Installer {
    Apt,
    Dnf,
    Brew,
}

impl Installer {
    fn find() -> Option<Self> {
        let known = [("apt-get", Self::Apt), ("dnf", Self::Dnf), ("brew", Self::Brew)];
        known.into_iter().find(|(program, _)| on_path(program).is_some()).map(|(_, installer)| installer)
    }

    fn command(self, needs: &[&Need], root: bool) -> String {
        let packages = |column: usize| {
            let names = needs.iter().filter_map(|need| need.packages).map(|names| names[column]);
            names.filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" ")
        };
        let sudo = if root { "" } else { "sudo " };
        match self {
            Self::Apt => format!(
                "{sudo}apt-get update && {sudo}env DEBIAN_FRONTEND=noninteractive \
                 apt-get install --yes --no-install-recommends {}",
                packages(0)
            ),
            Self::Dnf => format!("{sudo}dnf install --assumeyes {}", packages(1)),
            // Homebrew refuses to run as root.
            Self::Brew => format!("brew install {}", packages(2)),
        }
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The path of `program`; system directories count although a plain user's PATH may lack them.
fn on_path(program: &str) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = env::split_paths(&path).chain(system).map(|directory| directory.join(program));
    found.into_iter().find(|candidate| candidate.is_file()).map(|found| shown(&found))
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The word at `position` of what the program prints about its version.
fn version(program: &str, arguments: &[&str], position: usize) -> Option<String> {
    step::output(program, arguments)?.split_whitespace().nth(position).map(str::to_owned)
}

/// Debian ships a python3 whose venv module cannot make an environment: ensurepip is what it lacks.
fn python() -> Option<String> {
    step::output("python3", &["-c", "import ensurepip, venv"])?;
    version("python3", &["--version"], 1).filter(|found| at_least(found, (3, 9)))
}

/// Compares the first two numbers of a version such as `go1.26.8`, `3.11.7` or `v20.20.2`.
fn at_least(version: &str, wanted: (u32, u32)) -> bool {
    let digits = version.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let mut numbers =
        digits.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(at_least("go1.26.8", (1, 21)));
        assert!(at_least("3.11.7", (3, 9)));
        assert!(at_least("4.0", (3, 9)));
        assert!(!at_least("go1.19", (1, 21)));
        assert!(!at_least("3.8.10", (3, 9)));
        assert!(!at_least("devel", (1, 21)));
    }

    #[test]
    fn one_command_installs_all_that_is_missing() {
        let needs: Vec<&Need> = LINUX.iter().collect();
        let apt = Installer::Apt.command(&needs, true);
        assert!(apt.starts_with("apt-get update && "), "{apt}");
        assert!(apt.ends_with("iproute2 nftables util-linux musl-tools coturn chromium"), "{apt}");
        assert!(Installer::Dnf.command(&needs, false).starts_with("sudo dnf install"));
    }
}
