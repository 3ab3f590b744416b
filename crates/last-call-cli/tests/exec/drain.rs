//! The drain's promises for jobs that are programs.
//!
//! Owns what they see of it, and that nothing of them is left. Refuses the frames, which are tested where workers are.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use last_call_testkit::processes::runs;
use last_call_testkit::{Job, Launch, Signal, proto::JobStatus};

use crate::rig::{PROGRAM, Rig, until};

/// Says that it runs, then writes what comes on file descriptor 4, and finishes when the file `finish` is there.
const LISTENS: &str = r#"
echo '{"type":"ready"}' >&4
(while read line <&4; do echo "$line" >> $DIR/heard; done) &
echo $$ > $DIR/ready
while [ ! -e $DIR/finish ]; do sleep 0.02; done
exit 0"#;

#[test]
fn drain_1_a_program_starts_with_no_stop_signal_blocked_or_ignored() {
    const STOPS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    // The shell reads its own masks: while it starts another program it may hold every signal back.
    let script = "while read -r line; do case $line in Sig*) echo \"$line\";; esac; done < /proc/$$/status \
                  > $DIR/masks.new; mv $DIR/masks.new $DIR/masks";
    let careless =
        |worker| STOPS.into_iter().fold(worker, |worker: Launch, stop| worker.blocked(stop).ignored(stop));
    let rig = Rig::from(&[], script, careless);
    rig.offer(Job::new("AJ_1"));
    let masks = rig.file("masks");
    let mask = |name: &str| {
        let hex = masks.lines().find_map(|line| line.strip_prefix(name)).expect("a mask");
        u64::from_str_radix(hex.trim(), 16).expect("a number")
    };
    assert_eq!(mask("SigBlk:"), 0, "{masks}");
    let stops = STOPS.iter().fold(0, |mask, stop| mask | 1 << (*stop as i32 - 1));
    assert_eq!(mask("SigIgn:") & stops, 0, "{masks}");
}

fn finish(rig: &Rig) {
    std::fs::write(rig.path("finish"), "").expect("a file");
}

#[test]
fn drain_5_a_program_finishes_its_call_and_the_worker_leaves() {
    let rig = Rig::new(&[], LISTENS);
    rig.call("AJ_1");
    rig.send(Signal::SIGTERM);
    rig.log("draining: taking no jobs");
    let heard = rig.file("heard");
    assert!(heard.starts_with("{\"type\":\"draining\",\"seconds\":"), "{heard}");
    rig.offer(Job::new("AJ_2"));
    assert!(!rig.answer("AJ_2").available);
    assert!(rig.worker.try_wait().is_none(), "left its caller");
    finish(&rig);
    assert_eq!(rig.end("AJ_1"), (JobStatus::JsSuccess, String::new()));
    rig.ends_with(0);
    assert_eq!(rig.file("heard").lines().count(), 1, "told more than once, or to stop");
}

#[test]
fn drain_9_more_sigterms_change_nothing() {
    let rig = Rig::new(&[], LISTENS);
    rig.call("AJ_1");
    rig.send(Signal::SIGTERM);
    rig.log("draining: taking no jobs");
    for _ in 0..50 {
        rig.send(Signal::SIGTERM);
    }
    rig.file("heard");
    assert!(runs(rig.file("ready")), "a SIGTERM reached the program");
    finish(&rig);
    assert_eq!(rig.end("AJ_1").0, JobStatus::JsSuccess);
    rig.ends_with(0);
}

#[test]
fn drain_7_it_is_told_of_the_drain_and_later_to_stop() {
    let script = r#"
echo '{"type":"ready"}' >&4
echo > $DIR/ready
while read line <&4; do
    echo "$line" >> $DIR/heard
    case "$line" in *shutdown*) exit 0;; esac
done"#;
    let rig = Rig::new(&["--drain-timeout", "4s", "--drain-reserve", "2s"], script);
    rig.call("AJ_1");
    rig.send(Signal::SIGTERM);
    assert_eq!(rig.end("AJ_1"), (JobStatus::JsSuccess, String::new()));
    rig.ends_with(0);
    let heard = rig.file("heard");
    let kinds: Vec<bool> = heard.lines().map(|line| line.contains("the drain deadline has come")).collect();
    assert_eq!(kinds, [false, true], "{heard}");
}

#[test]
fn drain_6_a_program_without_lines_gets_sigterm_at_the_deadline() {
    let script = "trap 'echo > $DIR/asked; exit 0' TERM; echo > $DIR/ready; while :; do sleep 0.02; done";
    let rig = Rig::new(&["--drain-timeout", "4s", "--drain-reserve", "2s"], script);
    rig.call("AJ_1");
    rig.send(Signal::SIGTERM);
    rig.file("asked");
    assert_eq!(rig.end("AJ_1").0, JobStatus::JsSuccess);
    rig.ends_with(0);
}

#[test]
fn drain_8_a_deaf_program_is_killed_and_counted() {
    let script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > $DIR/stray; exec sleep 1000' & echo $$ > $DIR/ready; while :; do sleep 0.05; done";
    let rig = Rig::new(&["--drain-timeout", "2s", "--drain-reserve", "1s"], script);
    rig.call("AJ_1");
    let (program, stray) = (rig.file("ready"), rig.file("stray"));
    rig.send(Signal::SIGTERM);
    rig.ends_with(4);
    until("the program to be gone", || !runs(&program));
    until("what it started to be gone", || !runs(&stray));
}

#[test]
fn drain_9_sigquit_forces_and_leaves_nothing_behind() {
    let script = "setsid sh -c 'echo $$ > $DIR/stray; exec sleep 1000' & echo $$ > $DIR/ready; wait";
    let rig = Rig::new(&[], script);
    rig.call("AJ_1");
    let (program, stray) = (rig.file("ready"), rig.file("stray"));
    rig.send(Signal::SIGQUIT);
    rig.ends_with(5);
    until("the program to be gone", || !runs(&program));
    until("what it started to be gone", || !runs(&stray));
}

#[test]
fn drain_9_ctrl_c_ends_no_program_that_is_only_starting() {
    // As a child that gets the terminal's signals before it has left the group of the worker, which blocked them.
    let script = "import os, signal, sys; few = [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP]; \
                  signal.pthread_sigmask(signal.SIG_BLOCK, few); [os.kill(os.getpid(), one) for one in few]; \
                  [signal.signal(one, signal.SIG_DFL) for one in few]; os.execv(sys.argv[1], sys.argv[1:])";
    let worker = std::process::id().to_string();
    let program = ["sh", "-c", "grep -q 'SigPnd:\t0*$' /proc/self/status && kill -INT $$"];
    let mut start = Command::new("python3");
    start.args(["-c", script, PROGRAM, "launch-agent", &worker, "-", "-"]).args(program);
    let status = start.status().expect("python3");
    assert_eq!(
        status.signal(),
        Some(Signal::SIGINT as i32),
        "its own, by which one sees that it ran: {status}"
    );
}

#[test]
fn drain_10_a_program_ends_with_a_worker_that_is_killed() {
    let rig = Rig::new(&[], "trap '' TERM; echo $$ > $DIR/ready; exec sleep 1000");
    rig.call("AJ_1");
    let program = rig.file("ready");
    assert!(runs(&program));
    rig.send(Signal::SIGKILL);
    until("the program to be gone", || !runs(&program));
}
