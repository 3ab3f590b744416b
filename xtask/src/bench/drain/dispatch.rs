//! From CreateDispatch to the entrypoint, on the real livekit-server.
//!
//! Owns the dispatches. Refuses to subtract the server's own 200 ms (psrpc waits so long for a better worker), which every framework has.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use last_call_testkit::LiveKit;

use crate::bench::report::{Promise, Report};
use crate::bench::rig::{PATIENCE, Running, Subject, rest};
use crate::say;

const AGENT: &str = "bench";
const LOOK_EVERY: Duration = Duration::from_millis(2);

pub(super) fn measure(probe: &Subject, count: usize, report: &mut Report) -> Result<()> {
    report.section("dispatch on livekit-server");
    if let Err(missing) = LiveKit::binary() {
        say::result(format_args!("· not measured: {missing:#}"));
        return Ok(());
    }
    let server = LiveKit::start()?;
    let [_, (_, key), (_, secret)] = server.env();
    let variables = [
        ("LIVEKIT_API_KEY", key.as_str()),
        ("LIVEKIT_API_SECRET", secret.as_str()),
        ("PROBE_AGENT_NAME", AGENT),
    ];
    let worker = probe.start(&server.url(), &variables)?;
    worker.wait_for_line(|line| line.contains("\"registered\""), PATIENCE)?;
    let mut times = Vec::new();
    for number in 0..count {
        let asked = SystemTime::now();
        server.api().create_dispatch(&format!("room-{number}"), AGENT, "{}", &[])?;
        times.push(started(&worker, number)?.duration_since(asked).unwrap_or_default());
    }
    let what = "CreateDispatch → entrypoint starts (200 ms are the server's)";
    report.times(probe.name, what, times.into_iter().collect(), Promise::NONE);
    Ok(())
}

/// When the job after `known` others has started.
fn started(worker: &Running, known: usize) -> Result<SystemTime> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let lines = worker.diaries().into_iter().flatten();
        let mut starts: Vec<_> = lines.filter(|(event, _)| event == "started").map(|(_, at)| at).collect();
        if starts.len() > known {
            starts.sort_unstable();
            return starts.pop().context("it has an element");
        }
        rest(LOOK_EVERY);
    }
    bail!("no job started in {PATIENCE:?}:\n{}", worker.output())
}
