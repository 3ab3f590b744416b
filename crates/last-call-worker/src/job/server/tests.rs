//! What a job asks of a server: what goes over the wire and with which grants, what the real server says to it, and what is
//! said where keys are missing.

use last_call_testkit::LiveKit;
use livekit_token::{Claims, TokenVerifier};
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::{Given, JobInfo};
use super::*;
use crate::jobs::Jobs;
use crate::otel::JobTrace;
use crate::secret::Secret;
use crate::socket::Endpoint;
use crate::token::Keys;

const SECRET: &str = "secret-secret-secret-secret-secret";

/// A job in the room "lobby".
fn job(api: Option<JobApi>) -> JobContext {
    let room = livekit::Room { name: "lobby".to_owned(), ..Default::default() };
    let info = Arc::new(JobInfo::from(livekit::Job { room: Some(room), ..Default::default() }));
    let given = Given {
        identity: "agent".to_owned(),
        url: String::new(),
        token: Secret::from(String::new()),
        worker_id: String::new(),
        state: None,
        api,
    };
    let (phase, events) = (watch::channel(Default::default()).1, mpsc::unbounded_channel().0);
    let trace = JobTrace::continued(&info, "");
    JobContext::new(info, given, trace, phase, events, Jobs::default())
}

fn job_at(url: &str, keys: Keys) -> JobContext {
    let endpoint = Endpoint::parse(url, false).expect("a URL");
    job(Some(Api::new(Dialler::new(endpoint), keys).into()))
}

/// What a server was asked.
struct Asked {
    path: String,
    claims: Claims,
    body: Vec<u8>,
}

/// A server that answers one call with this status and body.
async fn answers(status: u16, body: impl Into<Vec<u8>>) -> (JobContext, oneshot::Receiver<Asked>) {
    let body = body.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let (tell, asked) = oneshot::channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a call");
        let mut socket = BufReader::new(socket);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_until(b'\n', &mut head).await.expect("a head");
        }
        let head = String::from_utf8(head).expect("text");
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).expect(name).1.to_owned()
        };
        let mut sent = vec![0; header("content-length").parse().expect("a length")];
        socket.read_exact(&mut sent).await.expect("a body");
        let token = header("authorization").replace("Bearer ", "");
        let claims = TokenVerifier::with_api_key("key", SECRET).verify(&token).expect("a token");
        let path = head.split(' ').nth(1).expect("a path").to_owned();
        let answer = format!("HTTP/1.1 {status} Fine\r\nContent-Length: {}\r\n\r\n", body.len());
        socket.write_all(&[answer.as_bytes(), &body].concat()).await.expect("heard");
        assert!(tell.send(Asked { path, claims, body: sent }).is_ok(), "somebody looks");
    });
    (job_at(&url, Keys::new("key", SECRET)), asked)
}

#[tokio::test]
async fn a_call_goes_out_from_the_jobs_room_with_the_grant_for_calls() {
    let called = livekit::SipParticipantInfo { sip_call_id: "SCL_1".to_owned(), ..Default::default() };
    for (name, shown) in [(None, "SIP-participant"), (Some("Ann"), "Ann")] {
        let (job, asked) = answers(200, called.encode_to_vec()).await;
        let info = job.add_sip_participant("+4930", "ST_1", "ann", name).await.expect("called");
        assert_eq!(info, called);
        let Asked { path, claims, body } = asked.await.expect("asked");
        assert_eq!(path, "/twirp/livekit.SIP/CreateSIPParticipant");
        assert!(claims.sip.call && !claims.sip.admin);
        assert_eq!(claims.video, livekit_token::VideoGrants::default(), "nothing but calls");
        let wanted = livekit::CreateSipParticipantRequest {
            sip_trunk_id: "ST_1".to_owned(),
            sip_call_to: "+4930".to_owned(),
            room_name: "lobby".to_owned(),
            participant_identity: "ann".to_owned(),
            participant_name: shown.to_owned(),
            ..Default::default()
        };
        let said = livekit::CreateSipParticipantRequest::decode(&*body).expect("a request");
        assert_eq!(said, wanted);
    }
}

