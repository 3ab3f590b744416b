//! Webhooks: signed, in order, again after a failure, and read by the official SDK.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Python, skip};
use serde_json::{Value, json};

use crate::running::{KEY, PATIENCE, Running, SECRET, Worker};

/// Receives webhooks, of which it refuses the first.
struct Receiver {
    url: String,
    received: mpsc::Receiver<Value>,
    _runtime: tokio::runtime::Runtime,
}

type Shared = (Arc<AtomicBool>, mpsc::Sender<Value>);

async fn receive(State((refuses, sender)): State<Shared>, headers: HeaderMap, body: String) -> StatusCode {
    if refuses.swap(false, Ordering::Relaxed) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(header("content-type"), "application/webhook+json");
    sender.send(json!({"authorization": header("authorization"), "body": body})).expect("the test waits");
    StatusCode::OK
}

impl Receiver {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (sender, received) = mpsc::channel();
        let router = Router::new().route("/hook", post(receive)).with_state((Arc::new(true.into()), sender));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        runtime.spawn(async { axum::serve(listener, router).await });
        Self { url, received, _runtime: runtime }
    }

    fn next(&self) -> Value {
        self.received.recv_timeout(PATIENCE).expect("a webhook")
    }
}

#[test]
fn a_calls_webhooks_arrive_in_order_and_are_signed() {
    let receiver = Receiver::start();
    let server = Running::start(|config| config.webhooks.push(receiver.url.clone()));
    let mut worker = Worker::start(&server, "a");
    let api = server.api();
    api.create_dispatch("room", "a", "", &[]).expect("a dispatch");
    let job = worker.take("agent-1").job.expect("a job");
    worker.report(&job.id, JobStatus::JsSuccess, "");
    let webhooks: Vec<Value> = (0..3).map(|_| receiver.next()).collect();
    let body = |webhook: &Value| -> Value {
        serde_json::from_str(webhook["body"].as_str().expect("a body")).expect("JSON")
    };
    let names = ["room_started", "participant_joined", "participant_left"];
    for (webhook, name) in webhooks.iter().zip(names) {
        let body = body(webhook);
        assert_eq!((body["event"].as_str(), body["room"]["name"].as_str()), (Some(name), Some("room")));
    }
    assert_eq!(body(&webhooks[2])["participant"]["disconnectReason"], "CLIENT_INITIATED");
    assert_eq!(body(&webhooks[1])["participant"]["kind"], "AGENT");
    // The room is finished from outside.
    crate::bounds::post(
        &server,
        "RoomService/DeleteRoom",
        &last_call_testkit::proto::DeleteRoomRequest { room: "room".into() },
    );
    let finished = receiver.next();
    assert_eq!(body(&finished)["event"], "room_finished");
    official_receiver_agrees(webhooks.into_iter().chain([finished]));
}

fn official_receiver_agrees(webhooks: impl Iterator<Item = Value>) {
    let python = match Python::find() {
        Ok(python) => python,
        Err(missing) => return skip(missing),
    };
    let launch = python.source(include_str!("../../../../testkit/python/webhook.py")).stdin();
    let launch = launch.env("LIVEKIT_API_KEY", KEY).env("LIVEKIT_API_SECRET", SECRET);
    let mut child = launch.spawn().expect("it starts");
    for webhook in webhooks {
        child.write_stdin(format!("{webhook}\n").as_bytes()).expect("it reads");
    }
    child.close_stdin();
    let exit = child.wait(PATIENCE).expect("it ends");
    let said = child.lines().into_iter().map(|line| line.text).collect::<Vec<_>>();
    let expected = ["room_started", "participant_joined", "participant_left", "room_finished"];
    assert_eq!(said, expected, "{exit:?}");
}
