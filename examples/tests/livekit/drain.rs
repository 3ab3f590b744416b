//! The drain against the real server: what it still sends, and what it writes down of the jobs.
//!
//! Owns the server's view of a draining worker. Refuses signals in odd states, which the stub server shows.

use std::time::Duration;

use anyhow::Result;
use last_call_testkit::{Cut, LiveKit, Relay};

use crate::scene::{dispatch, eventually, lost, probe};
use crate::server_log::{self, ASSIGNED, GIVEN_UP, JOB_ENDED, REGISTERED};

#[test]
fn drain_3_a_draining_worker_gets_nothing_and_every_call_ends_well() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let probe = probe(&server, "bar")?.start()?;
    dispatch(&server, "bar", "before", 5, r#"{"sleep":8}"#)?;
    probe.wait(5, "started")?;

    probe.drain()?;
    dispatch(&server, "bar", "at-once", 10, "{}")?;
    server_log::wait_full(&server, "bar")?;
    let offered = probe.count_said("offer declined");
    dispatch(&server, "bar", "later", 10, "{}")?;
    server_log::wait_for(&server, "bar", GIVEN_UP, 20)?;
    assert_eq!(probe.count_said("offer declined"), offered, "offered to a worker that is full");

    assert_eq!(probe.ended()?.code, Some(0));
    assert_eq!((probe.count("started")?, probe.count("finished")?), (5, 5));
    let ended = server_log::wait_for(&server, "bar", JOB_ENDED, 5)?;
    assert!(ended.iter().all(|job| job["status"] == "JS_SUCCESS" && job["error"] == ""), "{ended:?}");
    assert_eq!(server_log::said_of(&server, "bar", ASSIGNED).len(), 5);
    Ok(())
}

#[test]
fn job_3_the_server_learns_why_a_job_failed() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let probe = probe(&server, "bar")?.start()?;
    dispatch(&server, "bar", "well", 1, r#"{"sleep":3}"#)?;
    dispatch(&server, "bar", "raises", 1, r#"{"sleep":1,"raise":true}"#)?;
    dispatch(&server, "bar", "panics", 1, r#"{"sleep":1,"panic":true}"#)?;
    dispatch(&server, "bar", "unreadable", 1, "soup")?;
    probe.wait(3, "started")?;
    probe.drain()?;
    assert_eq!(probe.ended()?.code, Some(0));

    let ended = server_log::wait_for(&server, "bar", JOB_ENDED, 4)?;
    let jobs = server_log::assigned(&server);
    for (room, status, error) in [
        ("well-0", "JS_SUCCESS", ""),
        ("raises-0", "JS_FAILED", "told to raise"),
        ("panics-0", "JS_FAILED", "panicked: told to panic"),
        ("unreadable-0", "JS_FAILED", "the job's metadata is no order"),
    ] {
        let job = jobs.iter().find(|one| one.room == room).map(|one| one.job.as_str());
        let end = ended.iter().find(|end| end["jobID"].as_str() == job);
        let Some(end) = end else { panic!("no end of {room} in {ended:?}") };
        assert_eq!(end["status"], status, "{room}: {end}");
        assert!(end["error"].as_str().is_some_and(|text| text.starts_with(error)), "{room}: {end}");
    }
    Ok(())
}

#[test]
fn reg_1_a_registration_while_draining_takes_nothing() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let relay = Relay::start(server.address())?;
    let probe = probe(&server, "bar")?.with(|launch| launch.env("LIVEKIT_URL", relay.url())).start()?;
    dispatch(&server, "bar", "before", 1, r#"{"sleep":15}"#)?;
    probe.wait(1, "started")?;
    probe.drain()?;
    server_log::wait_full(&server, "bar")?;

    let mut dispatched = 0;
    for cut in 0..5 {
        relay.cut(Cut::Rst);
        // Dispatches come before, while and after the worker registers again.
        eventually("registered again", || {
            dispatched += dispatch(&server, "bar", &format!("between-{dispatched}"), 1, "{}")?.len();
            Ok((server_log::said_of(&server, "bar", REGISTERED).len() > cut + 1).then_some(()))
        })?;
        dispatched += dispatch(&server, "bar", &format!("after-{cut}"), 3, "{}")?.len();
    }
    assert_eq!(probe.ended()?.code, Some(0));
    assert_eq!((probe.count("started")?, probe.count("finished")?), (1, 1), "of {dispatched} dispatches");
    assert_eq!(server_log::said_of(&server, "bar", ASSIGNED).len(), 1);
    Ok(())
}

#[test]
fn drain_5_a_rolling_restart_loses_no_call() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let old = probe(&server, "bar")?.start()?;
    let new = probe(&server, "bar")?.start()?;
    let mut rooms = Vec::new();
    for number in 0..24 {
        if number == 10 {
            old.drain()?;
        }
        rooms.extend(dispatch(&server, "bar", &format!("call-{number}"), 1, r#"{"sleep":3}"#)?);
        // Two calls a second.
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(lost(&server, &rooms, &[&old, &new])?, [""; 0]);
    assert_eq!(old.ended()?.code, Some(0));
    let (accepted, taken) = (old.count_said("offer accepted"), old.count("started")?);
    assert_eq!(taken, accepted);
    assert_eq!(old.count("finished")?, taken, "cut off by the restart");
    assert!(old.said_none_in_the_drain("offer accepted"), "{}", old.child().output());
    new.wait(24 - taken, "finished")?;
    Ok(())
}
