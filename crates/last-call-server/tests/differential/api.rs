//! The errors of Twirp: the same status and code from both servers, whatever is wrong.

use last_call_testkit::proto;
use livekit_token::VideoGrants;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::target::{Target, on_both};

/// A request, and what it must come to.
struct Case {
    method: &'static str,
    content: &'static str,
    body: Vec<u8>,
    grants: VideoGrants,
    status: u16,
    code: &'static str,
}

fn json(method: &'static str, body: &str, grants: VideoGrants, status: u16, code: &'static str) -> Case {
    Case { method, content: "application/json", body: body.into(), grants, status, code }
}

fn admin(room: &str) -> VideoGrants {
    VideoGrants { room_admin: true, room: room.into(), ..Default::default() }
}

fn creator() -> VideoGrants {
    VideoGrants { room_create: true, room_list: true, ..Default::default() }
}

/// The status and the Twirp code of a POST, over a connection of its own.
async fn post(target: &Target, case: &Case) -> (u16, String) {
    let token = target.token(case.grants.clone());
    let mut stream = TcpStream::connect(&target.authority).await.expect("a connection");
    let head = format!(
        "POST /twirp/livekit.{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: {}\r\nContent-Length: {}\r\n\r\n",
        case.method,
        case.content,
        case.body.len(),
    );
    stream.write_all(&[head.as_bytes(), &case.body].concat()).await.expect("a request");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.expect("a response");
    let response = String::from_utf8_lossy(&response).into_owned();
    let status = response.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    let body = response.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let body = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn errors_have_the_same_status_and_code() {
    on_both(|target| async move {
        let create = "AgentDispatchService/CreateDispatch";
        let by_protobuf = proto::CreateRoomRequest { name: "made".into(), ..Default::default() };
        let protobuf = |body: Vec<u8>, status, code| Case {
            method: "RoomService/CreateRoom",
            content: "application/protobuf",
            body,
            grants: creator(),
            status,
            code,
        };
        for case in [
            protobuf(by_protobuf.encode_to_vec(), 200, ""),
            protobuf(vec![0xff], 400, "malformed"),
            json("RoomService/ListRooms", "{}", creator(), 200, ""),
            json("RoomService/ListRooms", "{}", admin("r"), 401, "unauthenticated"),
            json("RoomService/ListRooms", "{", creator(), 400, "malformed"),
            json("RoomService/ListRooms", r#"{"unknown": 1}"#, creator(), 200, ""),
            json("RoomService/NoSuchMethod", "{}", creator(), 404, "bad_route"),
            json("RoomService/DeleteRoom", r#"{"room": "nowhere"}"#, creator(), 404, "not_found"),
            json("RoomService/ListParticipants", r#"{"room": "nowhere"}"#, admin("nowhere"), 200, ""),
            json(
                "RoomService/GetParticipant",
                r#"{"room": "r", "identity": "x"}"#,
                admin("r"),
                404,
                "not_found",
            ),
            json(
                "RoomService/RemoveParticipant",
                r#"{"room": "r", "identity": "x"}"#,
                admin("r"),
                404,
                "not_found",
            ),
            json(create, r#"{"room": "r", "agent_name": "a"}"#, admin("r"), 200, ""),
            json(create, r#"{"room": "r", "agentName": "a"}"#, admin("r"), 200, ""),
            json(create, r#"{"room": "r"}"#, admin("another"), 401, "unauthenticated"),
            json(create, r#"{"room": "r"}"#, creator(), 401, "unauthenticated"),
            json(create, r#"{"room": "r", "deployment": "a_b"}"#, admin("r"), 400, "invalid_argument"),
            json("AgentDispatchService/ListDispatch", r#"{"room": "made"}"#, admin("made"), 200, ""),
            json("AgentDispatchService/ListDispatch", r#"{"room": "x"}"#, admin("x"), 503, "unavailable"),
            json(
                "AgentDispatchService/DeleteDispatch",
                r#"{"room": "made", "dispatchId": "AD_x"}"#,
                admin("made"),
                404,
                "not_found",
            ),
            Case {
                content: "text/plain",
                ..json("RoomService/ListRooms", "{}", creator(), 404, "bad_route")
            },
        ] {
            let said = post(&target, &case).await;
            let text = String::from_utf8_lossy(&case.body);
            assert_eq!(said, (case.status, case.code.to_owned()), "{}: {} {text}", target.name, case.method);
        }
    });
}
