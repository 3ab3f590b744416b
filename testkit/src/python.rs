//! Owns the use of LiveKit's official Python packages: a second opinion on dispatches, and participants with microphones. Refuses the
//! system's interpreter: the versions are those of `testkit/python/requirements.txt`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::{Child, Exit};
use crate::launch::Launch;
use crate::livekit::{LiveKit, cache};

/// Names another interpreter.
const INTERPRETER: &str = "LAST_CALL_PYTHON";
/// How long a script may take to start and to do one thing; importing the SDK takes a second or two, and joining another.
const SCRIPT: Duration = Duration::from_secs(60);

/// The interpreter of the environment that `cargo xtask setup` makes.
#[derive(Clone, Debug)]
pub struct Python {
    interpreter: PathBuf,
}

/// Somebody in a room. Leaves when dropped.
#[derive(Debug)]
pub struct Participant {
    child: Child,
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
        let launch = self.participant(url, token);
        let child = if publish { launch.arg("publish") } else { launch }.spawn()?;
        let done = if publish { "published " } else { "joined " };
        child.wait_for_line(|line| line.starts_with(done), SCRIPT)?;
        Ok(Participant { child })
    }

    /// As [`Python::join`], with a tone of 440 Hz; and it says what the others sound like ("hears IDENTITY HERTZ SHARE"),
    /// and sends data of the topic "ping" back with the topic "pong".
    ///
    /// # Errors
    /// What the script says.
    pub fn join_listening(&self, server: &LiveKit, room: &str, identity: &str) -> Result<Participant> {
        self.join_encrypted(server, room, identity, "")
    }

    /// As [`Python::join_listening`], encrypted end to end with this key, unless it is empty.
    ///
    /// # Errors
    /// What the script says.
    pub fn join_encrypted(
        &self,
        server: &LiveKit,
        room: &str,
        identity: &str,
        key: &str,
    ) -> Result<Participant> {
        let launch =
            self.participant(&server.url(), &server.token(room, identity)?).env("LIVEKIT_E2EE_KEY", key);
        let child = launch.args(["publish", "listen"]).spawn()?;
        child.wait_for_line(|line| line.starts_with("published "), SCRIPT)?;
        Ok(Participant { child })
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
        let launch =
            self.participant(&server.url(), &server.token(room, identity)?).env("LIVEKIT_E2EE_KEY", key);
        let child = launch.arg("film").spawn()?;
        child.wait_for_line(|line| line.starts_with("published "), SCRIPT)?;
        Ok(Participant { child })
    }

    /// As [`Python::join`], in many rooms, with one process for all of them.
    ///
    /// # Errors
    /// What the script says.
    pub fn join_all(&self, server: &LiveKit, rooms: &[String], identity: &str) -> Result<Participant> {
        let tokens: Result<Vec<_>> = rooms.iter().map(|room| server.token(room, identity)).collect();
        let child = self.participant(&server.url(), &tokens?.join(" ")).spawn()?;
        let mut left = rooms.len();
        let all = |line: &str| {
            left -= usize::from(line.starts_with("joined "));
            left == 0
        };
        child.wait_for_line(all, SCRIPT)?;
        Ok(Participant { child })
    }

    fn participant(&self, url: &str, token: &str) -> Launch {
        let launch = self.source(include_str!("../python/participant.py")).stdin();
        launch.env("LIVEKIT_URL", url).env("LIVEKIT_TOKEN", token)
    }
}

impl Participant {
    /// The process, its lines and its signals: a killed participant leaves without a word.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Waits until it hears `identity`, of another, sing a clear tone of `hertz`.
    ///
    /// # Errors
    /// When it does not within a minute: with what it said.
    pub fn hears(&self, identity: &str, hertz: u32) -> Result<()> {
        let clear = |line: &str| {
            let mut words = line.split(' ');
            (words.next(), words.next(), words.next())
                == (Some("hears"), Some(identity), Some(&hertz.to_string()))
                && words.next().and_then(|share| share.parse::<f64>().ok()).is_some_and(|share| share > 0.9)
        };
        self.child.wait_for_line(clear, SCRIPT).map(drop)
    }

    /// Waits until it has decoded some video of `identity` of this size.
    ///
    /// # Errors
    /// When it does not within a minute: with what it said.
    pub fn sees(&self, identity: &str, width: u32, height: u32) -> Result<()> {
        let seen = format!("sees {identity} {width} {height}");
        let mut left = 10;
        let enough = |line: &str| {
            left -= i32::from(line == seen);
            left <= 0
        };
        self.child.wait_for_line(enough, SCRIPT).map(drop)
    }

    /// Leaves the room and waits until that is done.
    ///
    /// # Errors
    /// When the script does not end.
    pub fn leave(mut self) -> Result<Exit> {
        self.child.close_stdin();
        self.child.wait(SCRIPT)
    }
}
