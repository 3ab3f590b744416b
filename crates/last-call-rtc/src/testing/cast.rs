//! Owns who is on a stage, and what is between them and the agent. Refuses to tell anybody.

use std::collections::{BTreeMap, HashMap};

use futures_channel::{mpsc, oneshot};
use livekit_protocol as proto;
use proto::participant_info::State;

use super::Guest;
use crate::audio::Attached;
use crate::error::RoomError;
use crate::event::{Participant, ParticipantKind, Publication};
use crate::people::{AutoSubscribe, People};
use crate::room::PublishOptions;
use crate::rpc::{Invocation, RpcError};

/// The protocol's number.
fn number(kind: ParticipantKind) -> i32 {
    (0..32).find(|number| ParticipantKind::from(*number) == kind).unwrap_or_default()
}

type Answer = oneshot::Sender<Result<String, RpcError>>;

pub(super) struct Cast {
    pub(super) people: People,
    pub(super) ended: bool,
    agent: proto::ParticipantInfo,
    guests: BTreeMap<String, proto::ParticipantInfo>,
    streams: BTreeMap<String, Vec<Attached>>,
    methods: BTreeMap<String, mpsc::UnboundedSender<Invocation>>,
    calls: HashMap<String, Answer>,
    last: u64,
}

impl Cast {
    pub(super) fn new(room: &str, agent: &str) -> Self {
        let mut people = People::new(AutoSubscribe::All);
        let room = proto::Room { sid: "RM_1".to_owned(), name: room.to_owned(), ..proto::Room::default() };
        let agent = proto::ParticipantInfo {
            sid: "PA_agent".to_owned(),
            identity: agent.to_owned(),
            kind: proto::participant_info::Kind::Agent.into(),
            state: State::Active.into(),
            ..proto::ParticipantInfo::default()
        };
        let join = proto::JoinResponse {
            room: Some(room),
            participant: Some(agent.clone()),
            ..proto::JoinResponse::default()
        };
        people.joined(&join);
        Self {
            people,
            ended: false,
            agent,
            guests: BTreeMap::new(),
            streams: BTreeMap::new(),
            methods: BTreeMap::new(),
            calls: HashMap::new(),
            last: 0,
        }
    }

    /// Another one each time.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn participant(&self, identity: &str) -> Option<Participant> {
        self.people.participant(identity).cloned()
    }

    pub(super) fn enter(&mut self, guest: Guest) {
        self.leave(&guest.identity);
        let info = proto::ParticipantInfo {
            sid: format!("PA_{}", self.number()),
            identity: guest.identity.clone(),
            name: guest.name,
            metadata: guest.metadata,
            attributes: guest.attributes,
            kind: number(guest.kind),
            state: State::Joined.into(),
            ..proto::ParticipantInfo::default()
        };
        self.guests.insert(guest.identity.clone(), info);
        self.update(&guest.identity);
        self.edit(&guest.identity, |info| info.set_state(State::Active));
    }

    pub(super) fn leave(&mut self, identity: &str) {
        if self.edit(identity, |info| info.set_state(State::Disconnected)) {
            let gone = self.guests.remove(identity).unwrap_or_default();
            gone.tracks.iter().for_each(|track| drop(self.streams.remove(&track.sid)));
        }
    }

    pub(super) fn publish(&mut self, identity: &str) -> Option<String> {
        let track = self.track("microphone", proto::TrackSource::Microphone.into());
        let sid = track.sid.clone();
        self.edit(identity, |info| info.tracks.push(track)).then(|| {
            self.people.bound(&sid);
            sid
        })
    }

    pub(super) fn subscribe(&mut self, track: &str, subscribed: bool) {
        if subscribed {
            self.people.bound(track);
        } else {
            self.people.unbound(track);
            self.streams.remove(track);
        }
    }

    pub(super) fn listen(&mut self, track: String, stream: Attached) {
        self.streams.entry(track).or_default().push(stream);
    }

    /// Nothing where nobody listens.
    pub(super) fn speak(&mut self, track: &str, samples: &[i16]) -> Option<()> {
        let streams = self.streams.get_mut(track)?;
        streams.retain(Attached::is_wanted);
        streams.iter().for_each(|stream| stream.push(samples));
        (!streams.is_empty()).then_some(())
    }

    pub(super) fn published(&mut self, options: &PublishOptions) -> Publication {
        let track = self.track(&options.name, options.source.to_proto());
        let publication = Publication::of(&track, false);
        self.agent.tracks.push(track);
        self.own();
        publication
    }

    pub(super) fn unpublished(&mut self, sid: &str) -> Result<Publication, RoomError> {
        let at = self.agent.tracks.iter().position(|track| track.sid == sid);
        let at = at.ok_or_else(|| RoomError::Unknown { what: "track", name: sid.to_owned() })?;
        let publication = Publication::of(&self.agent.tracks.remove(at), false);
        self.own();
        Ok(publication)
    }

    pub(super) fn show(&mut self, wanted: proto::UpdateParticipantMetadata) {
        (self.agent.name, self.agent.metadata) = (wanted.name, wanted.metadata);
        for (key, value) in wanted.attributes {
            if value.is_empty() {
                self.agent.attributes.remove(&key);
            } else {
                self.agent.attributes.insert(key, value);
            }
        }
        self.own();
    }

    pub(super) fn offer(&mut self, method: String, invocations: mpsc::UnboundedSender<Invocation>) {
        self.methods.insert(method, invocations);
    }

    /// Where its answer comes; nothing while nobody offers the method.
    pub(super) fn call(
        &mut self,
        invocation: Invocation,
    ) -> Option<oneshot::Receiver<Result<String, RpcError>>> {
        let (reply, answer) = oneshot::channel();
        let (id, method) = (invocation.id.clone(), self.methods.get(&invocation.method)?);
        method.unbounded_send(invocation).ok()?;
        self.calls.insert(id, reply);
        Some(answer)
    }

    pub(super) fn answered(&mut self, id: &str, result: Result<String, RpcError>) {
        if let Some(reply) = self.calls.remove(id) {
            // The test may wait no longer.
            let _ = reply.send(result);
        }
    }

    /// Nothing comes any more; whether that was so before.
    pub(super) fn end(&mut self) -> bool {
        self.streams.clear();
        self.methods.clear();
        self.calls.clear();
        std::mem::replace(&mut self.ended, true)
    }

    fn track(&mut self, name: &str, source: i32) -> proto::TrackInfo {
        proto::TrackInfo {
            sid: format!("TR_{}", self.number()),
            name: name.to_owned(),
            source,
            r#type: proto::TrackType::Audio.into(),
            mime_type: "audio/opus".to_owned(),
            ..proto::TrackInfo::default()
        }
    }

    /// Changes a guest, whom everybody then sees; false if it is not there.
    fn edit(&mut self, identity: &str, edit: impl FnOnce(&mut proto::ParticipantInfo)) -> bool {
        let Some(guest) = self.guests.get_mut(identity) else { return false };
        edit(guest);
        guest.version += 1;
        self.update(identity);
        true
    }

    fn update(&mut self, identity: &str) {
        let participants = self.guests.get(identity).cloned().into_iter().collect();
        self.people.update(&proto::ParticipantUpdate { participants });
    }

    fn own(&mut self) {
        self.agent.version += 1;
        self.people.update(&proto::ParticipantUpdate { participants: vec![self.agent.clone()] });
    }
}
