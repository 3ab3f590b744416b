//! Owns the use of LiveKit's own SDKs as workers: the agents of `testkit/peers`, in each version that guard is tried on. Refuses other
//! versions than `cargo xtask setup` fetches: xtask/src/setup/peers.rs names the same.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::{Child, Line};
use crate::launch::Launch;
use crate::livekit::cache;

/// Names another `node_modules` with the Node SDK. For a Python SDK another interpreter is named in `LAST_CALL_PEER_PYTHON_1_5_7`, by version.
const MODULES: &str = "LAST_CALL_PEER_NODE_MODULES";

/// An SDK that workers run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// livekit-agents 1.3.12.
    Python1_3_12,
    /// livekit-agents 1.5.7.
    Python1_5_7,
    /// livekit-agents 1.8.9.
    Python1_8_9,
    /// @livekit/agents 1.9.0.
    Node,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Python1_3_12, Self::Python1_5_7, Self::Python1_8_9, Self::Node];

    /// Its name and version, as people say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python1_3_12 => "livekit-agents 1.3.12",
            Self::Python1_5_7 => "livekit-agents 1.5.7",
            Self::Python1_8_9 => "livekit-agents 1.8.9",
            Self::Node => "@livekit/agents 1.9.0",
        }
    }

    /// The worker of `testkit/peers` on this SDK, with its command `start`, to be given a server and its settings, which that file explains.
    ///
    /// # Errors
    /// When the SDK is missing: with the command that fetches it, in words for [`skip`](crate::skip()).
    pub fn worker(self) -> Result<Launch> {
        let peers = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
        let launch = match self.version() {
            Some(_) => Launch::new(self.place()?).env("PYTHONUNBUFFERED", "1").arg(peers.join("agent.py")),
            None => Launch::new("node").env("NODE_PATH", self.place()?).arg(peers.join("agent.mjs")),
        };
        Ok(launch.arg("start"))
    }

    /// The command line of [`Peer::worker`] of a Python SDK, for what starts programs itself.
    ///
    /// # Errors
    /// As there, and for Node, whose worker needs a variable too.
    pub fn command(self) -> Result<Vec<std::ffi::OsString>> {
        self.version().context("Node's worker needs NODE_PATH")?;
        let agent = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/agent.py");
        Ok(vec![self.place()?.into(), agent.into(), "start".into()])
    }

    /// Waits until one of these workers, or what runs one, says this `event`, of the job where one is named; when, and what else it says.
    ///
    /// # Errors
    /// When it did not in `timeout`: with what it printed.
    pub fn event(worker: &Child, event: &str, job: Option<&str>, timeout: Duration) -> Result<(Line, Value)> {
        let read = |line: &str| serde_json::from_str::<Value>(line.strip_prefix("peer ")?).ok();
        let wanted = |said: &Value| said["event"] == event && job.is_none_or(|job| said["job"] == job);
        let line = worker.wait_for_line(|line| read(line).as_ref().is_some_and(wanted), timeout)?;
        let said = read(&line.text).context("it was JSON")?;
        Ok((line, said))
    }

    /// The interpreter, or the `node_modules`.
    ///
    /// # Errors
    /// When it is missing: with the command that fetches it, in words for [`skip`](crate::skip()).
    pub fn place(self) -> Result<PathBuf> {
        let (variable, inside) = match self.version() {
            Some(version) => (
                format!("LAST_CALL_PEER_PYTHON_{}", version.replace('.', "_")),
                format!("peer-livekit-agents-{version}/bin/python"),
            ),
            None => (MODULES.to_owned(), "peer-node-agents/node_modules".to_owned()),
        };
        if let Some(path) = std::env::var_os(&variable) {
            return Ok(path.into());
        }
        let place = cache()?.join(inside);
        if !place.exists() {
            let (name, path) = (self.name(), place.display());
            bail!("no {name} at {path}: run `cargo xtask setup`, or name another place in {variable}");
        }
        Ok(place)
    }

    /// Of a Python SDK.
    fn version(self) -> Option<&'static str> {
        self.name().strip_prefix("livekit-agents ")
    }
}
