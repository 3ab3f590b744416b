//! The shim in the real SDKs, with testkit's stub in guard's place; and what it does to the variables that it shares.

use std::path::PathBuf;
use std::time::Duration;

use last_call_testkit::{Asked, Child, Decided, Decider, Job, Launch, Peer, Python, Stub, skip};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::*;
use crate::process::Ended;

const SERVER: &str = "wss://calls.example/prefix";
/// Starting an SDK's worker or one of its processes, on a busy machine.
const PROMPT: Duration = Duration::from_secs(60);

/// A worker of a real SDK behind the shim.
struct Scene {
    guard: Stub,
    worker: Child,
    news: News,
    runtime: Runtime,
    _shim: Shim,
}

impl Scene {
    /// Starts one and waits until it has registered; `variables` are guard's own. `None` where the SDK is missing.
    fn start(peer: Peer, variables: &[(&str, &str)]) -> Option<Self> {
        let launch = peer.worker().map_err(skip).ok()?;
        let guard = Stub::auto().expect("a stub");
        let shim = Shim::new(SERVER, &guard.url()).expect("a shim");
        let launch = launch.env("LIVEKIT_URL", guard.url()).env("LIVEKIT_API_KEY", "devkey");
        let launch = launch.env("LIVEKIT_API_SECRET", "a secret that is as long as it has to be");
        let worker = behind(&shim, launch, variables).spawn().expect("a worker");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let news = runtime.block_on(async { shim.news() }).expect("the pipe");
        let scene = Self { guard, worker, news, runtime, _shim: shim };
        let registered = scene.guard.wait_registered(0, PROMPT);
        registered.unwrap_or_else(|error| panic!("{}: {error:#}\n{}", peer.name(), scene.worker.output()));
        Some(scene)
    }

    /// Offers a job that does these steps.
    fn job(&self, id: &str, steps: &str) {
        self.guard.offer(Job::new(id).metadata(steps)).expect("the worker is there");
    }

    /// What the worker or its job's process says of itself at this event.
    fn says(&self, event: &str) -> Value {
        Peer::event(&self.worker, event, None, PROMPT).unwrap_or_else(|error| panic!("{error:#}")).1
    }

    /// The next of the news that `seek` wants.
    fn news<R>(&mut self, mut seek: impl FnMut(ShimNews) -> Option<R>) -> R {
        let seeking = async {
            loop {
                if let Some(found) = seek(self.news.next().await) {
                    return found;
                }
            }
        };
        let found = self.runtime.block_on(async { tokio::time::timeout(PROMPT, seeking).await });
        found.unwrap_or_else(|_| panic!("no such news\n{}", self.worker.output()))
    }
}

/// The launch with all that guard's environment and the shim make of it.
fn behind(shim: &Shim, launch: Launch, variables: &[(&str, &str)]) -> Launch {
    let mut command = Command::new("");
    command.envs(variables.iter().copied());
    shim.environment(&mut command);
    let set = command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    set.fold(launch, |launch, (name, value)| launch.env(name, value))
}

/// A directory with a space in its name, and a script there that adds a word to the variable CHAINED.
fn chained(name: &str, script: &str) -> (TempDir, PathBuf) {
    let builder = tempfile::Builder::new().prefix("a b").tempdir();
    let directory = builder.expect("a directory");
    let path = directory.path().join(name);
    fs::write(&path, script).expect("a script");
    (directory, path)
}

const CHAINED_PYTHON: &str =
    "import os\nos.environ['CHAINED'] = os.environ.get('CHAINED', '') + f'<{os.getpid()}>'\n";
const CHAINED_NODE: &str = "process.env.CHAINED = (process.env.CHAINED ?? '') + `<${process.pid}>`";

