//! Owns the two servers under test, behind one face. Refuses to know what is right.

use std::future::Future;
use std::thread::JoinHandle;
use std::time::Instant;

use last_call_server::{Config, Keys, Server};
use last_call_testkit::{Api, LiveKit, proto};
use livekit_token::{AccessToken, VideoGrants};
use tokio::sync::oneshot;
use tokio::task::block_in_place;

use crate::worker::PATIENCE;

const KEY: &str = "devkey";
const SECRET: &str = "secret-of-a-server-that-only-tests-know";

/// A server under test, for one test alone.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// `127.0.0.1:…`
    pub(crate) authority: String,
    api: Api,
    key: String,
    secret: String,
    _runs: Runs,
}

enum Runs {
    Ours(Option<oneshot::Sender<()>>, Option<JoinHandle<()>>),
    Real { _server: Box<LiveKit> },
}

impl Drop for Runs {
    fn drop(&mut self) {
        if let Self::Ours(stop, thread) = self {
            drop(stop.take());
            if let Some(thread) = thread.take() {
                thread.join().expect("the server ends without a panic");
            }
        }
    }
}

/// Holds a claim against both servers, one after the other.
pub(crate) fn on_both<F: Future<Output = ()>>(claim: impl Fn(Target) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(claim(Target::ours()));
    if let Some(server) = LiveKit::or_skip().expect("livekit-server runs") {
        runtime.block_on(claim(Target::real(server)));
    }
}

impl Target {
    fn ours() -> Self {
        let keys = Keys { key: KEY.into(), secret: SECRET.into() };
        let server = Server::bind(Config::new(([127, 0, 0, 1], 0).into(), keys)).expect("a free port");
        let authority = server.address().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(server.run(async {
                let _ = stopped.await;
            }));
        });
        Self::new("ours", authority, KEY, SECRET, Runs::Ours(Some(stop), Some(thread)))
    }

    fn real(server: LiveKit) -> Self {
        let (key, secret) = (server.key().to_owned(), server.secret().to_owned());
        let authority = server.address().to_string();
        Self::new("livekit-server", authority, &key, &secret, Runs::Real { _server: Box::new(server) })
    }

    fn new(name: &'static str, authority: String, key: &str, secret: &str, runs: Runs) -> Self {
        let api = Api::new(format!("http://{authority}"), key, secret);
        Self { name, authority, api, key: key.into(), secret: secret.into(), _runs: runs }
    }

    pub(crate) fn token(&self, grants: VideoGrants) -> String {
        AccessToken::with_api_key(&self.key, &self.secret).with_grants(grants).to_jwt().expect("a token")
    }

    pub(crate) fn secret(&self) -> (&str, &str) {
        (&self.key, &self.secret)
    }

    /// Calls the API, which blocks.
    pub(crate) fn api<R>(&self, call: impl FnOnce(&Api) -> anyhow::Result<R>) -> R {
        block_in_place(|| call(&self.api)).unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }

    /// A client of its own, for another thread.
    pub(crate) fn client(&self) -> Api {
        self.api.clone()
    }

    /// Asks for `agent` in a room of its own.
    pub(crate) fn dispatch(&self, room: &str, agent: &str) -> proto::AgentDispatch {
        self.api(|api| api.create_dispatch(room, agent, "", &[]))
    }

    /// The jobs of one dispatch, as it is listed.
    pub(crate) fn jobs(&self, dispatch: &proto::AgentDispatch) -> Vec<proto::Job> {
        let listed = self.api(|api| api.list_dispatch(&dispatch.room));
        let found = listed.into_iter().find(|listed| listed.id == dispatch.id).expect("it is listed");
        found.state.map(|state| state.jobs).unwrap_or_default()
    }

    /// The first job of a dispatch, as soon as it is listed: on livekit-server after up to 5 s.
    pub(crate) fn listed(&self, dispatch: &proto::AgentDispatch) -> proto::Job {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(job) = self.jobs(dispatch).pop() {
                return job;
            }
            assert!(Instant::now() < deadline, "{}: no job is listed in {PATIENCE:?}", self.name);
        }
    }
}
