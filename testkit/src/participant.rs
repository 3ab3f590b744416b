//! Owns participants on LiveKit's official SDKs, and the lines that they speak, which testkit/python/participant.py explains. Refuses to
//! know which SDK somebody is on.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::child::{Child, Exit};
use crate::launch::Launch;
use crate::livekit::LiveKit;
use crate::node::Node;
use crate::python::Python;
use crate::skip;

/// How long a program may take to start and to do one thing; importing the SDK takes a second or two, and joining another.
pub(crate) const SCRIPT: Duration = Duration::from_secs(60);

/// An official SDK, to be in a room with.
#[derive(Clone, Debug)]
pub struct Sdk {
    name: &'static str,
    participant: Launch,
}

/// Somebody in a room. Leaves when dropped.
#[derive(Debug)]
pub struct Participant {
    child: Child,
}

impl Sdk {
    /// Those that are here; each of the others is [skipped](crate::skip()).
    pub fn all() -> Vec<Self> {
        [Self::python(), Self::node(), Self::browser()]
            .into_iter()
            .filter_map(|sdk| sdk.map_err(skip).ok())
            .collect()
    }

    /// `livekit`, for Python.
    ///
    /// # Errors
    /// As [`Python::find`].
    pub fn python() -> Result<Self> {
        let participant = Python::find()?.participant().args(["publish", "listen"]);
        Ok(Self { name: "python", participant })
    }

    /// `@livekit/rtc-node`.
    ///
    /// # Errors
    /// As [`Node::find`].
    pub fn node() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/participant.mjs");
        Ok(Self { name: "node", participant: Node::find("@livekit/rtc-node")?.script(script) })
    }

    /// `livekit-client`, in Chromium.
    ///
    /// # Errors
    /// As [`Node::find`], and [`Node::browser`].
    pub fn browser() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/browser.mjs");
        let participant = Node::find("livekit-client")?.script(script).arg(Node::browser()?);
        Ok(Self { name: "browser", participant })
    }

    /// What it runs on, in small letters.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Joins a room and publishes a tone of 440 Hz as microphone; returns when that is done. The participant says what the others
    /// sound like ("hears IDENTITY HERTZ SHARE"), sends data of the topic "ping" back with the topic "pong", has the RPC method
    /// "greet", and calls the method "add" of who sends data of the topic "call".
    ///
    /// # Errors
    /// What the program says.
    pub fn join_listening(&self, server: &LiveKit, room: &str, identity: &str) -> Result<Participant> {
        self.join_encrypted(server, room, identity, "")
    }

    /// As [`Sdk::join_listening`], encrypted end to end with this key, unless it is empty.
    ///
    /// # Errors
    /// What the program says.
    pub fn join_encrypted(
        &self,
        server: &LiveKit,
        room: &str,
        identity: &str,
        key: &str,
    ) -> Result<Participant> {
        let launch = self.participant.clone().env("LIVEKIT_E2EE_KEY", key);
        Participant::start(launch, &server.url(), &server.token(room, identity)?, "published ", 1)
    }
}

impl Participant {
    /// Starts a program that joins with these tokens, and waits for so many lines that begin with `done`.
    pub(crate) fn start(
        program: Launch,
        url: &str,
        tokens: &str,
        done: &str,
        mut times: usize,
    ) -> Result<Self> {
        let child = program.stdin().env("LIVEKIT_URL", url).env("LIVEKIT_TOKEN", tokens).spawn()?;
        let all = |line: &str| {
            times -= usize::from(line.starts_with(done));
            times == 0
        };
        child.wait_for_line(all, SCRIPT)?;
        Ok(Self { child })
    }

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
    /// When the program does not end.
    pub fn leave(mut self) -> Result<Exit> {
        self.child.close_stdin();
        self.child.wait(SCRIPT)
    }
}
