//! The built `last-call demo`, played to the end and broken off.
//!
//! Owns what a newcomer sees: the lines, the page, the exit code, and that nothing is left behind. Refuses times.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use last_call_testkit::{Child, Launch, LiveKit, Signal, skip};
use nix::sys::signal::kill;
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_last-call");
/// A demo takes 16 s on a free machine.
const PLAYED: Duration = Duration::from_secs(180);
/// What takes a moment on a free machine.
const SOON: Duration = Duration::from_secs(60);

fn demo(directory: &Path) -> Launch {
    Launch::new(PROGRAM).arg("demo").directory(directory).env("LC_ALL", "C.UTF-8")
}

/// The processes that this one has started, and those that they have.
fn offspring(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let listed = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        for child in listed.split_whitespace() {
            let child = child.parse()?;
            found.push(child);
            // One that has just ended has none.
            found.extend(offspring(child).unwrap_or_default());
        }
    }
    Ok(found)
}

/// Waits until `child` has started as many processes, and theirs.
fn started(child: &Child, count: usize) -> Result<Vec<u32>> {
    let deadline = Instant::now() + SOON;
    loop {
        let found = offspring(child.pid())?;
        if found.len() >= count {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{found:?} of {count} run:\n{}", child.output());
    }
}

/// Waits until none of these processes is there; one that nobody has reaped yet is not.
fn gone(workers: &[u32]) -> Result<()> {
    let deadline = Instant::now() + SOON;
    let runs = |worker: &u32| {
        let stat = fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while workers.iter().any(runs) {
        ensure!(Instant::now() < deadline, "of {workers:?} some still run");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn a_release_amid_calls_is_shown() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let child = demo(directory.path()).spawn()?;
    let exit = child.wait(PLAYED)?;
    let output = child.output();
    ensure!(exit.code == Some(0), "{exit:?}\n{output}");
    for wanted in [
        "embedded; watch it live at http://127.0.0.1:",
        "every thread of its own code is held",
        "SIGTERM, amid",
        "says that it is full",
        "SIGTERM again",
        "exit code 0",
        "taken after it was full   0",
        "old worker: drained; every call that it had was finished.",
        "callers got an agent.",
        "the timeline as a page: ",
    ] {
        ensure!(output.contains(wanted), "no {wanted:?} in\n{output}");
    }
    let page = fs::read_to_string(directory.path().join("last-call-demo.html"))?;
    ensure!(page.contains("SIGTERM") && page.contains("old worker"), "the page does not tell");
    ensure!(!page.contains("src=") && !page.contains("href=\"http"), "the page is not self-contained");
    Ok(())
}

#[test]
fn on_livekit_server_with_a_worker_beside_ours() -> Result<()> {
    let livekit = match LiveKit::binary() {
        Ok(_) => LiveKit::start()?,
        Err(missing) => {
            skip(missing);
            return Ok(());
        }
    };
    let directory = tempfile::tempdir()?;
    let theirs = format!("'{PROGRAM}' demo-agent start --load-threshold off --http off --agent-name theirs");
    let child = demo(directory.path())
        .args(["--url", &livekit.url(), "--api-key", livekit.key(), "--worker", &theirs, "--html", "off"])
        .env("LIVEKIT_API_SECRET", livekit.secret())
        .spawn()?;
    let exit = child.wait(PLAYED)?;
    let output = child.output();
    ensure!(exit.code == Some(0), "{exit:?}\n{output}");
    for wanted in ["your worker: drained;", "our worker: drained;", "callers got an agent."] {
        ensure!(output.contains(wanted), "no {wanted:?} in\n{output}");
    }
    ensure!(fs::read_dir(directory.path())?.next().is_none(), "a file was written");
    Ok(())
}

#[test]
fn a_full_disk_costs_the_page_and_not_the_outcome() -> Result<()> {
    let directory = tempfile::tempdir()?;
    // Letters beyond ASCII are not for every terminal.
    let child = demo(directory.path()).args(["--html", "/dev/full"]).env("LC_ALL", "C").spawn()?;
    let exit = child.wait(PLAYED)?;
    let output = child.output();
    ensure!(exit.code == Some(1), "{exit:?}\n{output}");
    ensure!(output.contains("callers got an agent."), "{output}");
    ensure!(output.contains("cannot write the timeline to /dev/full: No space left"), "{output}");
    ensure!(output.is_ascii(), "{output}");
    Ok(())
}

#[test]
fn a_worker_that_does_not_start_is_told_with_its_last_words() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cases = [
        ("sh -c 'echo no such model >&2; exit 7'", 1, "ended before it registered: exit code 7"),
        ("sh -c 'kill -9 $$'", 1, "killed by signal 9"),
        ("/nowhere/agent start", 1, "cannot start /nowhere/agent"),
        ("python 'agent.py", 2, "makes no sense"),
        ("", 2, "--worker is empty"),
    ];
    for (worker, code, wanted) in cases {
        let child = demo(directory.path()).args(["--worker", worker]).spawn()?;
        let exit = child.wait(SOON)?;
        let output = child.output();
        ensure!(exit.code == Some(code) && output.contains(wanted), "{worker:?}: {exit:?}\n{output}");
        ensure!(
            code == 2
                || worker.starts_with('/')
                || worker.contains("kill")
                || output.contains("no such model")
        );
    }
    Ok(())
}

#[test]
fn a_server_that_cannot_be_used_is_told() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cases = [
        (&["--url", "ws://127.0.0.1:1"][..], 2, "--url needs LIVEKIT_API_SECRET"),
        (&["--url", "ftp://127.0.0.1"], 2, "use ws:// or wss://"),
        (&["--url", "ws://livekit.example"], 2, "--insecure-ws"),
        (&["--insecure-ws"], 2, "--url"),
        (&["--url", "ws://127.0.0.1:1"], 1, "is the server running, and is the URL right?"),
    ];
    for (arguments, code, wanted) in cases {
        let secret = if wanted.contains("SECRET") { "" } else { "a-secret" };
        let launch = demo(directory.path()).args(arguments).env("LIVEKIT_API_SECRET", secret);
        let child = launch.env("LIVEKIT_API_KEY", "key").spawn()?;
        let exit = child.wait(SOON)?;
        let output = child.output();
        ensure!(exit.code == Some(code) && output.contains(wanted), "{arguments:?}: {exit:?}\n{output}");
        ensure!(!output.contains("a-secret"), "{output}");
    }
    Ok(())
}

#[test]
fn a_worker_of_ours_that_is_killed_is_no_good_news() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let child = demo(directory.path()).spawn()?;
    child.wait_for_line(|line| line.contains("new worker"), SOON)?;
    let old = *offspring(child.pid())?.iter().min().context("a worker")?;
    kill(Pid::from_raw(i32::try_from(old)?), Signal::SIGKILL)?;
    let exit = child.wait(PLAYED)?;
    let output = child.output();
    ensure!(exit.code == Some(1), "{exit:?}\n{output}");
    ensure!(output.contains("killed by signal 9, amid "), "{output}");
    ensure!(output.contains("old worker: ") && output.contains(" calls were lost."), "{output}");
    Ok(())
}

