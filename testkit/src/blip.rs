//! A network that fails under a worker: ten faults, each in six states of the worker, which are sixty cells. Every cell ends with
//! a SIGTERM and the worker's own end, and [`run`] says what became of offers and calls.
//!
//! Owns the faults, the states and what counts as a breach. Refuses to know the worker: whatever registers at the URL that its
//! [`Subject`] is given, and obeys the orders of probe that a job's metadata carries (docs/probe.md: `sleep`, `accept_delay`), can
//! be tried.

mod dice;
mod gate;
mod play;
mod road;
mod verdict;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result};

use crate::launch::Launch;
use crate::netns::Netns;

pub use self::play::run;
pub use self::verdict::Verdict;

/// How long anything may take that a worker does by itself, on however busy a machine.
const SOON: Duration = Duration::from_secs(30);

/// What goes wrong between worker and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The connection is reset.
    Rst,
    /// The connection ends, without a WebSocket close.
    Fin,
    /// Nothing arrives either way until the worker tries again; what was sent arrives late, as TCP has it.
    Drop,
    /// The same in one direction, which the seed chooses.
    DropOneWay,
    /// The worker's connection is lost without a sign, and the server keeps its half for ever.
    HalfOpen,
    /// Every byte arrives alone and slowly. Nothing is lost, so nothing may be given up.
    Trickle,
    /// A frame stops in its middle, in the direction that the seed chooses.
    Freeze,
    /// The connection is lost, and the next one's TLS handshake takes seconds.
    SlowTls,
    /// The connection is lost, and nobody answers for the server's name. Needs [`Netns`].
    NoDns,
    /// The server goes, with its port and its connections, and comes again.
    Restart,
}

/// What the worker is at when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It has no call.
    Idle,
    /// User code thinks about an offer.
    Offered,
    /// It has accepted a job that is not assigned.
    Accepted,
    /// A call runs. So does one in every state but the first.
    Running,
    /// It drains, and its call goes on.
    Draining,
    /// Its last call ends, and it leaves.
    Exiting,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Rst,
        Self::Fin,
        Self::Drop,
        Self::DropOneWay,
        Self::HalfOpen,
        Self::Trickle,
        Self::Freeze,
        Self::SlowTls,
        Self::NoDns,
        Self::Restart,
    ];

    /// Whether this machine can have it.
    ///
    /// # Errors
    /// What is missing, in words for [`skip`](crate::skip()).
    pub fn possible(self) -> Result<()> {
        match self {
            Self::NoDns => Netns::possible(),
            Self::Rst
            | Self::Fin
            | Self::Drop
            | Self::DropOneWay
            | Self::HalfOpen
            | Self::Trickle
            | Self::Freeze
            | Self::SlowTls
            | Self::Restart => Ok(()),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Rst => "rst",
            Self::Fin => "fin",
            Self::Drop => "drop",
            Self::DropOneWay => "drop-one-way",
            Self::HalfOpen => "half-open",
            Self::Trickle => "trickle",
            Self::Freeze => "freeze",
            Self::SlowTls => "slow-tls",
            Self::NoDns => "no-dns",
            Self::Restart => "restart",
        }
    }
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Offered, Self::Accepted, Self::Running, Self::Draining, Self::Exiting];

    fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Offered => "offered",
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Exiting => "exiting",
        }
    }
}

/// One fault in one state; as text `rst/idle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// What goes wrong.
    pub fault: Fault,
    /// When.
    pub state: State,
}

impl Cell {
    /// All sixty.
    pub fn all() -> impl Iterator<Item = Self> {
        Fault::ALL.into_iter().flat_map(|fault| State::ALL.map(|state| Self { fault, state }))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.fault.word(), self.state.word())
    }
}

impl FromStr for Cell {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::all()
            .find(|cell| cell.to_string() == text)
            .with_context(|| format!("{text:?} is no cell; one is called like rst/idle"))
    }
}

/// What a worker takes as LIVEKIT_API_KEY.
pub const KEY: &str = "blip";

/// Where a worker finds its server.
#[derive(Debug)]
pub struct Server<'a> {
    /// What it takes as LIVEKIT_URL.
    pub url: &'a str,
    /// What it takes as LIVEKIT_API_SECRET; no other cell has the same, so that the worker of another, whose port this one
    /// was, is a stranger.
    pub secret: &'a str,
    /// The file of the only certificate that it is to trust, where the URL is `wss`.
    pub trusted: Option<&'a Path>,
}

/// How the worker under test is started: its answer times and its drain as by default, and no limit to its jobs.
pub struct Subject(Box<dyn Fn(&Server<'_>) -> Launch + Send + Sync>);

impl Subject {
    /// A worker that `launch` starts.
    pub fn new(launch: impl Fn(&Server<'_>) -> Launch + Send + Sync + 'static) -> Self {
        Self(Box::new(launch))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sixty_cells_each_found_by_its_name() {
        let cells: BTreeSet<Cell> = Cell::all().collect();
        assert_eq!(cells.len(), 60);
        for cell in cells {
            assert_eq!(cell.to_string().parse::<Cell>().expect("its own name"), cell);
        }
        assert!("rst".parse::<Cell>().is_err());
    }
}
