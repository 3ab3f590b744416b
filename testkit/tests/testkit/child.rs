//! Children: their lines, their signals, their end.

use std::time::{Duration, Instant};

use anyhow::Result;
use last_call_testkit::{Child, Launch, Signal, Source, pid_1_possible, processes, skip, until};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn lines_come_in_order_with_their_source() -> Result<()> {
    let script = "echo $GREETING; read line; echo got $line >&2; exit 7";
    let mut child = Launch::new("sh").args(["-c", script]).env("GREETING", "hello").stdin().spawn()?;
    let hello = child.wait_for_line(|line| line == "hello", LONG)?;
    child.write_stdin(b"bread\n")?;
    let got = child.wait_for_line_after(1, |line| line.starts_with("got"), LONG)?;
    let exit = child.wait(LONG)?;
    assert_eq!((hello.source, got.source), (Source::Stdout, Source::Stderr));
    assert_eq!(got.text, "got bread");
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    assert!(hello.at <= got.at && exit.after > Duration::ZERO);
    Ok(())
}

#[test]
fn a_line_that_never_comes_is_an_error_with_those_that_came() -> Result<()> {
    let child = Child::spawn("sh", ["-c", "echo something else"], [("A", "b")])?;
    let error = child.wait_for_line(|line| line == "never", LONG).expect_err("it ended without");
    assert!(format!("{error:#}").contains("something else"), "{error:#}");
    Ok(())
}

#[test]
fn a_signal_ends_a_child_and_a_dead_child_takes_none() -> Result<()> {
    let child = Child::spawn("sleep", ["600"], [("A", "b")])?;
    assert!(child.wait(Duration::ZERO).is_err(), "it still sleeps");
    child.signal(Signal::SIGTERM)?;
    assert_eq!(child.wait(LONG)?.signal, Some(Signal::SIGTERM as i32));
    assert!(child.signal(Signal::SIGTERM).is_err());
    Ok(())
}

#[test]
fn a_dropped_child_is_gone() -> Result<()> {
    let child = Child::spawn("sleep", ["600"], [("A", "b")])?;
    let path = format!("/proc/{}", child.pid());
    assert!(std::fs::exists(&path)?);
    drop(child);
    assert!(!std::fs::exists(&path)?);
    Ok(())
}

#[test]
fn what_a_dropped_child_has_started_is_gone() -> Result<()> {
    let script = "setsid sh -c 'sleep 600 & echo $!; wait' & wait";
    let child = Child::spawn("sh", ["-c", script], [("A", "b")])?;
    let sleeper = child.wait_for_line(|line| line.parse::<u32>().is_ok(), LONG)?.text;
    assert!(processes::runs(&sleeper));
    drop(child);
    until("what it has started to be gone", LONG, || !processes::runs(&sleeper));
    Ok(())
}

/// The value of a signal set of /proc/PID/status, as the child itself prints it.
fn signal_set(launch: Launch, name: &str) -> Result<u64> {
    let child = launch.args(["/proc/self/status"]).spawn()?;
    let line = child.wait_for_line(|line| line.starts_with(name), LONG)?;
    Ok(u64::from_str_radix(line.text.split_whitespace().last().unwrap_or_default(), 16)?)
}

#[test]
fn signals_start_blocked_or_ignored_as_told() -> Result<()> {
    let bit = |signal: Signal| 1_u64 << (signal as i32 - 1);
    let (term, int) = (Signal::SIGTERM, Signal::SIGINT);
    let launch = Launch::new("cat").blocked(term).ignored(int);
    // The test's own process may ignore further signals.
    let asked = bit(term) | bit(int) | bit(Signal::SIGPIPE);
    assert_eq!(signal_set(launch.clone(), "SigBlk:")? & asked, bit(term));
    assert_eq!(signal_set(launch, "SigIgn:")? & asked, bit(int));
    Ok(())
}

#[test]
fn process_1_shrugs_off_a_signal_it_does_not_handle() -> Result<()> {
    if let Err(missing) = pid_1_possible() {
        skip(missing);
        return Ok(());
    }
    let script = "trap 'echo asked; exit 3' INT; echo I am $$; sleep 600 & wait";
    let child = Launch::new("bash").args(["-c", script]).pid_1().spawn()?;
    child.wait_for_line(|line| line == "I am 1", LONG)?;
    child.signal(Signal::SIGTERM)?;
    child.signal(Signal::SIGINT)?;
    child.wait_for_line(|line| line == "asked", LONG)?;
    assert_eq!(child.wait(LONG)?.code, Some(3));
    Ok(())
}

#[test]
fn a_child_has_a_size() -> Result<()> {
    let before = Instant::now();
    let child = Child::spawn("sleep", ["600"], [("A", "b")])?;
    assert!(child.started() >= before);
    assert!(child.rss_kib()? > 0 && child.pss_kib()? > 0);
    assert_eq!(child.threads()?, 1);
    assert!(child.open_fds()? >= 3);
    Ok(())
}
