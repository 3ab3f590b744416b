//! Real children: shells.
//!
//! Owns the promises of supervision. Refuses what a unit of its own can show.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use last_call_testkit::processes::runs;
use tokio::time::{sleep, timeout};

use super::{Descendants, Ended, Executable, Limits, Said, Start, Stream, Supervised};
use crate::jobs::Usage;

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(30);

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    command
}

async fn quiet(script: &str) -> Supervised {
    Supervised::spawn(sh(script), |_| ()).await.expect("a shell")
}

async fn ended(child: &Supervised) -> Ended {
    timeout(SOON, child.ended()).await.expect("its end")
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < deadline, "waited for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn written(path: &Path) -> String {
    let text = || std::fs::read_to_string(path).unwrap_or_default();
    until("a file", || text().ends_with('\n')).await;
    text().trim().to_owned()
}

fn file(dir: &tempfile::TempDir, name: &str) -> PathBuf {
    dir.path().join(name)
}

#[tokio::test]
async fn job_3_it_says_how_it_ended() {
    for (script, expected) in [
        ("exit 0", Ended::Exit(0)),
        ("exit 3", Ended::Exit(3)),
        ("kill -SEGV $$", Ended::Signal(11)),
        ("kill -KILL $$", Ended::Signal(9)),
    ] {
        assert_eq!(ended(&quiet(script).await).await, expected, "{script}");
    }
    let child = quiet("echo 'KeyError: room' >&2; echo >&2; echo later; exit 1").await;
    let end = ended(&child).await;
    assert_eq!(end.text(&child.last_error()), "exit code 1: KeyError: room");
}

#[tokio::test]
async fn its_lines_are_heard_before_its_end_is() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    let hear = move |said: Said<'_>| {
        if let Said::Line { stream, text, .. } = said {
            hears.lock().expect("whole").push((stream, text.to_owned()));
        }
    };
    let child = Supervised::spawn(sh("echo out; echo err >&2; printf half"), hear).await.expect("a shell");
    ended(&child).await;
    let mut heard = heard.lock().expect("whole").clone();
    heard.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
    let line = |stream, text: &str| (stream, text.to_owned());
    let expected = [line(Stream::Stdout, "out"), line(Stream::Stdout, "half"), line(Stream::Stderr, "err")];
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_child_that_asks_is_terminated_and_a_deaf_one_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (asked, ready) = (file(&dir, "asked"), file(&dir, "ready"));
    let script = format!(
        "trap 'echo yes > {}; exit 7' TERM; echo > {}; while :; do sleep 0.05; done",
        asked.display(),
        ready.display()
    );
    let child = quiet(&script).await;
    until("the trap", || ready.exists()).await;
    child.terminate();
    assert_eq!(ended(&child).await, Ended::Exit(7));
    assert_eq!(written(&asked).await, "yes");

    let deaf = quiet("trap '' TERM; while :; do sleep 0.05; done").await;
    deaf.terminate();
    deaf.kill(Some(Ended::Unresponsive(SOON)));
    assert_eq!(ended(&deaf).await, Ended::Unresponsive(SOON));
    // Nobody is hit any more.
    deaf.terminate();
    deaf.kill(None);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn drain_10_dropped_it_dies_with_its_group_and_is_reaped() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(&dir, "grandchild");
    let child = quiet(&format!("sleep 1000 & echo $! > {}; wait", path.display())).await;
    let grandchild = written(&path).await;
    let pid = child.pid().to_string();
    assert!(runs(&pid) && runs(&grandchild));
    drop(child);
    until("both to be gone", || !runs(&grandchild) && !Path::new("/proc").join(&pid).exists()).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn drain_10_what_left_the_group_is_found_by_its_mark() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(&dir, "stray");
    let other = quiet("sleep 1000").await;
    let script = format!("setsid sh -c 'echo $$ > {}; exec sleep 1000' & sleep 1000", path.display());
    let child = quiet(&script).await;
    let stray = written(&path).await;
    assert!(runs(&stray));
    child.kill(None);
    assert_eq!(ended(&child).await, Ended::Signal(9));
    assert!(!runs(&stray), "a stray outlived its job");
    assert!(runs(other.pid()), "another job was hit");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_escaped_holder_of_the_pipe_does_not_hold_the_end() {
    // Without its mark it is not found; it keeps the pipes open.
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(&dir, "stray");
    let script = format!(
        "env -u {1} setsid sh -c 'echo $$ > {0}; exec sleep 60' & while [ ! -s {0} ]; do sleep 0.02; done",
        path.display(),
        super::MARK
    );
    let child = quiet(&script).await;
    let stray = written(&path).await;
    assert_eq!(ended(&child).await, Ended::Exit(0));
    assert!(runs(&stray), "it was found after all, and this test shows nothing");
    Command::new("kill").arg(&stray).status().expect("kill");
}

#[tokio::test]
async fn a_signal_for_everybody_ends_none_that_is_only_starting() {
    let script = "kill -TERM $$; exit 0";
    assert_eq!(ended(&quiet(script).await).await, Ended::Signal(15));
    let start = Start { deaf: true, ..sh(script).into() };
    let child = Supervised::spawn(start, |_| ()).await.expect("a shell");
    assert_eq!(ended(&child).await, Ended::Exit(0));
    // And the thread that starts them has gone back to what it was.
    assert_eq!(ended(&quiet(script).await).await, Ended::Signal(15));
}

