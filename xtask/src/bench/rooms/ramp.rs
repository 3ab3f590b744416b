//! How many calls one core carries: more and more of them, until one is not heard whole.
//!
//! Owns the steps, and who has which core. Refuses to count the callers and the server: they have the other cores, and where
//! those do not suffice, the figure is the least that the agent carries.

use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use last_call_testkit::LiveKit;

use super::{Calls, Heard, Program, rest};
use crate::bench::report::Report;
use crate::bench::rig::PATIENCE;
use crate::bench::tree::Tree;
use crate::say;

/// Between two steps, in calls.
const STEP: usize = 10;
const MOST: usize = 80;
/// How long each step is listened to.
const WATCHED: Duration = Duration::from_secs(10);
/// The core of the agents.
const OWN: &str = "0";

/// Prints each step, and reports the last one without a silent frame.
pub(super) fn measure(
    program: &Program,
    caller: &Program,
    server: &LiveKit,
    most: Option<usize>,
    report: &mut Report,
) -> Result<()> {
    let cores = std::thread::available_parallelism().context("the number of cores")?.get();
    if cores < 2 {
        say::result(format_args!("· not measured: callers and server need a core of their own"));
        return Ok(());
    }
    let others = format!("1-{}", cores - 1);
    let pinned = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &others, &server.pid().to_string()])
        .output()
        .context("taskset (util-linux)")?;
    ensure!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    let (agent, callers) = (on(program, OWN), on(caller, &others));
    let mut carried = (0, 0.0);
    for calls in (STEP..=most.unwrap_or(MOST)).step_by(STEP) {
        match step(&agent, &callers, server, calls) {
            Ok((cpu, Heard { frames, silent: 0 })) => {
                say::result(format_args!(
                    "  {}: {calls} calls, {cpu:.0} % of a core, {frames} frames, none silent",
                    program.name
                ));
                carried = (calls, cpu);
            }
            Ok((cpu, Heard { frames, silent })) => {
                say::result(format_args!(
                    "  {}: {calls} calls, {cpu:.0} % of a core, {silent} of {frames} frames silent",
                    program.name
                ));
                break;
            }
            Err(error) => {
                say::result(format_args!("  {}: {calls} calls: {error:#}", program.name));
                break;
            }
        }
    }
    let (calls, cpu) = carried;
    report.size(program.name, "calls of one core before the first silent frame", calls as f64, "calls", None);
    report.size(program.name, "what they took of it", cpu, "%", None);
    Ok(())
}

/// The same program, on these cores.
fn on(program: &Program, cores: &str) -> Program {
    let (launch, cores) = (Rc::clone(&program.launch), cores.to_owned());
    let launch = move |mode: &str| launch(mode).behind("taskset", ["--cpu-list", &cores]);
    Program { name: program.name, launch: Rc::new(launch) }
}

/// What so many calls take of the agents' core, in percent, and what their callers heard.
fn step(agent: &Program, callers: &Program, server: &LiveKit, calls: usize) -> Result<(f64, Heard)> {
    let mut all = Calls::begin(agent, callers, server, &format!("ramp-{calls}-{}", agent.name), calls)?;
    let tree = Tree(all.agent.pid());
    let before = tree.cpu();
    rest(WATCHED);
    let used = tree.cpu().saturating_sub(before);
    all.callers.close_stdin();
    let line = all.callers.wait_for_line(|line| line.starts_with('{'), PATIENCE)?;
    Ok((used.as_secs_f64() / WATCHED.as_secs_f64() * 100.0, serde_json::from_str(&line.text)?))
}
