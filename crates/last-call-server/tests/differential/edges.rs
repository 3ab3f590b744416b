//! What opens and ends a connection, and what comes with an assignment.

use last_call_testkit::proto;
use livekit_token::{TokenVerifier, VideoGrants};
use proto::server_message::Message as Down;
use proto::worker_message::Message as Up;
use proto::{JobStatus, WorkerStatus};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::target::on_both;
use crate::worker::{Manner, Worker, assignment, offer, open, register, status};

#[test]
fn without_the_grant_there_is_no_upgrade() {
    on_both(|target| async move {
        for token in [target.token(VideoGrants { room_list: true, ..Default::default() }), "nonsense".into()]
        {
            let refused = open(&target, &token).await.err();
            let Some(Error::Http(response)) = refused else { panic!("{}: {refused:?}", target.name) };
            assert_eq!(response.status(), 401, "{}", target.name);
        }
    });
}

#[test]
fn what_livekit_does_not_know_closes_the_connection() {
    on_both(|target| async move {
        let invalid = proto::RegisterWorkerRequest { deployment: "a_b".into(), ..Default::default() };
        let unknown_type = proto::RegisterWorkerRequest { r#type: 77, ..Default::default() };
        let frames = |messages: &[Up]| {
            let one = |message: &Up| proto::WorkerMessage { message: Some(message.clone()) };
            let bytes = |message| prost::Message::encode_to_vec(&one(message)).into();
            messages.iter().map(|message| Message::Binary(bytes(message))).collect::<Vec<_>>()
        };
        for fatal in [
            frames(&[status(WorkerStatus::WsAvailable, 0.0)]),
            frames(&[register("a"), register("a")]),
            frames(&[Up::Register(invalid)]),
            frames(&[Up::Register(unknown_type)]),
            vec![Message::Binary(vec![0x42, 0x00].into())],
            vec![Message::Binary(vec![0xff, 0xff].into())],
            vec![Message::Text("nonsense".into())],
        ] {
            let worker = Worker::connect(&target, Manner::Mute).await;
            worker.send_raw(fatal);
            worker.wait_closed().await;
        }
    });
}

#[test]
fn text_frames_are_answered_with_text_frames() {
    on_both(|target| async move {
        let worker = Worker::connect(&target, Manner::Mute).await;
        // Both pass over a field that they do not know.
        worker.send_raw(vec![Message::Text(r#"{"register": {"agentName": "json", "later": 1}}"#.into())]);
        worker.wait(|down| matches!(down, Down::Register(_)).then_some(())).await;
        target.dispatch("room", "json");
        assert_eq!(worker.wait(offer).await.agent_name, "json");
    });
}

#[test]
fn an_assignment_brings_a_token_for_an_hour() {
    on_both(|target| async move {
        let worker = Worker::start(&target, "named", Manner::Accept).await;
        let request = proto::CreateAgentDispatchRequest {
            agent_name: "named".into(),
            room: "room".into(),
            metadata: "wish".into(),
            attributes: [("k".to_owned(), "v".to_owned())].into(),
            ..Default::default()
        };
        let dispatch = target.api(|api| api.dispatch(&request));
        let assigned = worker.wait(assignment).await;
        let job = assigned.job.expect("a job");
        assert_eq!((job.dispatch_id, job.metadata), (dispatch.id, "wish".to_owned()), "{}", target.name);
        assert_eq!((job.agent_name, job.attributes), ("named".to_owned(), request.attributes));
        assert_eq!(assigned.url, None, "{}", target.name);
        let (key, secret) = target.secret();
        let claims = TokenVerifier::with_api_key(key, secret).verify(&assigned.token).expect("a good token");
        assert_eq!(claims.sub, format!("agent-{}", job.id));
        assert_eq!((claims.name.as_str(), claims.metadata.as_str()), ("An Agent", "about it"));
        assert_eq!((claims.kind.as_str(), claims.exp - claims.nbf), ("agent", 3_600), "{}", target.name);
        assert_eq!(claims.attributes["mine"], "yes");
        assert_eq!(claims.attributes["lk.agent_name"], "named");
        let grants = VideoGrants {
            room_join: true,
            agent: true,
            room: "room".into(),
            can_subscribe: Some(true),
            can_publish: Some(true),
            can_publish_data: Some(true),
            can_update_own_metadata: Some(true),
            ..Default::default()
        };
        assert_eq!(claims.video, grants, "{}", target.name);
    });
}

#[test]
fn terminate_ends_the_dispatch_as_a_success() {
    on_both(|target| async move {
        let ends = Worker::start(&target, "a", Manner::Terminate).await;
        let dispatch = target.dispatch("room", "a");
        ends.wait(offer).await;
        let job = target.listed(&dispatch);
        assert_eq!(job.state.expect("a state").status(), JobStatus::JsSuccess, "{}", target.name);
        assert!(ends.assignments().is_empty(), "{}", target.name);
    });
}

#[test]
fn a_deleted_dispatch_ends_its_job() {
    on_both(|target| async move {
        let worker = Worker::start(&target, "a", Manner::Accept).await;
        let dispatch = target.dispatch("room", "a");
        let job = worker.wait(assignment).await.job.expect("a job");
        target.api(|api| api.delete_dispatch("room", &dispatch.id));
        let ended = worker
            .wait(|down| if let Down::Termination(end) = down { Some(end.job_id.clone()) } else { None });
        assert_eq!(ended.await, job.id, "{}", target.name);
    });
}

#[test]
fn agents_without_a_name_come_to_every_room_and_named_ones_where_asked() {
    on_both(|target| async move {
        let automatic = Worker::start(&target, "", Manner::Accept).await;
        let named = Worker::start(&target, "named", Manner::Accept).await;
        target.api(|api| api.create_room("plain"));
        automatic.wait_assigned(&["plain"]).await;
        // A dispatch makes its room, which is a new room like any other.
        target.dispatch("asked", "named");
        named.wait_assigned(&["asked"]).await;
        automatic.wait_assigned(&["plain", "asked"]).await;
    });
}

#[test]
fn a_deployment_is_asked_only_by_name() {
    on_both(|target| async move {
        let plain = Worker::start(&target, "a", Manner::Accept).await;
        let blue = Worker::connect(&target, Manner::Accept).await;
        blue.send([Up::Register(proto::RegisterWorkerRequest {
            agent_name: "a".into(),
            deployment: "blue".into(),
            ..Default::default()
        })]);
        blue.wait(|down| matches!(down, Down::Register(_)).then_some(())).await;
        target.api(|api| {
            api.dispatch(&proto::CreateAgentDispatchRequest {
                agent_name: "a".into(),
                room: "blue".into(),
                deployment: "blue".into(),
                ..Default::default()
            })
        });
        blue.wait_assigned(&["blue"]).await;
        target.dispatch("plain", "a");
        plain.wait_assigned(&["plain"]).await;
        assert_eq!(blue.offers(), ["blue"], "{}", target.name);
    });
}
