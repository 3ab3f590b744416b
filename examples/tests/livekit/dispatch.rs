//! Every way in which the real server makes a job, and what arrives with it.
//!
//! Owns the comparison of what was asked for with what the job was given. Refuses the drain: these workers
//! only serve.

use anyhow::{Context, Result};
use last_call_testkit::{LiveKit, Participant, Python, proto, skip};
use serde_json::{Value, json};

use crate::scene::{Probe, dispatch, eventually, lost, probe};

const TELL: &str = r#"{"tell":true,"sleep":30}"#;

fn python() -> Option<Python> {
    Python::find().map_err(skip).ok()
}

/// What the job in `room` was given.
fn told(probe: &Probe, room: &str) -> Result<Value> {
    eventually(&format!("a job in {room}"), || Ok(probe.told()?.remove(room)))
}

#[test]
fn job_1_a_dispatch_by_python_or_by_http_reaches_its_job_whole() -> Result<()> {
    let (Some(server), Some(python)) = (LiveKit::or_skip()?, python()) else { return Ok(()) };
    let probe = probe(&server, "bar")?.start()?;

    let by_python = python.dispatch(&server, "by-python", "bar", TELL)?;
    let job = told(&probe, "by-python")?;
    assert_eq!((&job["dispatch"], &job["metadata"]), (&by_python["id"], &json!(TELL)));

    let attributes = [("table", "7"), ("language", "de")];
    let by_http = server.api().create_dispatch("by-http", "bar", TELL, &attributes)?;
    let job = told(&probe, "by-http")?;
    assert_eq!(job["dispatch"], by_http.id);
    assert_eq!(job["attributes"], json!({"table": "7", "language": "de"}));
    assert_eq!(job["type"], "JT_ROOM");
    assert_eq!(job["participant"], Value::Null);
    assert_eq!((&job["agent_name"], &job["deployment"]), (&json!("bar"), &json!("")));
    assert_eq!(job["url"], server.url());
    assert!(job["worker"].as_str().is_some_and(|worker| worker.starts_with("AW_")), "{}", job["worker"]);
    assert_eq!(job["identity"], format!("agent-{}", job["job"].as_str().context("no job id")?));
    Ok(())
}

#[test]
fn job_1_an_unnamed_worker_gets_a_job_for_every_new_room() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let probe = probe(&server, "")?.start()?;
    server.api().create_room("snug")?;
    server.api().create_room("lounge")?;
    assert_eq!(lost(&server, &["snug".to_owned(), "lounge".to_owned()], &[&probe])?, [""; 0]);
    assert_eq!(probe.count("started")?, 2);
    Ok(())
}

#[test]
fn job_1_only_dispatches_for_its_deployment_reach_a_worker() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let plain = probe(&server, "bar")?.start()?;
    let blue = probe(&server, "bar")?.with(|launch| launch.args(["--deployment", "blue"])).start()?;
    for number in 0..3 {
        server.api().dispatch(&proto::CreateAgentDispatchRequest {
            agent_name: "bar".to_owned(),
            room: format!("blue-{number}"),
            metadata: TELL.to_owned(),
            deployment: "blue".to_owned(),
            ..Default::default()
        })?;
    }
    dispatch(&server, "bar", "plain", 3, TELL)?;
    for (probe, name, deployment) in [(&plain, "plain", ""), (&blue, "blue", "blue")] {
        probe.wait(3, "started")?;
        for (room, job) in probe.told()? {
            assert!(room.starts_with(name), "{room} came to {name}");
            assert_eq!(job["deployment"], deployment);
        }
    }
    Ok(())
}

#[test]
fn job_1_publisher_and_participant_jobs_name_their_participant() -> Result<()> {
    let (Some(server), Some(python)) = (LiveKit::or_skip()?, python()) else { return Ok(()) };
    let publishers =
        probe(&server, "ears")?.with(|launch| launch.env("PROBE_JOB_TYPE", "publisher")).start()?;
    let everyone =
        probe(&server, "door")?.with(|launch| launch.env("PROBE_JOB_TYPE", "participant")).start()?;
    for agent in ["ears", "door"] {
        server.api().create_dispatch("stage", agent, TELL, &[])?;
    }
    let _quiet = python.join(&server, "stage", "listener", false)?;
    // One told of a room is enough: the quiet one was there first, and no publisher's job is hers.
    let job = told(&everyone, "stage")?;
    assert_eq!((&job["participant"], &job["type"]), (&json!("listener"), &json!("JT_PARTICIPANT")));
    let _loud = python.join(&server, "stage", "singer", true)?;
    let job = told(&publishers, "stage")?;
    assert_eq!((&job["participant"], &job["type"]), (&json!("singer"), &json!("JT_PUBLISHER")));
    everyone.wait(2, "started")?;
    assert_eq!(publishers.count("started")?, 1);
    Ok(())
}

/// Enters the room of a job as its agent would, and says how everyone else sees it.
fn enter(server: &LiveKit, python: &Python, job: &Value) -> Result<(Participant, proto::ParticipantInfo)> {
    let (token, room) =
        (job["token"].as_str().context("no token")?, job["room"].as_str().context("no room")?);
    let agent = python.join_with(&server.url(), token, false)?;
    let everyone = server.api().list_participants(room)?;
    let seen = everyone.into_iter().find(|one| job["identity"] == one.identity);
    Ok((agent, seen.context("the agent is not in its room")?))
}

#[test]
fn job_1_the_agent_enters_its_room_as_it_was_accepted() -> Result<()> {
    let (Some(server), Some(python)) = (LiveKit::or_skip()?, python()) else { return Ok(()) };
    let speaker = probe(&server, "speaker")?.start()?;
    let listener = probe(&server, "listener")?.with(|launch| launch.env("PROBE_LISTENER", "1")).start()?;
    let accept =
        json!({"identity": "host", "name": "Hospes", "metadata": "wine", "attributes": {"table": "7"}});
    let orders = json!({"tell": true, "sleep": 60, "accept": accept}).to_string();
    server.api().create_dispatch("dining", "speaker", &orders, &[])?;
    server.api().create_dispatch("cellar", "listener", TELL, &[])?;

    let (_agent, seen) = enter(&server, &python, &told(&speaker, "dining")?)?;
    assert_eq!(
        (seen.identity.as_str(), seen.name.as_str(), seen.metadata.as_str()),
        ("host", "Hospes", "wine")
    );
    assert_eq!(seen.attributes.get("table").map(String::as_str), Some("7"));
    assert_eq!(seen.kind(), proto::participant_info::Kind::Agent);
    let may = seen.permission.context("no permission")?;
    assert!(
        may.can_publish && may.can_subscribe && may.can_publish_data && may.can_update_metadata,
        "{may:?}"
    );
    assert!(!may.hidden);

    let (_agent, seen) = enter(&server, &python, &told(&listener, "cellar")?)?;
    let may = seen.permission.context("no permission")?;
    assert!(may.hidden && !may.can_publish && may.can_subscribe, "{may:?}");
    Ok(())
}
