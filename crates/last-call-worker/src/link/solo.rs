//! `connect`: one job in a room, made here instead of offered by a server.
//!
//! Owns the other side of that one conversation, so that the job runs, is told and ends by the same core as
//! any other. Refuses a second job.

use last_call_proto::{Decision, FromServer, Input, JobId, Worker};
use livekit_protocol as livekit;

use super::Link;
use crate::offer::Acceptance;

/// The one job, and how to join its room.
#[derive(Clone)]
pub(crate) struct Solo {
    pub(crate) url: String,
    pub(crate) room: String,
    pub(crate) identity: String,
    pub(crate) agent_name: String,
    pub(crate) token: String,
}

impl Solo {
    /// Plays the server's part as far as a running job.
    pub(super) fn begin(self, link: &mut Link) {
        let id = JobId::from(format!("AJ_{}", self.identity).as_str());
        let room = livekit::Room { name: self.room, ..Default::default() };
        let job = livekit::Job {
            id: id.to_string(),
            room: Some(room),
            agent_name: self.agent_name,
            ..Default::default()
        };
        link.keep.offer(&link.core, job.clone());
        link.keep.accept(&id, Acceptance { identity: self.identity, ..Acceptance::default() });
        link.keep.assign(job, None, self.token);
        for input in [
            Input::Start,
            Input::Connected,
            Input::Received(FromServer::Registered),
            Input::Received(FromServer::Offer(id.clone())),
            Input::Heartbeat(id.clone()),
            Input::Decided(id.clone(), Decision::Accept),
            Input::Received(FromServer::Assignment(id)),
        ] {
            link.core.handle(input);
        }
    }
}

/// Hears what the worker says, as a server would that answers every ping. False if it said nothing.
pub(super) fn hear(core: &mut Worker) -> bool {
    let said = core.poll_transmit().is_some();
    if said {
        core.handle(Input::Flushed);
        core.handle(Input::Received(FromServer::Other));
    }
    said
}
