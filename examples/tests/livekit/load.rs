//! The load on the real server's scale.
//!
//! Owns points on both sides of the threshold. Refuses the arithmetic, which the core's tests walk whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use last_call_testkit::proto::{WorkerMessage, WorkerStatus, worker_message::Message as FromWorker};
use last_call_testkit::{Direction, Frame, LiveKit, Relay, Verdict};
use prost::Message;

use crate::scene::{Probe, dispatch, eventually, lost, probe};
use crate::server_log::{self, GIVEN_UP};

/// The statuses of each worker, by its agent's name, as they went over the wire.
#[derive(Clone, Default)]
struct Statuses(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: BTreeMap<u64, String>,
    said: BTreeMap<String, Vec<(WorkerStatus, f32)>>,
}

impl Statuses {
    fn read(&self, frame: &Frame) -> Verdict {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let message = (frame.direction == Direction::ToServer && frame.opcode == 2)
            .then(|| WorkerMessage::decode(frame.payload.clone()).ok()?.message);
        match message.flatten() {
            Some(FromWorker::Register(register)) => {
                state.names.insert(frame.connection, register.agent_name);
            }
            Some(FromWorker::UpdateWorker(update)) => {
                let name = state.names.get(&frame.connection).cloned().unwrap_or_default();
                state.said.entry(name).or_default().push((update.status(), update.load));
            }
            _ => {}
        }
        Verdict::Pass
    }

    /// The last status, once the measured load has been in two, so that the server has taken the first.
    fn settled(&self, agent: &str) -> Result<(WorkerStatus, f32)> {
        eventually(&format!("two reports of {agent}'s load"), || {
            let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let said = state.said.get(agent).map_or(&[][..], Vec::as_slice);
            Ok(match said {
                [.., before, last] if before == last && last.1 > 0.0 => Some(*last),
                _ => None,
            })
        })
    }
}

fn loaded(
    server: &LiveKit,
    relay: &Relay,
    agent: &str,
    load: f64,
    threshold: f64,
) -> Result<crate::scene::Setup> {
    let change = |launch: last_call_testkit::Launch| {
        let launch = launch.env("PROBE_LOAD", load.to_string()).env("LIVEKIT_URL", relay.url());
        launch.args(["--load-threshold", &threshold.to_string()])
    };
    Ok(probe(server, agent)?.with(change))
}

#[test]
fn job_4_whoever_says_available_is_given_the_call() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let statuses = Statuses::default();
    let reader = statuses.clone();
    let relay = Relay::scripted(server.address(), move |frame| reader.read(frame))?;
    let points = [
        (0.099, 0.1, true),
        (0.1, 0.1, false),
        (0.29, 0.3, true),
        (0.49, 0.5, true),
        (0.69, 0.7, true),
        (0.7, 0.7, false),
        (0.71, 0.7, false),
        (0.849, 0.85, true),
        (0.98, 0.99, true),
        (1.0, 0.99, false),
    ];
    let agent = |load: f64, threshold: f64| format!("load-{load}-of-{threshold}");
    let mut workers: Vec<(String, bool, Probe)> = Vec::new();
    for (load, threshold, available) in points {
        let name = agent(load, threshold);
        let worker = loaded(&server, &relay, &name, load, threshold)?.start()?;
        workers.push((name, available, worker));
    }
    for (name, available, worker) in &workers {
        let (status, load) = statuses.settled(name)?;
        assert_eq!(status == WorkerStatus::WsAvailable, *available, "{name} said {status:?} with {load}");
        let rooms = dispatch(&server, name, name, 1, "{}")?;
        if *available {
            assert!(load < 0.7, "{name} is available with {load}");
            assert_eq!(lost(&server, &rooms, &[worker])?, [""; 0], "{name} said {load}");
        } else {
            server_log::wait_for(&server, name, GIVEN_UP, 1)?;
            assert_eq!(worker.count("started")?, 0);
        }
    }
    Ok(())
}

/// The control: a worker that is told a wrong target is available and gets nothing, so a served dispatch
/// above does show that the load is on the server's scale.
#[test]
fn job_4_the_server_gives_nothing_to_a_load_over_its_target() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let statuses = Statuses::default();
    let reader = statuses.clone();
    let relay = Relay::scripted(server.address(), move |frame| reader.read(frame))?;
    let worker = loaded(&server, &relay, "misled", 0.8, 0.95)?;
    let worker = worker.with(|launch| launch.args(["--server-target-load", "1"])).start()?;
    let (status, load) = statuses.settled("misled")?;
    assert!(status == WorkerStatus::WsAvailable && load > 0.7, "{status:?} with {load}");
    dispatch(&server, "misled", "call", 1, "{}")?;
    server_log::wait_for(&server, "misled", GIVEN_UP, 1)?;
    assert_eq!(worker.count("started")?, 0);
    Ok(())
}
