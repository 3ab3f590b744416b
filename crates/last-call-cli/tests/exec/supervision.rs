//! What becomes of programs that do not behave.
//!
//! Owns the stop of a job, the limits, the strays, and a worker that is replaced on disk. Refuses drains.

use std::path::Path;

use last_call_testkit::processes::runs;
use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Job, Signal};

use crate::rig::{PROGRAM, Rig, until};

#[test]
fn job_3_a_program_whose_job_is_terminated_ends_by_sigterm() {
    let rig = Rig::new(&[], "sleep 1000 & echo $! > $DIR/child; echo $$ > $DIR/ready; wait");
    rig.call("AJ_1");
    rig.stub.terminate("AJ_1").expect("a worker");
    // It ended as it was told to.
    assert_eq!(rig.end("AJ_1"), (JobStatus::JsSuccess, String::new()));
    until("its own child to be gone", || !runs(rig.file("child")));
}

#[test]
fn job_3_who_speaks_is_told_by_a_line_and_then_by_sigterm() {
    let script = r#"
trap 'echo > $DIR/asked; exit 0' TERM
echo '{"type":"ready"}' >&4
(while read line <&4; do echo "$line" >> $DIR/heard; done) &
echo > $DIR/ready
while :; do sleep 0.02; done"#;
    let rig = Rig::new(&["--stop-grace", "2s"], script);
    rig.call("AJ_1");
    rig.stub.terminate("AJ_1").expect("a worker");
    let heard = rig.file("heard");
    assert!(heard.contains("\"type\":\"shutdown\",\"reason\":\"the server ended the job\""), "{heard}");
    rig.file("asked");
    let (status, error) = rig.end("AJ_1");
    assert_eq!(status, JobStatus::JsFailed);
    assert!(error.contains("did not return within its grace period"), "{error}");
}

#[test]
fn job_3_a_program_that_answers_no_ping_is_ended() {
    let answers = r#"
echo > $DIR/ready
while read line <&4; do
    if [ -e $DIR/stop ]; then sleep 1000; fi
    echo '{"type":"pong"}' >&4; echo >> $DIR/pings
done"#;
    let rig = Rig::new(&["--ping-limit", "3s"], answers);
    rig.call("AJ_1");
    // More than the limit's worth of them.
    until("five answers", || {
        std::fs::read_to_string(rig.path("pings")).unwrap_or_default().lines().count() >= 5
    });
    std::fs::write(rig.path("stop"), "").expect("a file");
    assert_eq!(rig.end("AJ_1"), (JobStatus::JsFailed, "no answer for 3s".to_owned()));
}

#[test]
fn job_3_a_program_over_its_memory_limit_is_ended_and_no_other() {
    let script = r#"
case "$(cat <&3)" in *greedy*) exec python3 -c 'import time; x = bytearray(200 << 20); time.sleep(1000)';; esac
echo $$ > $DIR/ready
exec sleep 1000"#;
    let rig = Rig::new(&["--memory-warn", "20MiB", "--memory-limit", "100MiB"], script);
    rig.call("AJ_1");
    rig.offer(Job::new("AJ_2").metadata("greedy"));
    let (status, error) = rig.end("AJ_2");
    assert_eq!(status, JobStatus::JsFailed);
    assert!(error.starts_with("over its memory limit: 2") && error.ends_with("100 MiB allowed"), "{error}");
    assert!(runs(rig.file("ready")), "the other job");
}

#[test]
fn drain_10_what_a_program_leaves_behind_is_ended() {
    let script = "setsid sh -c 'echo $$ > $DIR/stray; exec sleep 1000' & while [ ! -s $DIR/stray ]; do sleep 0.02; done; exit 0";
    let rig = Rig::new(&[], script);
    rig.offer(Job::new("AJ_1"));
    assert_eq!(rig.end("AJ_1").0, JobStatus::JsSuccess);
    let stray = rig.file("stray");
    assert!(!runs(&stray), "it outlived the job's report");
}

#[test]
fn a_worker_that_is_replaced_on_disk_starts_what_it_was() {
    let place = tempfile::tempdir().expect("a directory");
    let copy = place.path().join("last-call");
    std::fs::copy(PROGRAM, &copy).expect("a copy");
    let rig = Rig::of(&copy, &[], "echo > $DIR/ready; exit 0");
    std::fs::write(place.path().join("next"), "#!/bin/sh\nexit 99\n").expect("a file");
    std::fs::rename(place.path().join("next"), &copy).expect("a deploy");
    rig.call("AJ_1");
    assert_eq!(rig.end("AJ_1"), (JobStatus::JsSuccess, String::new()));
}

#[test]
fn fifty_jobs_leave_no_zombie_and_no_open_file() {
    let rig = Rig::new(&[], "exit 0");
    let run = |range: std::ops::Range<u32>| {
        for number in range.clone() {
            rig.offer(Job::new(format!("AJ_{number}")));
        }
        for number in range {
            assert_eq!(rig.end(&format!("AJ_{number}")).0, JobStatus::JsSuccess);
        }
    };
    let fds = || rig.worker.open_fds().expect("it runs");
    run(0..5);
    let mut before = 0;
    until("the open files to rest", || std::mem::replace(&mut before, fds()) == before);
    run(5..50);
    let children = Path::new("/proc").join(rig.worker.pid().to_string()).join("task");
    until("no child, and no more open files than before", || {
        let tasks = std::fs::read_dir(&children).expect("it runs");
        let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
        lists.collect::<String>().trim().is_empty() && fds() <= before
    });
    rig.send(Signal::SIGTERM);
    rig.ends_with(0);
}
