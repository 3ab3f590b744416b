//! What the lists of a room mean for a call whose agent died.
//!
//! Owns that reading, and the request for the call's next dispatch. Refuses a job's status in the list: livekit-server
//! shows it as running for ever.

use std::collections::BTreeSet;

use last_call_proto::Room;
use livekit::participant_info::{Kind, State};
use livekit_protocol as livekit;

use super::call::{ATTRIBUTE, Call, Made, Mark};
use crate::api::{Api, ApiError};

/// A room's participants and dispatches.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) participants: Vec<livekit::ParticipantInfo>,
    pub(super) dispatches: Vec<livekit::AgentDispatch>,
}

/// What was seen in them.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) room: Room,
    /// What there is to say of a room that needs no rescue.
    pub(super) why: &'static str,
    /// The newer dispatch of the call.
    pub(super) newer: Option<String>,
    /// The dispatch to be made again: the dead agent's, or the newer one.
    pub(super) like: Option<livekit::AgentDispatch>,
    /// Dispatches that are there.
    pub(super) dispatches: BTreeSet<String>,
}

/// Lists a room; its dispatches only if somebody waits in it.
pub(super) async fn look(api: &Api, room: &str) -> Result<Listed, ApiError> {
    let participants = match api.list_participants(room).await {
        // No room, nobody in it.
        Err(ApiError::Refused { status: 404, .. }) => Vec::new(),
        listed => listed?,
    };
    if !participants.iter().any(waits) {
        return Ok(Listed { participants, dispatches: Vec::new() });
    }
    Ok(Listed { participants, dispatches: api.list_dispatches(room).await? })
}

/// Whether this is somebody for whom an agent is there.
fn waits(participant: &livekit::ParticipantInfo) -> bool {
    !matches!(participant.kind(), Kind::Agent | Kind::Egress) && participant.state() != State::Disconnected
}

/// Reads the lists. `made` are dispatches of ours; `before` is what was there before a dispatch was tried whose outcome
/// is unknown; `others_here` are agents in this room whose calls are others.
pub(super) fn judge(
    call: &Call,
    listed: Listed,
    made: &Made,
    before: Option<&BTreeSet<String>>,
    others_here: &BTreeSet<String>,
) -> Seen {
    let there = |one: &livekit::AgentDispatch| one.state.as_ref().is_none_or(|state| state.deleted_at == 0);
    let all: Vec<_> = listed.dispatches.into_iter().filter(there).collect();
    let dead = all.iter().find(|one| one.id == call.dispatch);
    let newer =
        |one: &&livekit::AgentDispatch| match (Mark::read(&one.attributes).as_ref(), made.mark(&one.id)) {
            (Some(mark), _) | (None, Some(mark)) => {
                mark.first == call.mark.first && mark.attempt > call.mark.attempt
            }
            // The server may have dropped the attribute of ours.
            (None, None) => {
                before.is_some_and(|before| !before.contains(&one.id))
                    && dead.is_some_and(|dead| alike(one, dead))
            }
        };
    // Two agents may be in one room by design.
    let other = |one: &&livekit::AgentDispatch| !newer(one) && lineage(one, made) != call.mark.first;
    let others: BTreeSet<&str> = all.iter().filter(other).flat_map(agents).collect();
    let came = |one: &&livekit::ParticipantInfo| {
        one.kind() == Kind::Agent && !others.contains(&*one.identity) && !others_here.contains(&one.identity)
    };
    let joined = listed.participants.iter().filter(came).map(|one| one.joined_at).max();
    let taken = |one: &&livekit::AgentDispatch| newer(one) && is_taken(one, joined);
    let (taken, newer) = (all.iter().find(taken), all.iter().find(newer));
    let (room, why) = match (listed.participants.iter().any(waits), newer, dead) {
        (false, _, _) => (Room::Empty, "nobody waits in the room"),
        (true, Some(_), _) if taken.is_some() => (Room::Served, "it has been dispatched again already"),
        (true, Some(_), _) => (Room::Asked, "no worker has taken it"),
        (true, None, None) => (Room::Empty, "its dispatch is gone: deleted, or the server began anew"),
        (true, None, Some(_)) => (Room::Waiting, ""),
    };
    let (newer, like) = (taken.or(newer).map(|one| one.id.clone()), dead.or(newer).cloned());
    Seen { room, why, newer, like, dispatches: all.into_iter().map(|one| one.id).collect() }
}

/// Whether a worker has it. An agent that joined since, the last of those that may be its own, is taken for it, so that
/// none is ever ended by a list that lacks jobs.
fn is_taken(dispatch: &livekit::AgentDispatch, joined: Option<i64>) -> bool {
    dispatch.state.as_ref().is_none_or(|state| {
        let since = state.created_at / 1_000_000_000;
        !state.jobs.is_empty() || joined.is_some_and(|joined| joined >= since)
    })
}

/// The first dispatch of this one's call.
fn lineage(dispatch: &livekit::AgentDispatch, made: &Made) -> String {
    let mark = Mark::read(&dispatch.attributes).or_else(|| made.mark(&dispatch.id).cloned());
    mark.map_or_else(|| dispatch.id.clone(), |mark| mark.first)
}

/// Who has joined for a dispatch.
fn agents(dispatch: &livekit::AgentDispatch) -> impl Iterator<Item = &str> {
    let jobs = dispatch.state.iter().flat_map(|state| &state.jobs);
    jobs.filter_map(|job| Some(job.state.as_ref()?.participant_identity.as_str()))
}

fn alike(one: &livekit::AgentDispatch, other: &livekit::AgentDispatch) -> bool {
    (&one.agent_name, &one.metadata, &one.deployment)
        == (&other.agent_name, &other.metadata, &other.deployment)
}

/// The request for an agent as `dispatch` asked for: the same but for the mark.
pub(super) fn request(dispatch: livekit::AgentDispatch, mark: &Mark) -> livekit::CreateAgentDispatchRequest {
    let mut attributes = dispatch.attributes;
    attributes.insert(ATTRIBUTE.to_owned(), mark.text());
    livekit::CreateAgentDispatchRequest {
        agent_name: dispatch.agent_name,
        room: dispatch.room,
        metadata: dispatch.metadata,
        restart_policy: dispatch.restart_policy,
        deployment: dispatch.deployment,
        attributes,
    }
}
