//! Owns what one piece of news changes: who came, left, published, muted. Refuses to ask the server for anything but
//! subscriptions.

use std::collections::BTreeSet;
use std::sync::Arc;

use livekit_protocol as proto;
use proto::participant_info::State;

use super::{GONE, People};
use crate::event::{DisconnectReason, Known, Participant, ParticipantKind, Publication, RoomEvent};

impl People {
    /// A participant as the server describes it, with what only this side knows.
    pub(super) fn participant_of(
        &self,
        info: &proto::ParticipantInfo,
        before: Option<&Participant>,
    ) -> Participant {
        let publications =
            info.tracks.iter().map(|track| Publication::of(track, self.bound.contains(&track.sid)));
        Participant(Arc::new(Known {
            sid: info.sid.clone(),
            identity: info.identity.clone(),
            name: info.name.clone(),
            metadata: info.metadata.clone(),
            attributes: info.attributes.clone().into_iter().collect(),
            kind: ParticipantKind::from(info.kind),
            active: info.state() == State::Active,
            permissions: info.permission.clone(),
            publications: publications.collect(),
            level: before.map_or(0.0, Participant::audio_level),
            speaking: before.is_some_and(Participant::is_speaking),
            quality: before.map(Participant::connection_quality).unwrap_or_default(),
            version: info.version,
            reason: DisconnectReason::default(),
        }))
    }

    /// A participant is in the room, new or changed.
    pub(super) fn here(&mut self, info: &proto::ParticipantInfo) {
        let before = self.others.get(&info.identity).cloned();
        let before = match before {
            Some(before) if before.sid() != info.sid => {
                self.leaves(&info.identity, DisconnectReason::DuplicateIdentity);
                None
            }
            // Said twice, or out of order.
            Some(before) if info.version < before.0.version => return,
            None if self.gone.contains(&info.sid) => return,
            other => other,
        };
        let now = self.participant_of(info, before.as_ref());
        self.others.insert(info.identity.clone(), now.clone());
        let Some(before) = before else {
            self.events.push_back(RoomEvent::ParticipantConnected(now.clone()));
            self.tracks_come(&now, now.publications());
            return;
        };
        if now.is_active() && !before.is_active() {
            self.events.push_back(RoomEvent::ParticipantActive(now.clone()));
        }
        self.differences(&before, &now);
        let gone =
            before.publications().iter().filter(|one| !has(&now, one.sid())).cloned().collect::<Vec<_>>();
        gone.iter().for_each(|publication| self.track_goes(publication, &now));
        let come: Vec<_> =
            now.publications().iter().filter(|one| !has(&before, one.sid())).cloned().collect();
        self.tracks_come(&now, &come);
        self.mutes(&before, &now);
    }

    /// This participant, as the server has it.
    pub(super) fn own(&mut self, info: &proto::ParticipantInfo) {
        let Some(before) = self.local.clone().filter(|local| local.sid() == info.sid) else { return };
        if info.version < before.0.version {
            return;
        }
        let now = self.participant_of(info, Some(&before));
        self.local = Some(now.clone());
        self.differences(&before, &now);
        for publication in now.publications().iter().filter(|one| !has(&before, one.sid())) {
            self.events.push_back(RoomEvent::LocalTrackPublished(publication.clone()));
        }
        for publication in before.publications().iter().filter(|one| !has(&now, one.sid())) {
            self.events.push_back(RoomEvent::LocalTrackUnpublished(publication.clone()));
        }
        self.mutes(&before, &now);
    }

    /// What is said of a participant that is here before and after.
    fn differences(&mut self, before: &Participant, now: &Participant) {
        if before.name() != now.name() {
            self.events.push_back(RoomEvent::ParticipantNameChanged(now.clone()));
        }
        if before.metadata() != now.metadata() {
            self.events.push_back(RoomEvent::ParticipantMetadataChanged(now.clone()));
        }
        let (old, new) = (before.attributes(), now.attributes());
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let changed: Vec<String> =
            keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
        if !changed.is_empty() {
            self.events
                .push_back(RoomEvent::ParticipantAttributesChanged { participant: now.clone(), changed });
        }
        if before.0.permissions != now.0.permissions {
            self.events.push_back(RoomEvent::PermissionsChanged(now.clone()));
        }
    }

