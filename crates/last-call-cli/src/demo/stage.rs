//! The demo as it runs: the server, the workers, the callers.
//!
//! Owns every process, socket and task of it; dropped, all are gone. Refuses counts and times: the story has them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use last_call_server::{Config, Keys, Notes, Server};
use last_call_worker::api::{Api, ApiError};
use last_call_worker::{Dialler, Endpoint, StartError, api_secret};
use livekit_protocol as livekit;
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::agent::{PARENT, USER_THREADS};
use super::child::Child;
use super::lines::Lines;
use super::picture::time;
use super::script::{self, Step};
use super::story::{Left, Member, Role, Story, Who};
use super::tap::{Seen, SeenWhat, Tap, Upstream};
use super::{Options, now_us};
use crate::failure::Failure;

/// A worker in Python may take ten seconds to register, on a busy machine more.
const REGISTERED_WITHIN: Duration = Duration::from_secs(60);
/// Rooms on another's server are ended within this.
const CLEAN_WITHIN: Duration = Duration::from_secs(5);
/// After the last step: calls last up to six seconds, and some workers take long to leave.
const LEFT_WITHIN: Duration = Duration::from_secs(45);

/// Where the demo is played.
pub(crate) struct Site {
    endpoint: Endpoint,
    keys: Keys,
    /// The embedded server, while it does not run.
    server: Option<Server>,
    /// Whether there are rooms to join.
    rooms: bool,
}

impl Site {
    /// A server of our own, which nobody else can use: its secret is new.
    pub(crate) fn embedded() -> Result<Self, Failure> {
        let mut random = [0; 24];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::Demo(format!("no random numbers for a secret: {error}")))?;
        let secret = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let keys = Keys { key: "demo".to_owned(), secret };
        let server = Server::bind(Config::new(([127, 0, 0, 1], 0).into(), keys.clone()))?;
        let endpoint = Endpoint::parse(&server.url(), false).map_err(StartError::from)?;
        Ok(Self { endpoint, keys, server: Some(server), rooms: false })
    }

    /// A server that runs.
    pub(crate) fn remote(url: &str, options: &Options) -> Result<Self, Failure> {
        let missing = |what| Failure::Usage(format!("--url needs {what}"));
        let secret = api_secret(options.api_secret_file.as_deref(), "LIVEKIT_API_SECRET")?;
        let secret = secret.ok_or_else(|| missing("LIVEKIT_API_SECRET, or --api-secret-file"))?;
        let key = options.api_key.clone().ok_or_else(|| missing("LIVEKIT_API_KEY, or --api-key"))?;
        let endpoint = Endpoint::parse(url, options.insecure_ws).map_err(StartError::from)?;
        Ok(Self { endpoint, keys: Keys { key, secret }, server: None, rooms: true })
    }

    fn api(&self) -> Api {
        let keys = last_call_worker::Keys::new(&self.keys.key, &self.keys.secret);
        Api::new(Dialler::new(self.endpoint.clone()), keys)
    }

    fn upstream(&self) -> Upstream {
        Upstream { dialler: Dialler::new(self.endpoint.clone()), rooms: self.rooms }
    }
}

/// A worker with its process and its way to the server.
struct Actor {
    /// Closed when the actor is gone.
    _tap: Tap,
    child: Child,
    /// The server's name for it.
    worker_id: Option<String>,
}

/// Everything that runs.
pub(crate) struct Stage {
    site: Site,
    api: Api,
    /// The embedded server's page, and the way to remark on what it shows.
    page: Option<(String, Notes)>,
    /// Those that run, by their place in the story.
    actors: BTreeMap<Who, Actor>,
    story: Story,
    saw: mpsc::UnboundedSender<Seen>,
    seen: mpsc::UnboundedReceiver<Seen>,
    /// Rooms whose callers hang up, and when.
    hangs_up: mpsc::UnboundedSender<(String, u64)>,
    hung_up: mpsc::UnboundedReceiver<(String, u64)>,
    calls: JoinSet<(String, Result<(), ApiError>)>,
    /// Rooms that are there.
    rooms: BTreeSet<String>,
    /// Whether a caller was refused.
    refused: bool,
    /// Ends with the stage.
    _server: JoinSet<()>,
    agent_name: String,
    /// Names the rooms of this demo.
    nonce: String,
    lines: Lines,
    began: Instant,
}

