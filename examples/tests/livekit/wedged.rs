//! Wedged neighbours: workers whose user code does not run, beside a healthy one.
//!
//! Owns their number, six, which is as many in a row as the server's budget for a dispatch allows. Refuses
//! SIGSTOP, which would stop the link thread too, and spinning: six spinners on two cores would measure the
//! machine. They sleep on every user thread.

use std::time::Duration;

use anyhow::Result;
use last_call_testkit::LiveKit;

use crate::scene::{Probe, dispatch, lost, probe};

const WEDGED: usize = 6;
/// Dispatches for each set of freshly wedged workers: once found, a worker says that it is full.
const ROUND: usize = 15;

/// Asks for all 300 dispatches.
const FULL: &str = "LAST_CALL_FULL";

#[test]
fn job_1_six_wedged_workers_cost_a_healthy_one_no_call() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let healthy = probe(&server, "bar")?.start()?;
    let rounds = if std::env::var_os(FULL).is_some() { 20 } else { 4 };
    let (mut rooms, mut declined) = (Vec::new(), 0);
    for round in 0..rounds {
        let wedged = |_| {
            let wedged = probe(&server, "bar")?.with(|launch| launch.env("PROBE_BUSY", "sleep"));
            wedged.with(|launch| launch.args(["--user-threads", "1"])).start()
        };
        let wedged: Vec<Probe> = (0..WEDGED).map(wedged).collect::<Result<_>>()?;
        for number in 0..ROUND {
            rooms.extend(dispatch(&server, "bar", &format!("call-{round}-{number}"), 1, "{}")?);
            // Four calls a second.
            std::thread::sleep(Duration::from_millis(250));
        }
        for wedged in &wedged {
            wedged.drain()?;
        }
        for wedged in &wedged {
            assert_eq!(wedged.ended()?.code, Some(0));
            assert_eq!(wedged.count("started")?, 0);
            declined += wedged.count_said("offer declined");
        }
    }
    let lost = lost(&server, &rooms, &[&healthy])?;
    println!("{} dispatches, declined {declined} times by wedged workers, lost {}", rooms.len(), lost.len());
    assert_eq!(lost, [""; 0]);
    assert_eq!(healthy.count("started")?, rooms.len());
    assert!(declined >= rounds, "the wedged workers were hardly asked: {declined} offers");
    Ok(())
}
