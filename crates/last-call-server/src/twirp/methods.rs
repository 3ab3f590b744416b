//! The methods of `livekit.AgentDispatchService` and `livekit.RoomService`, and the grant that each needs.
//!
//! Owns the table. Refuses methods that need media, by name, so that nobody looks for a spelling mistake.

use livekit_protocol as livekit;

use super::{Call, Code, Problem};
use crate::shared::Shared;

/// Methods of livekit-server that are not here.
const MEDIA: &[&str] = &[
    "RoomService/MutePublishedTrack",
    "RoomService/UpdateParticipant",
    "RoomService/UpdateSubscriptions",
    "RoomService/SendData",
    "RoomService/UpdateRoomMetadata",
    "RoomService/ForwardParticipant",
    "RoomService/MoveParticipant",
    "RoomService/PerformRpc",
];

/// Answers the request for `path`.
pub(super) fn answer(shared: &Shared, path: &str, call: &Call) -> Result<Vec<u8>, Problem> {
    let method = path.strip_prefix("/twirp/livekit.").unwrap_or_default();
    match method.split_once('/') {
        Some(("AgentDispatchService", name)) => dispatches(shared, name, call),
        Some(("RoomService", name)) => rooms(shared, name, call),
        Some(_) | None => None,
    }
    .unwrap_or_else(|| {
        Err(if MEDIA.contains(&method) {
            Problem::new(
                Code::Unimplemented,
                format!("{method} needs rooms with media, which this server lacks"),
            )
        } else {
            Problem::new(Code::BadRoute, format!("no handler for path {path:?}"))
        })
    })
}

fn dispatches(shared: &Shared, name: &str, call: &Call) -> Option<Result<Vec<u8>, Problem>> {
    Some(match name {
        "CreateDispatch" => call.answer(
            |grants, request: &livekit::CreateAgentDispatchRequest| grants.admin(&request.room),
            |request| shared.hub(|hub| hub.create_dispatch(request)),
        ),
        "ListDispatch" => call.answer(
            |grants, request: &livekit::ListAgentDispatchRequest| grants.admin(&request.room),
            |request| shared.hub(|hub| hub.list_dispatch(&request)),
        ),
        "DeleteDispatch" => call.answer(
            |grants, request: &livekit::DeleteAgentDispatchRequest| grants.admin(&request.room),
            |request| shared.hub(|hub| hub.delete_dispatch(&request)),
        ),
        _ => return None,
    })
}

fn rooms(shared: &Shared, name: &str, call: &Call) -> Option<Result<Vec<u8>, Problem>> {
    Some(match name {
        "CreateRoom" => call.answer(
            |grants, _: &livekit::CreateRoomRequest| grants.create(),
            |request| shared.hub(|hub| hub.create_room(request)),
        ),
        "ListRooms" => call.answer(
            |grants, _: &livekit::ListRoomsRequest| grants.list(),
            |request| Ok(shared.hub(|hub| hub.list_rooms(&request))),
        ),
        "DeleteRoom" => call.answer(
            |grants, _: &livekit::DeleteRoomRequest| grants.create(),
            |request| shared.hub(|hub| hub.delete_room(&request.room)),
        ),
        "ListParticipants" => call.answer(
            |grants, request: &livekit::ListParticipantsRequest| grants.admin(&request.room),
            |request| Ok(shared.hub(|hub| hub.list_participants(&request.room))),
        ),
        "GetParticipant" => call.answer(
            |grants, request: &livekit::RoomParticipantIdentity| grants.admin(&request.room),
            |request| shared.hub(|hub| hub.get_participant(&request)),
        ),
        "RemoveParticipant" => call.answer(
            |grants, request: &livekit::RoomParticipantIdentity| grants.admin(&request.room),
            |request| shared.hub(|hub| hub.remove_participant(&request)),
        ),
        _ => return None,
    })
}