impl Stage {
    /// Nothing runs yet but the embedded server.
    pub(crate) fn new(mut site: Site, lines: Lines) -> Self {
        let (saw, seen) = mpsc::unbounded_channel();
        let (hangs_up, hung_up) = mpsc::unbounded_channel();
        let mut server = JoinSet::new();
        let page = site.server.as_ref().map(|server| (server.page_url(), server.notes()));
        if let Some(embedded) = site.server.take() {
            server.spawn(embedded.run(pending()));
        }
        let nonce: String = std::iter::repeat_with(fastrand::alphanumeric).take(6).collect();
        Self {
            api: site.api(),
            site,
            page,
            actors: BTreeMap::new(),
            story: Story::default(),
            saw,
            seen,
            hangs_up,
            hung_up,
            calls: JoinSet::new(),
            rooms: BTreeSet::new(),
            refused: false,
            _server: server,
            agent_name: format!("last-call-demo-{nonce}"),
            nonce,
            lines,
            began: Instant::now(),
        }
    }

    /// Plays it to the end.
    pub(crate) async fn play(&mut self, theirs: Option<Vec<String>>) -> Result<(), Failure> {
        if let Some((page, _)) = &self.page {
            self.say("server", &format!("embedded; watch it live at {page}"))?;
        } else {
            self.say("server", &self.site.endpoint.authority())?;
            // One that is not there, or has other keys, is told of before anything is started.
            let room = self.room(0);
            self.api.create_room(&room).await?;
            self.api.delete_room(&room).await?;
        }
        let mut old = Vec::new();
        if let Some(words) = theirs {
            self.say(Role::Theirs.name(true), "starts; the demo waits until it has registered")?;
            let who = self.start(Role::Theirs, others(&words)).await?;
            self.agent_name.clone_from(&self.story.workers[who].agent_name);
            old.push(who);
        }
        old.push(self.start(Role::Ours, ours(&self.agent_name)?).await?);
        let relief = self.perform(&old).await?;
        self.wait_for_the_end(&old).await?;
        if let Some(actor) = self.actors.get(&relief) {
            actor.child.signal(Signal::SIGTERM);
        }
        self.wait_for_the_end(&[relief]).await
    }

    /// Ends what runs, and the rooms on another's server; then what happened, and the way to say it.
    pub(crate) async fn end(mut self) -> (Story, Lines) {
        self.actors.clear();
        self.calls.abort_all();
        if self.site.rooms {
            let mut ends = JoinSet::new();
            for room in std::mem::take(&mut self.rooms) {
                let api = self.api.clone();
                ends.spawn(async move { api.delete_room(&room).await });
            }
            // A server that does not answer holds nobody.
            let _ = timeout(CLEAN_WITHIN, async { while ends.join_next().await.is_some() {} }).await;
        }
        (self.story, self.lines)
    }

    /// Does every step in its time; the new worker.
    async fn perform(&mut self, old: &[Who]) -> Result<Who, Failure> {
        let mut origin = Instant::now();
        let mut relief = 0;
        self.say("callers", "call; each hangs up after three to six seconds")?;
        for (at, step) in script::steps() {
            self.watch_until(origin + at).await?;
            match step {
                Step::Call(lasts) => self.call(lasts),
                Step::StartRelief => {
                    let began = Instant::now();
                    relief = self.start(Role::Relief, ours(&self.agent_name)?).await?;
                    // What comes next is a time after this.
                    origin += began.elapsed();
                }
                Step::Hold => old.iter().try_for_each(|who| self.hold(*who))?,
                Step::Signal => old.iter().try_for_each(|who| self.terminate(*who))?,
            }
        }
        self.say("callers", "nobody calls any more")?;
        Ok(relief)
    }

