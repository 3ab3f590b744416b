//! Owns who is in the room, with which tracks, as the server says it, and the events that follow. Refuses to take the
//! same news twice: participants have versions, and updates come more than once (rtc.md, G12).

mod changes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use livekit_protocol as proto;

use crate::event::{ConnectionQuality, DisconnectReason, Participant, RoomEvent, RoomInfo, TrackKind};

/// What a participant subscribes to by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AutoSubscribe {
    /// Every track.
    #[default]
    All,
    /// None: [`Room::set_subscribed`](crate::Room::set_subscribed) asks for each.
    None,
    /// Every track of sound.
    AudioOnly,
    /// Every track of pictures.
    VideoOnly,
}

impl AutoSubscribe {
    /// Whether the server does it; else it is asked for track by track.
    pub(crate) fn by_server(self) -> bool {
        self == Self::All
    }

    fn wants(self, kind: TrackKind) -> bool {
        match self {
            // The server does it.
            Self::All | Self::None => false,
            Self::AudioOnly => kind == TrackKind::Audio,
            Self::VideoOnly => kind == TrackKind::Video,
        }
    }
}

/// How many of those who left are known.
const GONE: usize = 64;

#[derive(Debug)]
pub(crate) struct People {
    auto: AutoSubscribe,
    room: RoomInfo,
    local: Option<Participant>,
    /// The others, by identity.
    others: BTreeMap<String, Participant>,
    /// The tracks whose media comes.
    bound: BTreeSet<String>,
    /// What was asked for against, or beyond, what comes by itself.
    asked: BTreeMap<String, bool>,
    /// Who left last, by sid: news of them may come late.
    gone: VecDeque<String>,
    subscriptions: Vec<proto::UpdateSubscription>,
    events: VecDeque<RoomEvent>,
}