    fn mutes(&mut self, before: &Participant, now: &Participant) {
        for publication in now.publications() {
            let old = before.publications().iter().find(|one| one.sid() == publication.sid());
            if old.is_none_or(|old| old.is_muted() == publication.is_muted()) {
                continue;
            }
            let (publication, participant) = (publication.clone(), now.clone());
            self.events.push_back(if publication.is_muted() {
                RoomEvent::TrackMuted { publication, participant }
            } else {
                RoomEvent::TrackUnmuted { publication, participant }
            });
        }
    }

    fn tracks_come(&mut self, participant: &Participant, come: &[Publication]) {
        for publication in come {
            self.want(publication);
            let (publication, participant) = (publication.clone(), participant.clone());
            let subscribed = publication.is_subscribed();
            self.events.push_back(RoomEvent::TrackPublished {
                publication: publication.clone(),
                participant: participant.clone(),
            });
            if subscribed {
                self.events.push_back(RoomEvent::TrackSubscribed { publication, participant });
            }
        }
    }

    /// The track is gone; its media before it.
    fn track_goes(&mut self, publication: &Publication, participant: &Participant) {
        self.asked.remove(publication.sid());
        // Its section stays bound until the session says otherwise: the track may come back before.
        if self.bound.contains(publication.sid()) {
            let (publication, participant) = (publication.with(false), participant.clone());
            self.events.push_back(RoomEvent::TrackUnsubscribed { publication, participant });
        }
        let participant = participant.clone();
        self.events
            .push_back(RoomEvent::TrackUnpublished { publication: publication.with(false), participant });
    }

    /// A participant is not in the room any more.
    pub(super) fn leaves(&mut self, identity: &str, reason: DisconnectReason) {
        let Some(participant) = self.others.remove(identity) else { return };
        let publications = participant.publications().to_vec();
        let gone = Participant(Arc::new(Known {
            publications: Vec::new(),
            active: false,
            speaking: false,
            reason,
            ..(*participant.0).clone()
        }));
        publications.iter().for_each(|publication| self.track_goes(publication, &gone));
        if self.gone.len() == GONE {
            self.gone.pop_front();
        }
        self.gone.push_back(gone.sid().to_owned());
        self.events.push_back(RoomEvent::ParticipantDisconnected(gone));
    }

    /// Media of the track comes, or comes no more.
    pub(super) fn mark(&mut self, sid: &str, subscribed: bool) {
        let Some(identity) = self.owner(sid).map(|owner| owner.identity().to_owned()) else { return };
        let Some(participant) = self.others.get_mut(&identity) else { return };
        let mut known = (*participant.0).clone();
        let Some(publication) = known.publications.iter_mut().find(|one| one.sid() == sid) else { return };
        *publication = publication.with(subscribed);
        let publication = publication.clone();
        *participant = Participant(Arc::new(known));
        let participant = participant.clone();
        self.events.push_back(if subscribed {
            RoomEvent::TrackSubscribed { publication, participant }
        } else {
            RoomEvent::TrackUnsubscribed { publication, participant }
        });
    }

    /// Asks for a track that this participant wants and that does not come by itself; once.
    pub(super) fn want(&mut self, publication: &Publication) {
        if self.auto.wants(publication.kind()) && !self.asked.contains_key(publication.sid()) {
            self.set_subscribed(publication.sid(), true);
        }
    }

    /// Changes what only the server knows of a participant's moment; what it is then, if it is here.
    pub(super) fn change_by_sid(
        &mut self,
        sid: &str,
        change: impl FnOnce(&mut Known),
    ) -> Option<Participant> {
        let participant = self.others.values_mut().chain(&mut self.local).find(|one| one.sid() == sid)?;
        change(Arc::make_mut(&mut participant.0));
        Some(participant.clone())
    }
}

fn has(participant: &Participant, sid: &str) -> bool {
    participant.publications().iter().any(|publication| publication.sid() == sid)
}