#[cfg(target_os = "linux")]
async fn used(child: &Supervised) -> Usage {
    child.usage().await.expect("what it uses")
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn its_time_is_that_of_its_descendants_too_of_reaped_ones_as_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(&dir, "done");
    let busy = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
    let script = format!("sh -c '{busy}'; echo > {}; sh -c '{busy}; exec sleep 1000' & wait", path.display());
    let child = quiet(&script).await;
    written(&path).await;
    let reaped = used(&child).await.cpu;
    assert!(reaped > Duration::ZERO);
    // The one that still runs counts its loop on top.
    let deadline = Instant::now() + SOON;
    while used(&child).await.cpu < reaped * 3 / 2 {
        assert!(Instant::now() < deadline, "it stays at {reaped:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// In a group of its own, where this machine has a place for one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn drain_10_a_group_ends_whole_without_marks_too() {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let place = places.iter().filter(|place| place.join("cgroup.controllers").is_file()).find_map(|place| {
        let dir = place.join(format!("last-call-test-{}", std::process::id()));
        std::fs::create_dir(&dir).is_ok().then_some(dir)
    });
    let Some(place) = place else {
        last_call_testkit::skip("no cgroup v2 that this user may make groups in");
        return;
    };
    let limits = Limits { cgroup: Some(place.clone()), ..Limits::default() };
    let groups = limits.groups().expect("a place for groups");
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(&dir, "stray");
    let mark = super::MARK;
    let script = format!(
        "echo 0 > {0}/${mark}/cgroup.procs; env -u {mark} setsid sh -c 'echo $$ > {1}; exec sleep 1000' & \
         while [ ! -s {1} ]; do sleep 0.02; done",
        place.display(),
        path.display(),
    );
    let child = Supervised::spawn(Start { groups, ..sh(&script).into() }, |_| ()).await.expect("a shell");
    let stray = written(&path).await;
    assert_eq!(ended(&child).await, Ended::Exit(0));
    until("its end", || !runs(&stray)).await;
    // Nothing is left of the group.
    assert!(std::fs::remove_dir(&place).is_ok(), "{} is not empty", place.display());
}

#[test]
fn a_place_that_is_none_for_groups_is_refused_with_advice() {
    let dir = tempfile::tempdir().expect("a directory");
    let limits = Limits { cgroup: Some(dir.path().to_owned()), ..Limits::default() };
    let error = limits.groups().expect_err("no cgroup");
    assert!(error.contains("no directory of cgroup v2"), "{error}");
    assert!(Limits::default().groups().is_ok_and(|groups| groups.is_none()));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn its_memory_is_that_of_its_descendants_too() {
    let lone = quiet("exec sleep 1000").await;
    let many = quiet("for i in 1 2 3 4; do sleep 1000 & done; wait").await;
    let sleepers =
        || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", many.pid())).unwrap_or_default();
    // A child that has not become one yet shares its memory with its parent.
    let sleeps = |pid: &str| std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n");
    until("four sleepers", || sleepers().split_whitespace().filter(|pid| sleeps(pid)).count() == 4).await;
    let (one, five) = (used(&lone).await.memory, used(&many).await.memory);
    assert!(one > 0 && five > 2 * one, "{one} and {five}");
}

#[tokio::test]
async fn what_cannot_be_started_is_an_error() {
    let missing = Supervised::spawn(Command::new("/no/such/program"), |_| ()).await;
    assert_eq!(missing.expect_err("an error").kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn the_own_executable_is_what_it_was() {
    let own = Executable::own().expect("it is open");
    let listed = own
        .command()
        .args(["--list", "--exact", "process::tests::the_own_executable_is_what_it_was"])
        .output();
    let listed = String::from_utf8(listed.expect("it runs").stdout).expect("text");
    assert!(listed.contains("the_own_executable_is_what_it_was: test"), "{listed}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_ends_of_descendants_are_seen_and_the_rest_can_be_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    // A child that starts another, which stays when the child ends, in a session and with an environment of its own.
    let script = format!(
        "(sleep 1000 & env -i setsid sleep 1000 & echo $$ $! > {0}; wait) & read stop < {1}; exit 3",
        file(&dir, "pids").display(),
        file(&dir, "stop").display(),
    );
    nix::unistd::mkfifo(&file(&dir, "stop"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let child = quiet(&script).await;
    let text = written(&file(&dir, "pids")).await;
    let stray: u32 = text.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).expect("a number");
    let mut descendants = Descendants::of(child.pid());
    let found = async {
        while descendants.held().count() < 3 {
            let _ = timeout(Duration::from_millis(5), descendants.next()).await;
        }
    };
    timeout(SOON, found).await.expect("all three");
    assert!(descendants.held().any(|pid| pid == stray));

    std::fs::write(file(&dir, "stop"), "\n").expect("it reads");
    assert_eq!(ended(&child).await, Ended::Exit(3));
    // What the kill of the group and the search by mark have ended.
    let mut gone = Vec::new();
    while gone.len() < 2 {
        gone.push(timeout(SOON, descendants.next()).await.expect("an end"));
    }
    assert!(runs(stray) && descendants.held().eq([stray]), "{gone:?}, and not {stray}");
    descendants.kill();
    assert_eq!(timeout(SOON, descendants.next()).await.expect("its end"), stray);
    assert_eq!(descendants.held().count(), 0);
}