impl People {
    pub(crate) fn new(auto: AutoSubscribe) -> Self {
        Self {
            auto,
            room: RoomInfo::default(),
            local: None,
            others: BTreeMap::new(),
            bound: BTreeSet::new(),
            asked: BTreeMap::new(),
            gone: VecDeque::new(),
            subscriptions: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// This participant is in; whoever was there before is no news, but their tracks are to be asked for.
    pub(crate) fn joined(&mut self, join: &proto::JoinResponse) {
        self.room = join.room.as_ref().map(RoomInfo::of).unwrap_or_default();
        self.local = join.participant.as_ref().map(|info| self.participant_of(info, None));
        for info in &join.other_participants {
            let participant = self.participant_of(info, None);
            participant.publications().iter().for_each(|publication| self.want(publication));
            self.others.insert(info.identity.clone(), participant);
        }
    }

    /// This participant is in again, in a new session: who left and came meanwhile is news.
    pub(crate) fn rejoined(&mut self, join: &proto::JoinResponse) {
        if let Some(room) = &join.room {
            self.room = RoomInfo::of(room);
        }
        // A new session knows of no subscription that was asked for.
        self.asked.clear();
        if let Some(info) = &join.participant {
            self.local = Some(self.participant_of(info, None));
        }
        self.only(&join.other_participants);
        // The session before takes nothing back any more: what is nobody's now would stay for ever.
        self.bound = self.bound.iter().filter(|sid| self.owner(sid).is_some()).cloned().collect();
        for participant in self.others.values().cloned().collect::<Vec<_>>() {
            participant.publications().iter().for_each(|publication| self.want(publication));
        }
    }

    /// These are all who are here.
    fn only(&mut self, here: &[proto::ParticipantInfo]) {
        let gone =
            |(identity, _): &(&String, &Participant)| !here.iter().any(|info| info.identity == **identity);
        let gone: Vec<String> =
            self.others.iter().filter(gone).map(|(identity, _)| identity.clone()).collect();
        gone.iter().for_each(|identity| self.leaves(identity, DisconnectReason::Unknown));
        here.iter().for_each(|info| self.here(info));
    }

    pub(crate) fn update(&mut self, update: &proto::ParticipantUpdate) {
        for info in &update.participants {
            let own = self.local.as_ref().is_some_and(|local| local.identity() == info.identity);
            if own {
                self.own(info);
            } else if info.state() == proto::participant_info::State::Disconnected {
                // An older session of the same identity may end after a newer one began.
                if self.others.get(&info.identity).is_some_and(|known| known.sid() == info.sid) {
                    self.leaves(&info.identity, DisconnectReason::from(info.disconnect_reason));
                }
            } else {
                self.here(info);
            }
        }
    }

    /// The room as it is now.
    pub(crate) fn room(&self) -> RoomInfo {
        self.room.clone()
    }

    pub(crate) fn local(&self) -> Option<Participant> {
        self.local.clone()
    }

    pub(crate) fn participants(&self) -> Vec<Participant> {
        self.others.values().cloned().collect()
    }

    pub(crate) fn participant(&self, identity: &str) -> Option<&Participant> {
        self.others.get(identity)
    }

    pub(crate) fn next_event(&mut self) -> Option<RoomEvent> {
        self.events.pop_front()
    }

    pub(crate) fn take_subscriptions(&mut self) -> Vec<proto::UpdateSubscription> {
        std::mem::take(&mut self.subscriptions)
    }

    pub(crate) fn set_subscribed(&mut self, sid: &str, subscribe: bool) {
        self.asked.insert(sid.to_owned(), subscribe);
        self.subscriptions.push(proto::UpdateSubscription {
            track_sids: vec![sid.to_owned()],
            subscribe,
            ..proto::UpdateSubscription::default()
        });
    }

    /// What is subscribed to against what comes by itself: for the server, after a resume.
    pub(crate) fn sync_subscription(&self) -> proto::UpdateSubscription {
        let subscribe = !self.auto.by_server();
        let differs = self.asked.iter().filter(|(_, asked)| **asked == subscribe).map(|(sid, _)| sid.clone());
        proto::UpdateSubscription {
            track_sids: differs.collect(),
            subscribe,
            ..proto::UpdateSubscription::default()
        }
    }

    /// Media of this track comes: before or after the news of the track itself (rtc.md, G15).
    pub(crate) fn bound(&mut self, sid: &str) {
        if self.bound.insert(sid.to_owned()) {
            self.mark(sid, true);
        }
    }

    /// Media of this track comes no more.
    pub(crate) fn unbound(&mut self, sid: &str) {
        if self.bound.remove(sid) {
            self.mark(sid, false);
        }
    }

    /// Whose track that is.
    fn owner(&self, sid: &str) -> Option<&Participant> {
        let has = |one: &&Participant| one.publications().iter().any(|publication| publication.sid() == sid);
        self.others.values().find(has)
    }

    /// Whose track that is, if it is encrypted.
    pub(crate) fn encrypted_by(&self, sid: &str) -> Option<&Participant> {
        let owner = self.owner(sid)?;
        let encrypted = owner.publications().iter().any(|one| one.sid() == sid && one.is_encrypted());
        encrypted.then_some(owner)
    }

    pub(crate) fn speakers(&mut self, changed: &proto::SpeakersChanged) {
        for speaker in &changed.speakers {
            let level = if speaker.active { speaker.level } else { 0.0 };
            self.change_by_sid(&speaker.sid, |known| {
                known.speaking = speaker.active;
                known.level = level;
            });
        }
        let everybody = self.others.values().chain(&self.local);
        let mut speaking: Vec<Participant> = everybody.filter(|one| one.is_speaking()).cloned().collect();
        speaking.sort_by(|one, other| other.audio_level().total_cmp(&one.audio_level()));
        self.events.push_back(RoomEvent::ActiveSpeakersChanged(speaking));
    }

    pub(crate) fn quality(&mut self, update: &proto::ConnectionQualityUpdate) {
        for info in &update.updates {
            let quality = ConnectionQuality::from(info.quality);
            let changed = self.change_by_sid(&info.participant_sid, |known| known.quality = quality);
            if let Some(participant) = changed {
                self.events.push_back(RoomEvent::ConnectionQualityChanged { participant, quality });
            }
        }
    }

    pub(crate) fn room_update(&mut self, update: &proto::RoomUpdate) {
        let Some(room) = &update.room else { return };
        let room = RoomInfo::of(room);
        if self.room != room {
            self.room = room.clone();
            self.events.push_back(RoomEvent::RoomUpdated(room));
        }
    }

    pub(crate) fn moved(&mut self, moved: &proto::RoomMovedResponse) {
        if let Some(room) = &moved.room {
            self.room = RoomInfo::of(room);
        }
        self.events.push_back(RoomEvent::Moved(self.room.clone()));
        if let Some(info) = &moved.participant {
            self.local = Some(self.participant_of(info, None));
        }
        self.only(&moved.other_participants);
    }

    pub(crate) fn subscription_response(&mut self, response: &proto::SubscriptionResponse) {
        self.events.push_back(RoomEvent::TrackSubscriptionFailed { track: response.track_sid.clone() });
    }

    pub(crate) fn local_track_subscribed(&mut self, sid: &str) {
        self.events.push_back(RoomEvent::LocalTrackSubscribed { track: sid.to_owned() });
    }
}

#[cfg(test)]
mod tests;