fn only_the_worker_sees_guard(peer: Peer) {
    let provider = Decider::start(None, |_| Decided::Status(200)).expect("a provider");
    let (python, _) = chained("sitecustomize.py", CHAINED_PYTHON);
    let (_node, script) = chained("hook.cjs", CHAINED_NODE);
    let options = format!("--require \"{}\" --no-deprecation", script.display());
    let path = python.path().to_str().expect("UTF-8");
    let shown = "LIVEKIT_URL CHAINED";
    let variables = [("PYTHONPATH", path), ("NODE_OPTIONS", &options), ("PEER_SHOW", shown)];
    let Some(mut scene) = Scene::start(peer, &variables) else { return };
    scene.job("AJ_url", &format!("avatar {}", provider.url()));
    let (worker, job) = (scene.says("main"), scene.says("started"));

    assert_eq!(worker["LIVEKIT_URL"], scene.guard.url(), "the worker's own process, {}", peer.name());
    assert_eq!(job["LIVEKIT_URL"], SERVER, "a job's process, {}", peer.name());
    let told = provider.wait(1, PROMPT).expect("the provider is told");
    let Asked::Question { job: told, .. } = told else { panic!("{told:?}") };
    assert_eq!(told["properties"]["livekit_ws_url"], SERVER, "a third party, {}", peer.name());
    // Whatever starts a process runs the hook once: the worker, a forkserver or the job's process itself.
    let (own, theirs) = (worker["CHAINED"].as_str(), job["CHAINED"].as_str());
    let (own, theirs) = (own.expect("a hook in the worker"), theirs.expect("a hook in the job"));
    assert_eq!(own, format!("<{}>", worker["pid"]), "{}", peer.name());
    assert_eq!(theirs.matches('<').count(), 2, "{theirs} in {}", peer.name());
    assert!(theirs.starts_with(own), "{theirs} in {}", peer.name());

    let pid = u32::try_from(job["pid"].as_u64().expect("a number")).expect("a pid");
    scene.news(|news| (news == ShimNews::Process { pid }).then_some(()));
}

#[test]
fn only_the_worker_sees_guard_in_python_1_3_12() {
    only_the_worker_sees_guard(Peer::Python1_3_12);
}

#[test]
fn only_the_worker_sees_guard_in_python_1_5_7() {
    only_the_worker_sees_guard(Peer::Python1_5_7);
}

#[test]
fn only_the_worker_sees_guard_in_python_1_8_9() {
    only_the_worker_sees_guard(Peer::Python1_8_9);
}

#[test]
fn only_the_worker_sees_guard_in_node() {
    only_the_worker_sees_guard(Peer::Node);
}

#[test]
fn node_tells_how_the_process_of_a_job_ended() {
    for (id, steps, how) in [
        ("AJ_return", "return", Ended::Exit(0)),
        ("AJ_exit", "exit 7", Ended::Exit(7)),
        ("AJ_kill", "kill", Ended::Signal(9)),
    ] {
        let Some(mut scene) = Scene::start(Peer::Node, &[]) else { return };
        scene.job(id, steps);
        let started = scene.news(|news| match news {
            ShimNews::Started { pid, job } => Some((pid, job)),
            ShimNews::Process { .. } | ShimNews::Ended { .. } => None,
        });
        let said = scene.says("started");
        assert_eq!((u64::from(started.0), started.1.as_str()), (said["pid"].as_u64().expect("a pid"), id));
        let ended = scene.news(|news| matches!(news, ShimNews::Ended { .. }).then_some(news));
        let (pid, job) = started;
        assert_eq!(ended, ShimNews::Ended { pid, job, ended: how });
    }
}

/// What the interpreter prints for this source behind a shim.
fn python(shim: &Shim, variables: &[(&str, &str)], source: &str) -> Option<(String, i32)> {
    let python = Python::find().map_err(skip).ok()?;
    let child = behind(shim, python.source(source), variables).spawn().expect("Python starts");
    let exit = child.wait(PROMPT).expect("an end");
    Some((child.output(), exit.code.unwrap_or(-1)))
}

#[test]
fn a_broken_sitecustomize_is_reported_as_without_the_shim() {
    let shim = Shim::new(SERVER, "ws://127.0.0.1:1").expect("a shim");
    let (directory, _) = chained("sitecustomize.py", "raise ValueError('the user is told')");
    let variables = [("PYTHONPATH", directory.path().to_str().expect("UTF-8"))];
    let Some((output, code)) = python(&shim, &variables, "print('it runs')") else { return };
    assert_eq!(code, 0);
    assert!(output.contains("Error in sitecustomize") && output.contains("the user is told"), "{output}");
    assert!(output.contains("it runs"), "{output}");
}

#[test]
fn a_shim_whose_files_are_gone_or_broken_is_not_noticed() {
    let shim = Shim::new(SERVER, "ws://127.0.0.1:1").expect("a shim");
    let source = "import multiprocessing as m, os\nm.get_context('spawn').Process(target=print).start()\nprint('fine')";
    for name in [URLS, NEWS] {
        fs::remove_file(shim.directory.path().join(name)).expect("it is there");
        let Some((output, code)) = python(&shim, &[("PYTHONPATH", "")], source) else { return };
        assert_eq!((code, output.contains("Error")), (0, false), "{output}");
        assert!(output.contains("fine"), "{output}");
    }
}

