//! The event stream: what a page or a demo sees of a call, from the dispatch to the end.

use last_call_server::{BindError, Config, Reply, Rooms, Server, What};
use last_call_testkit::proto::JobStatus;
use livekit_token::TokenVerifier;

use crate::running::{Running, Worker, keys};

#[test]
fn a_call_is_told_in_order() {
    let mut server = Running::start(|_| {});
    let mut worker = Worker::start(&server, "a");
    server.api().create_dispatch("room", "a", "secret-metadata", &[]).expect("a dispatch");
    let job = worker.take("agent-1").job.expect("a job");
    worker.report(&job.id, JobStatus::JsRunning, "");
    worker.report(&job.id, JobStatus::JsFailed, "it broke");
    drop(worker);
    let mut told = Vec::new();
    server.event(|what| {
        let json = serde_json::to_value(what).expect("JSON");
        assert!(!json.to_string().contains("secret-metadata"), "{json}");
        told.push(json["event"].as_str().expect("a name").to_owned());
        if let What::Answered { job: answered, reply, .. } = what {
            assert_eq!((answered, *reply), (&job.id, Reply::Accepted));
        } else if let What::JobEnded { success, error, .. } = what {
            assert_eq!((*success, error.as_str()), (false, "it broke"));
        }
        matches!(what, What::WorkerGone { .. }).then_some(())
    });
    let expected = [
        "worker_registered",
        "room_started",
        // The automatic dispatch, for which nobody is there.
        "dispatch_created",
        "unserved",
        "dispatch_created",
        "offered",
        "answered",
        "assigned",
        "job_running",
        "job_ended",
        "worker_gone",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_dead_workers_jobs_are_orphaned_and_its_agents_gone() {
    let mut server = Running::start(|_| {});
    let mut worker = Worker::start(&server, "a");
    let api = server.api();
    api.create_dispatch("room", "a", "", &[]).expect("a dispatch");
    let job = worker.take("agent-1").job.expect("a job");
    assert_eq!(api.list_participants("room").expect("a list").len(), 1);
    drop(worker);
    let orphan =
        server.event(|what| if let What::JobOrphaned { job, .. } = what { Some(job.clone()) } else { None });
    assert_eq!(orphan, job.id);
    assert!(api.list_participants("room").expect("a list").is_empty());
}

#[test]
fn a_dispatch_deleted_while_it_is_offered_ends_as_it_is_taken() {
    let mut server = Running::start(|_| {});
    let mut worker = Worker::start(&server, "a");
    let api = server.api();
    let dispatch = api.create_dispatch("room", "a", "", &[]).expect("a dispatch");
    api.delete_dispatch("room", &dispatch.id).expect("deleted");
    let job = worker.take("agent-1").job.expect("a job");
    let ended = server.event(|what| {
        if let What::JobEnded { job, success, .. } = what { Some((job.clone(), *success)) } else { None }
    });
    assert_eq!(ended, (job.id, true));
    assert!(api.list_dispatch("room").expect("a list").iter().all(|listed| listed.id != dispatch.id));
}

#[test]
fn an_empty_room_closes_after_its_timeout() {
    let mut server = Running::start(|_| {});
    let request = last_call_testkit::proto::CreateRoomRequest {
        name: "brief".into(),
        empty_timeout: 1,
        ..Default::default()
    };
    crate::bounds::post(&server, "RoomService/CreateRoom", &request);
    let finished =
        server.event(|what| if let What::RoomFinished { room } = what { Some(room.clone()) } else { None });
    assert_eq!(finished, "brief");
    assert!(server.api().list_dispatch("brief").is_err());
}

#[test]
fn assignments_may_lead_to_the_rooms_of_another_server() {
    let other =
        last_call_server::Keys { key: "other".into(), secret: "another-secret-that-signs-the-joins".into() };
    let rooms = Rooms { url: "wss://rooms.example".into(), keys: other.clone() };
    let server = Running::start(|config| config.rooms = Some(rooms));
    let mut worker = Worker::start(&server, "a");
    server.api().create_dispatch("room", "a", "", &[]).expect("a dispatch");
    let assignment = worker.take("agent-1");
    assert_eq!(assignment.url.as_deref(), Some("wss://rooms.example"));
    let claims = TokenVerifier::with_api_key(&other.key, &other.secret).verify(&assignment.token);
    assert_eq!(claims.expect("signed for the other server").sub, "agent-1");
}

#[test]
fn a_port_in_use_is_named() {
    let server = Running::start(|_| {});
    let address = server.authority.parse().expect("an address");
    let refused = Server::bind(Config::new(address, keys())).expect_err("the port is in use");
    assert!(matches!(refused, BindError::Listen { .. }));
    let text = refused.to_string();
    assert!(text.contains(&server.authority) && text.contains("choose another port"), "{text}");
}
