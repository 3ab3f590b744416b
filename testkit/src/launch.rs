//! Owns how a program is started: arguments, environment, signal mask, PID namespace, network namespace. Refuses `unsafe`: what the
//! standard library cannot set safely is set by a launcher that then becomes the program.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
pub use nix::sys::signal::Signal;

use crate::child::Child;

/// Its arguments are the file and the program.
const RESOLVER: &str = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;

const LAUNCHER: &str = include_str!("../python/launch.py");

/// A program to start. The environment of the test is inherited; standard input is empty unless [`Launch::stdin`] asks for a pipe.
#[derive(Clone, Debug)]
pub struct Launch {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    without: Vec<OsString>,
    directory: Option<PathBuf>,
    blocked: BTreeSet<Signal>,
    ignored: BTreeSet<Signal>,
    pid_1: bool,
    netns: Option<String>,
    resolver: Option<PathBuf>,
    stdin: bool,
}

impl Launch {
    /// The program by path, or by name to be found in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            without: Vec::new(),
            directory: None,
            blocked: BTreeSet::new(),
            ignored: BTreeSet::new(),
            pid_1: false,
            netns: None,
            resolver: None,
            stdin: false,
        }
    }

    /// Another program instead, with all the rest.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> Self {
        self.program = program.as_ref().to_owned();
        self
    }

    /// Another program instead, which gets `args`, and behind them this one with its own.
    pub fn behind(
        mut self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        let mut words: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        words.push(std::mem::replace(&mut self.program, program.as_ref().to_owned()));
        words.append(&mut self.args);
        self.args = words;
        self
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Adds or replaces one variable of the environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Takes one inherited variable out of the environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.without.push(name.as_ref().to_owned());
        self
    }

    /// The working directory; by default that of the test.
    pub fn directory(mut self, path: impl AsRef<Path>) -> Self {
        self.directory = Some(path.as_ref().to_owned());
        self
    }

    /// The program starts with `signal` blocked, as under a parent that blocks it. Needs Python 3.
    pub fn blocked(mut self, signal: Signal) -> Self {
        self.blocked.insert(signal);
        self
    }

    /// The program starts with `signal` ignored, as under `nohup` or a careless shell. Needs Python 3.
    pub fn ignored(mut self, signal: Signal) -> Self {
        self.ignored.insert(signal);
        self
    }

    /// The program is process 1 of a PID namespace of its own, as in a container: signals that it does not handle do nothing. Needs root
    /// and `unshare`; see [`pid_1_possible`].
    pub fn pid_1(mut self) -> Self {
        self.pid_1 = true;
        self
    }

    /// The program runs in a network namespace made by `ip netns`. Needs root.
    pub fn in_netns(mut self, name: &str) -> Self {
        self.netns = Some(name.to_owned());
        self
    }

    /// The program reads this file as /etc/resolv.conf, and it alone does. Needs root and `unshare`.
    pub fn resolver(mut self, path: impl AsRef<Path>) -> Self {
        self.resolver = Some(path.as_ref().to_owned());
        self
    }

    /// Gives the program a pipe as standard input, open until [`Child::close_stdin`].
    pub fn stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// When the program, or a tool that an option needs, cannot be started.
    pub fn spawn(self) -> Result<Child> {
        Child::start(self.command(), &self.program, self.pid_1)
    }

    fn command(&self) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if self.stdin { Stdio::piped() } else { Stdio::null() });
        for name in &self.without {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(path) = &self.directory {
            command.current_dir(path);
        }
        command
    }

    /// The whole command line: each launcher in front of the program replaces itself by the next, except unshare, which forks.
    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(name) = &self.netns {
            words.extend(["ip", "netns", "exec", name].map(OsString::from));
        }
        if let Some(path) = &self.resolver {
            words.extend(["unshare", "--mount", "sh", "-c", RESOLVER].map(OsString::from));
            words.push(path.into());
        }
        if self.pid_1 {
            words.extend(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"].map(OsString::from));
        }
        if !self.blocked.is_empty() || !self.ignored.is_empty() {
            words.extend(["python3", "-c", LAUNCHER].map(OsString::from));
            words.extend([numbers(&self.blocked), numbers(&self.ignored)]);
        }
        words.push(self.program.clone());
        words.extend(self.args.iter().cloned());
        words
    }
}

fn numbers(signals: &BTreeSet<Signal>) -> OsString {
    let numbers: Vec<String> = signals.iter().map(|signal| (*signal as i32).to_string()).collect();
    numbers.join(",").into()
}

/// Whether [`Launch::pid_1`] works here: asks `unshare` for a PID namespace once.
///
/// # Errors
/// What is missing, in words for [`skip`](crate::skip()).
pub fn pid_1_possible() -> Result<()> {
    let tried =
        Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "--kill-child", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("a PID namespace needs root: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => bail!("a PID namespace needs the program `unshare` of util-linux: {error}"),
    }
}