/// Plays with this worker until as many processes run, breaks the demo off, and looks whether all of them are gone.
fn broken_off(worker: Option<&str>, count: usize, signal: Signal, code: Option<i32>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let launch = match worker {
        Some(worker) => demo(directory.path()).args(["--worker", worker]),
        None => demo(directory.path()),
    };
    let child = launch.spawn()?;
    let started = started(&child, count)?;
    child.signal(signal)?;
    let exit = child.wait(SOON)?;
    ensure!(exit.code == code, "{exit:?}\n{}", child.output());
    gone(&started).with_context(|| child.output())
}

#[test]
fn no_signal_leaves_anything_behind() -> Result<()> {
    // Another's worker does not end by itself, and what it starts may leave its process group.
    let stubborn = "sh -c 'trap \"\" TERM INT HUP; setsid sleep 1000 & sleep 1001 & wait'";
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        broken_off(Some(stubborn), 3, signal, Some(130)).with_context(|| signal.to_string())?;
    }
    broken_off(None, 1, Signal::SIGINT, Some(130))
}

#[test]
fn sigkill_leaves_no_worker_of_ours_behind() -> Result<()> {
    // At the first sight of the worker, which may not have come far.
    (0..10).try_for_each(|_| broken_off(None, 1, Signal::SIGKILL, None))
}

#[test]
fn a_reader_that_has_read_enough_ends_it() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let shell = Launch::new("bash").directory(directory.path());
    let line = format!("set -o pipefail; '{PROGRAM}' demo | head -n 1");
    let child = shell.args(["-c", &line]).spawn()?;
    let exit = child.wait(SOON)?;
    let output = child.output();
    ensure!(exit.code == Some(1), "{exit:?}\n{output}");
    ensure!(output.contains("nobody reads what is shown"), "{output}");
    ensure!(fs::read_dir(directory.path())?.next().is_none(), "a page of half a demo was written");
    Ok(())
}

#[test]
fn a_place_without_room_for_the_page_is_told_before_anything_is_played() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for place in ["no/such/directory/x.html", "."] {
        let child = demo(directory.path()).args(["--html", place]).spawn()?;
        let exit = child.wait(SOON)?;
        let output = child.output();
        ensure!(exit.code == Some(1) && !output.contains("registered"), "{place}: {exit:?}\n{output}");
        ensure!(output.contains(&format!("cannot write the timeline to {place}: ")), "{output}");
    }
    Ok(())
}

#[test]
fn an_interrupted_demo_leaves_no_room_on_anothers_server() -> Result<()> {
    let livekit = match LiveKit::binary() {
        Ok(_) => LiveKit::start()?,
        Err(missing) => {
            skip(missing);
            return Ok(());
        }
    };
    let directory = tempfile::tempdir()?;
    let child = demo(directory.path())
        .args(["--url", &livekit.url(), "--api-key", livekit.key()])
        .env("LIVEKIT_API_SECRET", livekit.secret())
        .spawn()?;
    child.wait_for_line(|line| line.contains("new worker"), SOON)?;
    child.signal(Signal::SIGINT)?;
    let exit = child.wait(SOON)?;
    ensure!(exit.code == Some(130), "{exit:?}\n{}", child.output());
    let rooms = livekit.api().list_rooms()?;
    ensure!(rooms.is_empty(), "{rooms:?} are left");
    Ok(())
}
