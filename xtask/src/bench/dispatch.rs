//! From CreateDispatch to the entrypoint, or to the room, on the real livekit-server.
//!
//! Owns the dispatches. Refuses to subtract the server's own 200 ms (psrpc waits so long for a better worker), which every framework has.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use last_call_testkit::{Histogram, LiveKit};

use super::report::{Promise, Report};
use super::rig::{PATIENCE, Subject, rest};
use crate::say;

const AGENT: &str = "bench";

/// Of the drain's figures.
pub(super) fn measure(probe: &Subject, count: usize, report: &mut Report) -> Result<()> {
    report.section("dispatch on livekit-server");
    if let Err(missing) = LiveKit::binary() {
        say::result(format_args!("· not measured: {missing:#}"));
        return Ok(());
    }
    let server = LiveKit::start()?;
    let times = until("started", probe, &[], &server, count, Duration::ZERO)?;
    report.times(
        probe.name,
        "CreateDispatch → entrypoint starts (200 ms are the server's)",
        times,
        Promise::NONE,
    );
    Ok(())
}

/// How long it takes from each of `count` dispatches until the job writes `event`; between two of them is a `pause`, in which a
/// worker makes its next process ready.
pub(super) fn until(
    event: &str,
    subject: &Subject,
    variables: &[(&str, &str)],
    server: &LiveKit,
    count: usize,
    pause: Duration,
) -> Result<Histogram> {
    let [_, (_, key), (_, secret)] = server.env();
    let server_s = [
        ("LIVEKIT_API_KEY", key.as_str()),
        ("LIVEKIT_API_SECRET", secret.as_str()),
        ("PROBE_AGENT_NAME", AGENT),
        // Every framework declines a job now and then where it watches its load.
        ("LAST_CALL_LOAD_THRESHOLD", "off"),
    ];
    let worker = subject.start(&server.url(), &[&server_s, variables].concat())?;
    worker.wait_for_line(|line| line.contains("registered"), PATIENCE)?;
    let orders = format!("{{\"connect\": {}}}", event == "connected");
    let mut times = Vec::new();
    for number in 0..count {
        rest(pause);
        let asked = SystemTime::now();
        let room = format!("{}-{number}", subject.name.replace([' ', '/', '@'], "-"));
        server.api().create_dispatch(&room, AGENT, &orders, &[])?;
        times.push(worker.await_event(event, number + 1)?.duration_since(asked).unwrap_or_default());
    }
    Ok(times.into_iter().collect())
}