    /// Holds the code of a worker of ours.
    fn hold(&self, who: Who) -> io::Result<()> {
        let member = &self.story.workers[who];
        match self.actors.get(&who) {
            Some(actor) if member.role == Role::Ours => {
                actor.child.signal(Signal::SIGUSR1);
                self.say(member.name, "every thread of its own code is held, for three seconds")
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Starts a worker, and waits until it has registered.
    async fn start(&mut self, role: Role, mut command: Command) -> Result<Who, Failure> {
        let at_us = now_us();
        let who = self.story.started(role, at_us);
        let tap = Tap::start(self.site.upstream(), who, self.saw.clone());
        let tap = tap.map_err(|error| StartError::System { what: "port for the tap", error })?;
        command
            .env("LIVEKIT_URL", tap.url())
            .env("LIVEKIT_API_KEY", &self.site.keys.key)
            .env("LIVEKIT_API_SECRET", &self.site.keys.secret);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = Child::start(command)
            .map_err(|error| Failure::Demo(format!("cannot start {program}: {error}")))?;
        self.story.workers[who].key = format!("process {}", child.pid());
        self.actors.insert(who, Actor { _tap: tap, child, worker_id: None });
        let deadline = Instant::now() + REGISTERED_WITHIN;
        while self.story.workers[who].registered_us.is_none() {
            let happened = self.watch_once(deadline).await?;
            let Member { name, left, last_words, .. } = &self.story.workers[who];
            let trouble = match (left, happened) {
                (Some((_, left)), _) => {
                    format!("{name} ended before it registered: {left}; its last lines:\n{last_words}")
                }
                (None, false) => {
                    let lines =
                        self.actors.get(&who).map(|actor| actor.child.last_lines()).unwrap_or_default();
                    format!(
                        "{name} has not registered within {REGISTERED_WITHIN:?}; does it take LIVEKIT_URL from the \
                         environment, or has a file its own? Its last lines:\n{lines}"
                    )
                }
                (None, true) => continue,
            };
            return Err(Failure::Demo(trouble));
        }
        let member = &self.story.workers[who];
        let took = member.registered_us.unwrap_or(at_us).saturating_sub(at_us);
        self.say(member.name, &format!("registered {} after its start", time(took)))?;
        Ok(who)
    }

    fn terminate(&mut self, who: Who) -> io::Result<()> {
        let Some(actor) = self.actors.get(&who) else { return Ok(()) };
        let at_us = now_us();
        actor.child.signal(Signal::SIGTERM);
        if let Some((_, notes)) = &self.page {
            notes.say(actor.worker_id.as_deref(), "SIGTERM");
        }
        self.story.signalled(who, at_us);
        let again = if self.story.workers[who].signals_us.len() > 1 { " again" } else { "" };
        let text = format!("SIGTERM{again}, amid {} calls", self.story.running(who, at_us));
        self.say(self.story.workers[who].name, &text)
    }

    fn room(&self, nth: usize) -> String {
        format!("last-call-demo-{}-{nth:03}", self.nonce)
    }

    /// Someone calls, and hangs up in time.
    fn call(&mut self, lasts: Duration) {
        let room = self.room(self.story.calls.len() + 1);
        self.story.called(&room, now_us());
        self.rooms.insert(room.clone());
        let (api, agent_name, hangs_up) = (self.api.clone(), self.agent_name.clone(), self.hangs_up.clone());
        self.calls.spawn(async move {
            let dispatched = dispatch(&api, &room, &agent_name).await;
            if dispatched.is_ok() {
                tokio::time::sleep(lasts).await;
            }
            // Nobody is there to hear it when the demo ends.
            let _ = hangs_up.send((room.clone(), now_us()));
            let ended = match dispatched {
                Ok(dispatch) => hang_up(&api, &room, dispatch).await,
                Err(error) => Err(error),
            };
            (room, ended)
        });
    }

    /// Until these have left and nobody is on the line.
    async fn wait_for_the_end(&mut self, of: &[Who]) -> Result<(), Failure> {
        let deadline = Instant::now() + LEFT_WITHIN;
        let running = |stage: &Self| {
            !stage.calls.is_empty() || of.iter().any(|who| stage.story.workers[*who].left.is_none())
        };
        while running(self) && self.watch_once(deadline).await? {}
        for who in of {
            if self.story.workers[*who].left.is_none() {
                self.left(*who, Left::Stayed).await?;
            }
        }
        Ok(())
    }

    async fn watch_until(&mut self, deadline: Instant) -> Result<(), Failure> {
        while self.watch_once(deadline).await? {}
        Ok(())
    }

    /// Takes in the next thing that happens; whether one did before the deadline.
    async fn watch_once(&mut self, deadline: Instant) -> Result<bool, Failure> {
        let leaves = async |actors: &mut BTreeMap<Who, Actor>| {
            let ends = actors.iter_mut().map(|(who, actor)| async { (*who, actor.child.ended().await) });
            let mut ends: FuturesUnordered<_> = ends.collect();
            match ends.next().await {
                Some(end) => end,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(seen) = self.seen.recv() => self.saw(seen)?,
            Some((room, at_us)) = self.hung_up.recv() => self.story.hung_up(&room, at_us),
            Some(call) = self.calls.join_next() => {
                let (room, ended) = call.map_err(|error| Failure::Demo(format!("a caller's task died: {error}")))?;
                self.rooms.remove(&room);
                if let Some(error) = ended.err().filter(|_| !std::mem::replace(&mut self.refused, true)) {
                    self.say("callers", &error.to_string())?;
                }
            }
            (who, left) = leaves(&mut self.actors) => {
                // What it said last is on its way through the tap.
                while let Ok(seen) = self.seen.try_recv() {
                    self.saw(seen)?;
                }
                self.left(who, left).await?;
            }
            () = sleep_until(deadline) => return Ok(false),
        }
        Ok(true)
    }

    fn saw(&mut self, seen: Seen) -> io::Result<()> {
        let Seen { at_us, worker: who, what } = seen;
        if let (SeenWhat::Registered { worker_id }, Some(actor)) = (&what, self.actors.get_mut(&who)) {
            actor.worker_id = Some(worker_id.clone());
        }
        if let SeenWhat::Trouble { text } = &what {
            self.say(self.story.workers[who].name, &format!("on its way to the server: {text}"))?;
        }
        let before = self.story.workers[who].full_us;
        self.story.saw(who, at_us, what);
        let member = &self.story.workers[who];
        match member.full_after_us() {
            Some(after) if before.is_none() => {
                self.say(member.name, &format!("says that it is full, {} after the signal", time(after)))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn left(&mut self, who: Who, left: Left) -> io::Result<()> {
        let at_us = now_us();
        let calls = self.story.running(who, at_us);
        self.story.left(who, at_us, left);
        if let Some(actor) = self.actors.remove(&who) {
            self.story.workers[who].last_words = actor.child.last_words().await;
        }
        let text = match self.story.lingered_us(who) {
            _ if calls > 0 => format!("{left}, amid {calls} calls"),
            Some(after) => format!("{left}, {} after its last call", time(after)),
            None => left.to_string(),
        };
        self.say(self.story.workers[who].name, &text)
    }

    /// One line of progress.
    fn say(&self, who: &str, text: &str) -> io::Result<()> {
        self.lines.say(format!("{:5.1} s  {who:11}  {text}", self.began.elapsed().as_secs_f64()))
    }
}

/// Asks for an agent. A worker without a name sends one to every new room.
async fn dispatch(api: &Api, room: &str, agent_name: &str) -> Result<Option<String>, ApiError> {
    if agent_name.is_empty() {
        api.create_room(room).await.map(|()| None)
    } else {
        let (room, agent_name) = (room.to_owned(), agent_name.to_owned());
        let wish = livekit::CreateAgentDispatchRequest { room, agent_name, ..Default::default() };
        api.create_dispatch(&wish).await.map(|dispatch| Some(dispatch.id))
    }
}

/// Ends a call; an agent may have ended it before.
async fn hang_up(api: &Api, room: &str, dispatch: Option<String>) -> Result<(), ApiError> {
    let over = |ended| match ended {
        Err(ApiError::Refused { status: 404 | 503, .. }) => Ok(()),
        other => other,
    };
    if let Some(dispatch) = dispatch {
        over(api.delete_dispatch(room, &dispatch).await)?;
    }
    over(api.delete_room(room).await)
}

/// The demo's own worker: this program.
fn ours(agent_name: &str) -> Result<Command, StartError> {
    let program = std::env::current_exe()
        .map_err(|error| StartError::System { what: "path of this program", error })?;
    let mut command = Command::new(program);
    command.args(["demo-agent", "start", "--http=off", "--drain-timeout=1m", "--log-format=pretty"]);
    command.args([format!("--agent-name={agent_name}"), format!("--user-threads={USER_THREADS}")]);
    // The machine's other load is not the demo's matter.
    command.arg("--load-threshold=off");
    let settings = std::env::vars_os().map(|(name, _)| name);
    let not_meant = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.starts_with("LIVEKIT_") || name.starts_with("LAST_CALL_") || name.starts_with("OTEL_")
    };
    settings.filter(not_meant).for_each(|name| {
        command.env_remove(name);
    });
    command.env(PARENT, std::process::id().to_string());
    Ok(command)
}

/// Another's.
fn others(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}