#[tokio::test]
async fn a_transfer_needs_the_grants_for_calls_and_for_the_room() {
    for play_dialtone in [false, true] {
        let (job, asked) = answers(200, "").await;
        job.transfer_sip_participant("ann", "sip:desk@example.com", play_dialtone).await.expect("handed on");
        let Asked { path, claims, body } = asked.await.expect("asked");
        assert_eq!(path, "/twirp/livekit.SIP/TransferSIPParticipant");
        assert!(claims.sip.call && !claims.sip.admin);
        assert!(claims.video.room_admin && claims.video.room == "lobby");
        let wanted = livekit::TransferSipParticipantRequest {
            participant_identity: "ann".to_owned(),
            room_name: "lobby".to_owned(),
            transfer_to: "sip:desk@example.com".to_owned(),
            play_dialtone,
            ..Default::default()
        };
        let said = livekit::TransferSipParticipantRequest::decode(&*body).expect("a request");
        assert_eq!(said, wanted);
    }
}

#[tokio::test]
async fn a_room_that_is_gone_is_deleted_and_any_other_refusal_is_one() {
    for (status, done) in [(200, true), (404, true), (403, false), (503, false)] {
        let (job, asked) = answers(status, "").await;
        assert_eq!(job.delete_room().await.is_ok(), done, "{status}");
        let Asked { path, claims, body } = asked.await.expect("asked");
        assert_eq!(path, "/twirp/livekit.RoomService/DeleteRoom");
        assert!(claims.video.room_create);
        let said = livekit::DeleteRoomRequest::decode(&*body).expect("a request");
        assert_eq!(said.room, "lobby");
    }
}

/// It has no SIP service and says so, which it does only behind the grants.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_server_takes_the_grants_of_sip() {
    let Some(server) = LiveKit::or_skip().expect("livekit-server") else { return };
    let job = job_at(&server.url(), Keys::new(server.key(), server.secret()));
    let api = job.api().expect("keys");
    let request = livekit::CreateSipParticipantRequest::default();
    let none = crate::api::VideoGrants::default();
    let refused = api.call::<livekit::SipParticipantInfo>("SIP/CreateSIPParticipant", none, &request).await;
    assert!(matches!(refused, Err(ApiError::Unauthorized { .. })), "{refused:?}");
    let called = job.add_sip_participant("+4930", "ST_1", "ann", None).await.expect_err("no SIP");
    let handed_on = job.transfer_sip_participant("ann", "+4930", false).await.expect_err("no SIP");
    for error in [called, handed_on] {
        assert!(matches!(error, ApiError::Refused { .. }), "{error}");
    }
    api.create_room("lobby").await.expect("made");
    job.delete_room().await.expect("deleted");
    job.delete_room().await.expect("it is gone already");
}

#[tokio::test]
async fn a_job_without_keys_says_which_are_missing() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), SECRET).expect("written");
    let options = ServerOptions {
        url: "ws://localhost:7880".to_owned(),
        api_key: String::new(),
        api_secret_file: Some(file.path().to_owned()),
        insecure_ws: false,
    };
    for (options, advice) in [
        (options.clone(), "LIVEKIT_API_KEY"),
        (ServerOptions { api_secret_file: Some("/nowhere".into()), ..options.clone() }, "/nowhere"),
        (ServerOptions { url: "ws://example.com".to_owned(), ..options.clone() }, "example.com"),
    ] {
        let job = job(Some(JobApi::of(options)));
        let error = job.delete_room().await.expect_err("no keys");
        assert!(matches!(error, ApiError::Unavailable(_)) && error.is_refusal(), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(advice) && !text.contains(SECRET), "{text}");
    }
    assert!(job(None).api().is_err());
    let whole = ServerOptions { api_key: "key".to_owned(), ..options };
    assert!(job(Some(JobApi::of(whole))).api().is_ok());
}
