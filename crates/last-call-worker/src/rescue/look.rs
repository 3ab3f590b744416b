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

/// The seconds in which an agent joins whose job has begun.
const JOINS_WITHIN: i64 = 10;

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
    let others: Vec<(&str, i64)> = all.iter().filter(other).flat_map(agents).collect();
    let came = |since| {
        let lately = since - JOINS_WITHIN;
        let another =
            |agent: &str| others.iter().any(|(identity, began)| *identity == agent && *began >= lately);
        listed.participants.iter().any(|one| {
            let agent = one.kind() == Kind::Agent && !others_here.contains(&one.identity);
            agent && one.joined_at >= since && !another(&one.identity)
        })
    };
    let taken = |one: &&livekit::AgentDispatch| newer(one) && is_taken(one, came);
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

/// Whether a worker has it. An agent that `came` since is taken for its own, so that none is ever ended by a list that
/// lacks jobs: unless another call's job that began lately has its identity. One that began before that is over, where
/// agents have the same identity each time.
fn is_taken(dispatch: &livekit::AgentDispatch, came: impl Fn(i64) -> bool) -> bool {
    dispatch.state.as_ref().is_none_or(|state| !state.jobs.is_empty() || came(seconds(state.created_at)))
}

/// The first dispatch of this one's call.
fn lineage(dispatch: &livekit::AgentDispatch, made: &Made) -> String {
    let mark = Mark::read(&dispatch.attributes).or_else(|| made.mark(&dispatch.id).cloned());
    mark.map_or_else(|| dispatch.id.clone(), |mark| mark.first)
}

/// Who has joined for a dispatch, and the second in which the job began.
fn agents(dispatch: &livekit::AgentDispatch) -> impl Iterator<Item = (&str, i64)> {
    let jobs = dispatch.state.iter().flat_map(|state| &state.jobs);
    let states = jobs.filter_map(|job| job.state.as_ref());
    states.map(|state| (state.participant_identity.as_str(), seconds(state.started_at)))
}

fn seconds(nanoseconds: i64) -> i64 {
    nanoseconds / 1_000_000_000
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
