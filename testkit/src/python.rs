//! Owns the use of LiveKit's official Python packages: a second opinion on dispatches, and participants with microphones. Refuses the
//! system's interpreter: the versions are those of `testkit/python/requirements.txt`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::launch::Launch;
use crate::livekit::{LiveKit, cache};
use crate::participant::{Participant, SCRIPT};

/// Names another interpreter.
const INTERPRETER: &str = "LAST_CALL_PYTHON";

/// The interpreter of the environment that `cargo xtask setup` makes.
#[derive(Clone, Debug)]
pub struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// Finds the interpreter.
    ///
    /// # Errors
    /// When it is missing: with the command that installs it, in words for [`skip`](crate::skip()).
    pub fn find() -> Result<Self> {
        if let Some(path) = std::env::var_os(INTERPRETER) {
            return Ok(Self { interpreter: path.into() });
        }
        let interpreter = cache()?.join("venv/bin/python");
        if !interpreter.is_file() {
            let path = interpreter.display();
            bail!(
                "no Python environment at {path}: run `cargo xtask setup`, or name an interpreter in {INTERPRETER}"
            );
        }
        Ok(Self { interpreter })
    }

    /// Its path.
    pub fn interpreter(&self) -> &Path {
        &self.interpreter
    }

    /// A program of the interpreter with this source.
    pub fn source(&self, source: &str) -> Launch {
        Launch::new(&self.interpreter).env("PYTHONUNBUFFERED", "1").args(["-c", source])
    }

    /// Creates a dispatch as a Python user does; the dispatch as JSON.
    ///
    /// # Errors
    /// What the script says.
    pub fn dispatch(&self, server: &LiveKit, room: &str, agent_name: &str, metadata: &str) -> Result<Value> {
        let launch = self.source(include_str!("../python/dispatch.py")).args([room, agent_name, metadata]);
        let child =
            server.env().into_iter().fold(launch, |launch, (name, value)| launch.env(name, value)).spawn()?;
        let printed = child.wait_for_line(|line| line.starts_with('{'), SCRIPT)?;
        serde_json::from_str(&printed.text).context("dispatch.py printed something else than JSON")
    }

    /// Joins a room, and publishes a tone as microphone if asked; returns when that is done.
    ///
    /// # Errors
    /// What the script says.
    pub fn join(&self, server: &LiveKit, room: &str, identity: &str, publish: bool) -> Result<Participant> {
        self.join_with(&server.url(), &server.token(room, identity)?, publish)
    }

    /// As [`Python::join`], with a token that is there already: an agent's, of its assignment.
    ///
    /// # Errors
    /// What the script says.
    pub fn join_with(&self, url: &str, token: &str, publish: bool) -> Result<Participant> {
        if publish {
            Participant::start(self.participant().arg("publish"), url, token, "published ", 1)
        } else {
            Participant::start(self.participant(), url, token, "joined ", 1)
        }
    }

    /// As [`Python::join`], with a camera of 320 by 240 pixels; and it says how large others' video is ("sees IDENTITY WIDTH
    /// HEIGHT"). Encrypted end to end with this key, unless it is empty.
    ///
    /// # Errors
    /// What the script says.
    pub fn join_filming(
        &self,
        server: &LiveKit,
        room: &str,
        identity: &str,
        key: &str,
    ) -> Result<Participant> {
        let launch = self.participant().arg("film").env("LIVEKIT_E2EE_KEY", key);
        Participant::start(launch, &server.url(), &server.token(room, identity)?, "published ", 1)
    }

    /// As [`Python::join`], in many rooms, with one process for all of them.
    ///
    /// # Errors
    /// What the script says.
    pub fn join_all(&self, server: &LiveKit, rooms: &[String], identity: &str) -> Result<Participant> {
        let tokens: Result<Vec<_>> = rooms.iter().map(|room| server.token(room, identity)).collect();
        Participant::start(self.participant(), &server.url(), &tokens?.join(" "), "joined ", rooms.len())
    }

    /// testkit/python/participant.py, still without a room.
    pub(crate) fn participant(&self) -> Launch {
        self.source(include_str!("../python/participant.py"))
    }
}
