//! From CreateDispatch to the entrypoint, on the real livekit-server.
//!
//! Owns the dispatches. Refuses to subtract the server's own 200 ms (psrpc waits so long for a better worker), which every framework has.

use std::time::SystemTime;

use anyhow::Result;
use last_call_testkit::LiveKit;

use crate::bench::report::{Promise, Report};
use crate::bench::rig::{PATIENCE, Subject};
use crate::say;

const AGENT: &str = "bench";

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
        times.push(worker.await_started(number + 1)?.duration_since(asked).unwrap_or_default());
    }
    let what = "CreateDispatch → entrypoint starts (200 ms are the server's)";
    report.times(probe.name, what, times.into_iter().collect(), Promise::NONE);
    Ok(())
}
