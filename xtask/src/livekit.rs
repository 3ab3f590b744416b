//! A server and its calls at hand, to try a worker with: `cargo xtask livekit`, `dispatch` and `hang-up`.
//!
//! Owns the development keys and what is printed. Refuses TLS: these chores are for a server on loopback.

#[cfg(not(feature = "bench"))]
mod chores {
    use anyhow::Result;

    use crate::whole;

    /// Also compiles what the other two need, so that they take no core from a worker that measures its load.
    pub(crate) fn serve() -> Result<()> {
        whole::again(["livekit"])
    }

    pub(crate) fn dispatch(room: &str, agent: &str, metadata: &str) -> Result<()> {
        whole::again(["dispatch", "--", room, agent, metadata])
    }

    pub(crate) fn hang_up(room: &str) -> Result<()> {
        whole::again(["hang-up", "--", room])
    }
}

#[cfg(feature = "bench")]
mod chores {
    use std::env;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use anyhow::{Context as _, Result, bail};
    use last_call_testkit::Api;
    use last_call_testkit::proto::{AgentDispatch, JobStatus};

    use crate::{say, setup};

    /// A fresh server lists its first job only after five seconds, although it runs after a fifth of one.
    const LISTED_WITHIN: Duration = Duration::from_secs(8);
    const ASK_EVERY: Duration = Duration::from_millis(100);

    /// Becomes livekit-server in development mode, which listens on loopback only; built first where it is missing.
    ///
    /// # Errors
    /// When it cannot be built or started; otherwise it does not return.
    pub(crate) fn serve() -> Result<()> {
        let server = setup::livekit_server()?;
        say::progress("    for each terminal that runs a worker or one of the chores dispatch and hang-up:");
        // What livekit-server --dev itself accepts.
        say::result("export LIVEKIT_URL=ws://127.0.0.1:7880");
        say::result("export LIVEKIT_API_KEY=devkey");
        say::result("export LIVEKIT_API_SECRET=secret");
        Err(Command::new(server).arg("--dev").exec()).context("cannot start livekit-server")
    }

    /// Asks for an agent in a room, and says which dispatch that is and whether a worker has taken the job.
    ///
    /// # Errors
    /// When the environment names no server, or the server refuses. That no worker takes the job is none.
    pub(crate) fn dispatch(room: &str, agent: &str, metadata: &str) -> Result<()> {
        let api = api()?;
        let dispatch = api.create_dispatch(room, agent, metadata, &[])?;
        say::result(format_args!("dispatch {}", dispatch.id));
        let deadline = Instant::now() + LISTED_WITHIN;
        loop {
            let listed = api.list_dispatch(room)?;
            if let Some(taken) = listed.iter().find(|listed| listed.id == dispatch.id).and_then(taken) {
                say::result(taken);
                return Ok(());
            }
            if Instant::now() > deadline {
                say::result(format_args!(
                    "no worker has taken the job: is one registered as {agent:?}, and not full?"
                ));
                return Ok(());
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// The job that a worker has taken, in words.
    fn taken(dispatch: &AgentDispatch) -> Option<String> {
        let jobs = &dispatch.state.as_ref()?.jobs;
        jobs.iter().find_map(|job| {
            let state = job.state.as_ref()?;
            let status = state.status().as_str_name();
            let taken = state.status() != JobStatus::JsPending || !state.worker_id.is_empty();
            taken.then(|| format!("job {} at worker {}: {status}", job.id, state.worker_id))
        })
    }

    /// Ends a room: its agents' jobs, and everyone's connection.
    ///
    /// # Errors
    /// When the environment names no server, or there is no such room.
    pub(crate) fn hang_up(room: &str) -> Result<()> {
        let api = api()?;
        // The end of the room alone is not told to an agent that has not joined it.
        for dispatch in api.list_dispatch(room)? {
            api.delete_dispatch(room, &dispatch.id)?;
        }
        api.delete_room(room)?;
        say::result(format_args!("room {room} has ended"));
        Ok(())
    }

    fn api() -> Result<Api> {
        let url = env::var("LIVEKIT_URL").unwrap_or_else(|_| "ws://localhost:7880".to_owned());
        let http = match url.split_once("://") {
            Some(("ws" | "http", rest)) => format!("http://{}", rest.trim_end_matches('/')),
            _ => bail!(
                "LIVEKIT_URL={url}: only ws:// and http:// are reached from here; for others use the lk tool"
            ),
        };
        let needed = |name: &str| {
            env::var(name).with_context(|| format!("{name} is not set; `cargo xtask livekit` prints it"))
        };
        Ok(Api::new(http, &needed("LIVEKIT_API_KEY")?, &needed("LIVEKIT_API_SECRET")?))
    }
}

pub(crate) use chores::{dispatch, hang_up, serve};
