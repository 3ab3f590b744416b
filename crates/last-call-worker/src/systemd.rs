//! systemd: what a service of `Type=notify` says to it, as sd_notify(3) has it.
//!
//! Owns the socket and the environment's three variables. Refuses to wait and to matter: what cannot be sent now
//! is said again later, and a systemd that is not there costs one warning. The variables stay set, because
//! removing one is unsound once threads run; of children that inherit them systemd takes nothing
//! (`NotifyAccess=main`).
//!
//! The crates that speak this protocol write to a socket that blocks.

mod news;

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::Instant;

use crate::observe::Snapshot;
use news::News;

/// From a message that could not be sent to the next attempt.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// systemd, as the one that started this process.
#[derive(Debug)]
pub(crate) struct Systemd {
    socket: UnixDatagram,
    address: SocketAddr,
    news: News,
    /// It was said that it cannot be reached.
    warned: bool,
    not_before: Option<Instant>,
}

impl Systemd {
    /// The one that `NOTIFY_SOCKET` names, or none. `server` is where the worker registers, as it may be shown.
    pub(crate) fn from_env(server: String) -> Option<Self> {
        let path = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
        // systemd has started the init, where there is one.
        let started = crate::init::number().unwrap_or_else(std::process::id);
        let news = News::new(server, watchdog(|name| std::env::var_os(name), started));
        match Self::at(&path, news) {
            Ok(systemd) => Some(systemd),
            Err(error) => {
                warn(&path, &error);
                None
            }
        }
    }

    fn at(path: &OsStr, news: News) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address: address(path)?, news, warned: false, not_before: None })
    }

    /// How often [`Systemd::look`] must be called for the watchdog, if there is one.
    pub(crate) fn look_every(&self) -> Option<Duration> {
        self.news.look_every()
    }

    /// Says what is new.
    pub(crate) fn look(&mut self, shown: &Snapshot, now: Instant) {
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return;
        }
        let mut said = self.news.clone();
        let Some(text) = said.next(shown, now) else {
            self.news = said;
            return;
        };
        match self.socket.send_to_addr(text.as_bytes(), &self.address) {
            Ok(_) => {
                self.news = said;
                self.not_before = None;
            }
            Err(error) => {
                self.not_before = Some(now + AGAIN_AFTER);
                if !std::mem::replace(&mut self.warned, true) {
                    warn(&self.address, &error);
                }
            }
        }
    }
}

fn warn(socket: &impl Debug, error: &io::Error) {
    tracing::warn!(
        NOTIFY_SOCKET = ?socket,
        %error,
        "systemd cannot be told how the worker is; it goes on without, but a unit of Type=notify will not get ready"
    );
}

/// A path, or `@` and an abstract name.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(path),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither an absolute path nor @ and a name",
        )),
    }
}

/// How often systemd wants a sign of life from process `started`, if it does.
fn watchdog(variable: impl Fn(&str) -> Option<OsString>, started: u32) -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    let for_us = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(started.into());
    number("WATCHDOG_USEC").filter(|every| for_us && *every > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests;
