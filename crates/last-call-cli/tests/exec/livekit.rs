//! The examples of `examples/exec` take a call on the real server.
//!
//! Owns what a caller and an operator see of them. Refuses the media itself: that the track is there is enough.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use last_call_testkit::{LiveKit, Python, Signal, skip};

use crate::rig::{PROGRAM, SOON, launch};

const NODE_MODULES: &str = "LAST_CALL_NODE_MODULES";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/exec").join(name)
}

#[test]
fn drain_5_an_agent_in_python_takes_a_call_and_finishes_it() -> Result<()> {
    match Python::find() {
        Ok(python) => takes_a_call(vec![python.interpreter().into(), example("tone.py").into()], &[]),
        Err(missing) => {
            skip(missing);
            Ok(())
        }
    }
}

#[test]
fn drain_5_an_agent_in_node_takes_a_call_and_finishes_it() -> Result<()> {
    match std::env::var(NODE_MODULES) {
        Ok(modules) => {
            takes_a_call(vec!["node".into(), example("tone.js").into()], &[("NODE_PATH", &modules)])
        }
        Err(_) => {
            skip(format_args!("{NODE_MODULES} names no packages: run `cargo xtask test`"));
            Ok(())
        }
    }
}

fn takes_a_call(program: Vec<OsString>, variables: &[(&str, &str)]) -> Result<()> {
    let (server, python) = match (LiveKit::binary(), Python::find()) {
        (Ok(_), Ok(python)) => (LiveKit::start()?, python),
        (Err(missing), _) | (_, Err(missing)) => {
            skip(missing);
            return Ok(());
        }
    };
    let worker = launch(Path::new(PROGRAM), &server.url());
    let worker = server.env().into_iter().fold(worker, |worker, (name, value)| worker.env(name, value));
    let worker = variables.iter().fold(worker, |worker, (name, value)| worker.env(name, value));
    let worker = worker.args(["run", "--agent-name", "tone", "--"]).args(program).spawn()?;
    worker.wait_for_line(|line| line.contains("\"registered\""), SOON)?;
    let caller = python.join(&server, "porch", "ann", false)?;
    let dispatch = server.api().create_dispatch("porch", "tone", "", &[])?;
    let line = worker.wait_for_line(|line| line.contains("playing in porch"), SOON)?.text;
    assert!(line.contains("\"job_id\":\"AJ_") && line.contains("\"room\":\"porch\""), "{line}");
    caller.child().wait_for_line(|line| line.starts_with("event published agent-AJ_"), SOON)?;

    worker.signal(Signal::SIGTERM)?;
    worker.wait_for_line(|line| line.contains("draining"), SOON)?;
    assert!(worker.try_wait().is_none(), "left its caller");
    server.api().delete_dispatch("porch", &dispatch.id)?;
    caller.child().wait_for_line(|line| line.starts_with("event disconnected agent-AJ_"), SOON)?;
    let exit = worker.wait(SOON).context("the worker leaves")?;
    assert_eq!(exit.code, Some(0), "{}", worker.output());
    let last = worker.lines().last().map(|line| line.text.clone()).unwrap_or_default();
    assert!(last.contains("\"succeeded\":1") && last.contains("\"failed\":0"), "{last}");
    Ok(())
}
