//! The calls on the own server and on the real one, and what their errors say.

use last_call_server::{Config, Keys as ServerKeys, Server};
use last_call_testkit::{LiveKit, Stub};

use super::*;
use crate::Endpoint;

const SECRET: &str = "secret-secret-secret-secret-secret";

fn keys() -> Keys {
    Keys::new("key", SECRET)
}

fn api(url: &str, keys: Keys) -> Api {
    Api::new(Dialler::new(Endpoint::parse(url, false).expect("a URL")), keys)
}

fn served() -> String {
    let keys = ServerKeys { key: "key".into(), secret: SECRET.into() };
    let server = Server::bind(Config::new(([127, 0, 0, 1], 0).into(), keys)).expect("a server");
    let url = server.url();
    tokio::spawn(server.run(std::future::pending()));
    url
}

fn wish(room: &str) -> livekit::CreateAgentDispatchRequest {
    livekit::CreateAgentDispatchRequest {
        room: room.to_owned(),
        agent_name: "agent".to_owned(),
        metadata: "about it".to_owned(),
        ..Default::default()
    }
}

/// Each method with the grants that it has.
async fn everything_works(api: &Api) {
    let dispatch = api.create_dispatch(&wish("lobby")).await.expect("dispatched");
    assert!(dispatch.id.starts_with("AD_"), "{dispatch:?}");
    let listed = api.list_dispatches("lobby").await.expect("listed");
    assert!(listed.iter().any(|one| one.id == dispatch.id && one.metadata == "about it"), "{listed:?}");
    assert_eq!(api.list_participants("lobby").await.expect("listed"), []);
    assert!(!api.agent_is_there("lobby", "nobody").await.expect("listed"));
    let error = api.remove_participant("lobby", "nobody").await.expect_err("nobody is there");
    assert!(matches!(error, ApiError::Refused { status: 404, .. }) && error.is_refusal(), "{error}");
    api.delete_dispatch("lobby", &dispatch.id).await.expect("deleted");
    api.create_room("lobby").await.expect("it is there");
    api.delete_room("lobby").await.expect("deleted");
    let error = api.delete_room("lobby").await.expect_err("it is gone");
    assert!(matches!(error, ApiError::Refused { status: 404, .. }), "{error}");
    assert_eq!(api.list_participants("lobby").await.expect("nobody"), []);
}

#[tokio::test]
async fn dispatches_and_rooms_come_and_go() {
    everything_works(&api(&served(), keys())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_server_grants_each_call() {
    let Some(livekit) = LiveKit::or_skip().expect("livekit-server") else { return };
    everything_works(&api(&livekit.url(), Keys::new(livekit.key(), livekit.secret()))).await;
}

#[tokio::test]
async fn an_error_says_what_to_do_and_shows_no_token() {
    let wrong = Keys::new("key", "another-secret-another-secret-another");
    let stub = Stub::auto().expect("a stub");
    stub.close_port().expect("closed");
    for (url, keys, advice, refusal) in [
        (served(), wrong, "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET", true),
        (stub.url(), keys(), "is the server running", false),
    ] {
        let error = api(&url, keys).create_dispatch(&wish("lobby")).await.expect_err("refused");
        let text = format!("{error} {error:?}");
        assert!(text.contains(advice) && text.contains(url.trim_start_matches("ws://")), "{text}");
        // Every token begins so.
        assert!(!text.contains("eyJ") && !text.contains("-secret-"), "{text}");
        assert_eq!(error.is_refusal(), refusal, "{text}");
    }
}
