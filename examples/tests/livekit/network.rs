//! The network fails between worker and server: reset, silent both ways, silent one way; and heals.
//!
//! Owns each failure with a call running. Refuses delay and reordering, which a relay does without root.

use std::time::{Duration, Instant};

use anyhow::Result;
use last_call_testkit::{LiveKit, Netns, skip};

use crate::scene::{Probe, dispatch, eventually, lost, probe};
use crate::server_log::{self, CLOSING};

/// REG-2 promises 10 s; a machine that does three things at once may take longer.
const FOUND_WITHIN: Duration = Duration::from_secs(30);

/// A server and a worker at the two ends of a cable, and one call that lasts longer than the failure is
/// unnoticed.
struct Scene {
    // Dropped in this order: the cable last.
    probe: Probe,
    server: LiveKit,
    net: Netns,
}

fn scene() -> Result<Option<Scene>> {
    if let Err(missing) = LiveKit::binary().and_then(|_| Netns::possible()) {
        skip(missing);
        return Ok(None);
    }
    let net = Netns::pair()?;
    let server = LiveKit::start_in(&net)?;
    let probe = probe(&server, "bar")?.with(|launch| launch.arg("--insecure-ws").in_netns(net.client()));
    let probe = probe.start()?;
    dispatch(&server, "bar", "before", 1, r#"{"sleep":20}"#)?;
    probe.wait(1, "started")?;
    Ok(Some(Scene { probe, server, net }))
}

/// Fails the network by `fail`, and waits until the worker knows; how long that took.
fn until_found(scene: &Scene, fail: impl Fn(&Netns) -> Result<()>) -> Result<Duration> {
    let mark = scene.probe.child().mark();
    let failed = Instant::now();
    fail(&scene.net)?;
    let found = scene.probe.said_after(mark, "connection lost")?;
    Ok(found.at - failed)
}

/// Heals the network; how long it took until the worker is back, and until the server has let go of its
/// half of the old connection.
fn heal(scene: &Scene) -> Result<(Duration, Duration)> {
    let mark = scene.probe.child().mark();
    let healed = Instant::now();
    scene.net.heal()?;
    let back = scene.probe.said_after(mark, "registered")?.at - healed;
    eventually("the server closes the old worker", || {
        Ok((!server_log::said_of(&scene.server, "bar", CLOSING).is_empty()).then_some(()))
    })?;
    Ok((back, healed.elapsed()))
}

fn survives(name: &str, fail: impl Fn(&Netns) -> Result<()>) -> Result<()> {
    let Some(scene) = scene()? else { return Ok(()) };
    let found = until_found(&scene, fail)?;
    let (back, let_go) = heal(&scene)?;
    println!("{name}: found after {found:.2?}, back {back:.2?} after healing, the server's half gone after {let_go:.2?}");
    assert!(found <= FOUND_WITHIN, "{name} found after {found:.1?}");
    let rooms = dispatch(&scene.server, "bar", "after", 5, "{}")?;
    assert_eq!(lost(&scene.server, &rooms, &[&scene.probe])?, [""; 0]);
    scene.probe.wait(6, "finished")?;
    scene.probe.drain()?;
    assert_eq!(scene.probe.ended()?.code, Some(0));
    assert_eq!(scene.probe.count("started")?, 6);
    Ok(())
}

#[test]
fn reg_2_a_reset_costs_no_call() -> Result<()> {
    survives("reset", Netns::reset_to_server)
}

#[test]
fn reg_2_silence_both_ways_is_found_and_costs_no_call() -> Result<()> {
    survives("silence both ways", Netns::cut)
}

#[test]
fn reg_2_silence_to_the_server_is_found_and_costs_no_call() -> Result<()> {
    survives("silence to the server", Netns::cut_to_server)
}

#[test]
fn reg_2_silence_to_the_worker_is_found_and_costs_no_call() -> Result<()> {
    survives("silence to the worker", Netns::cut_to_client)
}

#[test]
fn drain_5_a_drain_behind_a_cut_cable_ends_with_its_call() -> Result<()> {
    let Some(scene) = scene()? else { return Ok(()) };
    until_found(&scene, |net| net.cut().and_then(|()| scene.probe.drain()))?;
    assert_eq!(scene.probe.ended()?.code, Some(0));
    assert_eq!((scene.probe.count("started")?, scene.probe.count("finished")?), (1, 1));
    Ok(())
}

#[test]
fn reg_1_a_drain_that_the_server_missed_is_told_after_healing() -> Result<()> {
    let Some(scene) = scene()? else { return Ok(()) };
    until_found(&scene, |net| net.cut().and_then(|()| scene.probe.drain()))?;
    let mark = scene.probe.child().mark();
    scene.net.heal()?;
    scene.probe.said_after(mark, "registered")?;
    let full = server_log::wait_full(&scene.server, "bar")?;
    let first = &server_log::said_of(&scene.server, "bar", server_log::REGISTERED)[0];
    assert_ne!(full["workerID"], first["workerID"], "the old connection said it");
    dispatch(&scene.server, "bar", "after", 5, "{}")?;
    assert_eq!(scene.probe.ended()?.code, Some(0));
    assert_eq!((scene.probe.count("started")?, scene.probe.count("finished")?), (1, 1));
    Ok(())
}