#[test]
fn a_reloader_starts_the_worker_itself_as_a_process_of_multiprocessing() {
    let shim = Shim::new(SERVER, "ws://127.0.0.1:1").expect("a shim");
    // As watchfiles does: the worker under it starts the job's process.
    let source = "
import multiprocessing, os, runpy, sys
spawn = multiprocessing.get_context('spawn')
os.environ['WATCHFILES_CHANGES'] = '[]'
script = 'import multiprocessing, os; print(os.environ[\"LIVEKIT_URL\"], flush=True)'
inner = script + '; p = multiprocessing.get_context(\"spawn\").Process(target=exec, args=(' + repr(script) + ',)); p.start(); p.join()'
worker = spawn.Process(target=exec, args=(inner,))
worker.start(); worker.join()
";
    let Some((output, _)) = python(&shim, &[("LIVEKIT_URL", "ws://127.0.0.1:1")], source) else { return };
    assert_eq!(output.lines().filter(|line| line.contains("127.0.0.1:1")).count(), 1, "{output}");
    assert_eq!(output.lines().filter(|line| line.contains(SERVER)).count(), 1, "{output}");
}

#[test]
fn a_spawned_process_tells_and_its_own_forks_do_not() {
    let shim = Shim::new(SERVER, "ws://127.0.0.1:1").expect("a shim");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut news = runtime.block_on(async { shim.news() }).expect("the pipe");
    let source = "
import multiprocessing
script = 'import os; print(os.getpid(), flush=True); os.fork() or os._exit(0); os.wait()'
for method in ['spawn', 'forkserver']:
    process = multiprocessing.get_context(method).Process(target=exec, args=(script,))
    process.start(); process.join()
";
    let Some((output, _)) = python(&shim, &[], source) else { return };
    let pids = output.lines().filter_map(|line| line.split_whitespace().last()?.parse().ok());
    let expected: Vec<_> = pids.map(|pid| ShimNews::Process { pid }).collect();
    assert_eq!(expected.len(), 2, "{output}");
    let told = async { [news.next().await, news.next().await] };
    let told = runtime.block_on(async { tokio::time::timeout(PROMPT, told).await });
    assert_eq!(told.expect("news").to_vec(), expected);
    // Both have ended, so whatever was told is in the pipe.
    let more = runtime.block_on(async { tokio::time::timeout(Duration::ZERO, news.next()).await });
    assert!(more.is_err(), "{more:?}");
}

#[test]
fn a_url_that_is_not_guards_is_the_users_own() {
    let shim = Shim::new(SERVER, "ws://127.0.0.1:1").expect("a shim");
    let source = "import multiprocessing, os\nscript = 'import os; print(os.environ[\"LIVEKIT_URL\"], flush=True)'\n\
                  p = multiprocessing.get_context('spawn').Process(target=exec, args=(script,)); p.start(); p.join()";
    let Some((output, _)) = python(&shim, &[("LIVEKIT_URL", "ws://mine")], source) else { return };
    assert!(output.contains("ws://mine"), "{output}");
}

#[test]
fn what_the_variables_had_comes_behind() {
    let place = Path::new("/d");
    assert_eq!(python_path(place, None), "/d");
    assert_eq!(python_path(place, Some("".into())), "/d");
    assert_eq!(python_path(place, Some("/x:/y".into())), "/d:/x:/y");
    assert_eq!(node_options("/d/p.cjs", None), "--require \"/d/p.cjs\"");
    assert_eq!(node_options("/d \"\\", Some("--inspect".into())), "--require \"/d \\\"\\\\\" --inspect");
}

#[test]
fn the_gateway_of_staging_is_named_unless_the_user_names_one() {
    let named = |server: &str, own: Option<&str>| {
        let mut command = Command::new("");
        command.envs(own.map(|own| ("LIVEKIT_INFERENCE_URL", own)));
        imply_inference(server, &mut command);
        seen(&command, "LIVEKIT_INFERENCE_URL")
    };
    assert_eq!(named("wss://x.staging.livekit.cloud", None), Some(STAGING.1.into()));
    assert_eq!(named("wss://x.staging.livekit.cloud", Some("own")), Some("own".into()));
    assert_eq!(named("wss://x.livekit.cloud", None), None);
}

#[test]
fn the_directory_is_this_users_alone_and_goes_with_the_shim() {
    let shim = Shim::new(SERVER, "ws://127.0.0.1:1").expect("a shim");
    let place = shim.directory.path().to_owned();
    assert_eq!(fs::metadata(&place).expect("it is there").permissions().mode() & 0o777, 0o700);
    drop(shim);
    assert!(!place.exists());
}
