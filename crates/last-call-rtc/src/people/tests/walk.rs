//! Random news of one identity's sessions, in which events must pair up and the newest version must stand.

use proptest::prelude::*;

use super::*;

/// One step: news of a session (0..3) of the one identity, with which tracks and whether they are muted, or its end; or
/// media of a track. Sessions only follow each other.
#[derive(Clone, Debug)]
enum Step {
    News { older: u32, again: bool, tracks: [Option<bool>; 2] },
    End { of_older: bool },
    Next,
    Media { track: u8, comes: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let news = (0_u32..3, any::<bool>(), any::<[Option<bool>; 2]>());
    let step = prop_oneof![
        6 => news.prop_map(|(older, again, tracks)| Step::News { older, again, tracks }),
        1 => any::<bool>().prop_map(|of_older| Step::End { of_older }),
        1 => Just(Step::Next),
        4 => (0_u8..2, any::<bool>()).prop_map(|(track, comes)| Step::Media { track, comes }),
    ];
    proptest::collection::vec(step, 0..60)
}

/// What the events so far have said.
#[derive(Default)]
struct Heard {
    connected: BTreeSet<String>,
    left: BTreeSet<String>,
    published: BTreeSet<String>,
    subscribed: BTreeSet<String>,
}

impl Heard {
    /// False if the event does not follow from those before.
    fn hears(&mut self, event: &RoomEvent) -> bool {
        let sid = |publication: &crate::event::Publication| publication.sid().to_owned();
        if let RoomEvent::ParticipantConnected(who) = event {
            self.connected.insert(who.sid().to_owned())
        } else if let RoomEvent::ParticipantDisconnected(who) = event {
            let quiet = self.published.is_empty() && self.subscribed.is_empty();
            quiet && self.connected.contains(who.sid()) && self.left.insert(who.sid().to_owned())
        } else if let RoomEvent::TrackPublished { publication, .. } = event {
            self.published.insert(sid(publication))
        } else if let RoomEvent::TrackUnpublished { publication, .. } = event {
            !self.subscribed.contains(publication.sid()) && self.published.remove(publication.sid())
        } else if let RoomEvent::TrackSubscribed { publication, .. } = event {
            self.published.contains(publication.sid()) && self.subscribed.insert(sid(publication))
        } else if let RoomEvent::TrackUnsubscribed { publication, .. } = event {
            self.subscribed.remove(publication.sid())
        } else {
            true
        }
    }
}

proptest! {
    #[test]
    fn events_pair_up_and_the_newest_version_stands(steps in steps()) {
        let (mut people, mut heard) = (alone(), Heard::default());
        let (mut session, mut version, mut newest, mut ended) = (0_u32, 10_u32, None, false);
        for step in steps {
            let sid = format!("PA_{session}");
            match step {
                // A session that has ended has no news.
                Step::News { .. } if ended => {}
                Step::News { older, again, tracks } => {
                    version += u32::from(older == 0 && !again);
                    let tracks: Vec<_> = (0..2).zip(tracks).filter_map(|(number, muted)| {
                        let name = format!("TR_{session}_{number}");
                        Some(track(&name, proto::TrackType::Audio, muted?))
                    }).collect();
                    let mut news = info(&sid, version - older, &tracks);
                    if let Some(known) = newest.clone().filter(|_| older == 0 && again) {
                        news = known;
                    }
                    if newest.as_ref().is_none_or(|known: &proto::ParticipantInfo| known.version <= news.version) {
                        newest = Some(news.clone());
                    }
                    people.update(&proto::ParticipantUpdate { participants: vec![news] });
                }
                Step::End { of_older: true } => {
                    let old = gone(&format!("PA_{}", session.wrapping_sub(1)), 1000);
                    people.update(&proto::ParticipantUpdate { participants: vec![old] });
                }
                Step::End { of_older: false } => {
                    (newest, ended) = (None, true);
                    people.update(&proto::ParticipantUpdate { participants: vec![gone(&sid, version + 1)] });
                }
                Step::Next => {
                    (session, version, ended) = (session + 1, 10, false);
                    let came = info(&format!("PA_{session}"), 10, &[]);
                    people.update(&proto::ParticipantUpdate { participants: vec![came.clone()] });
                    newest = Some(came);
                }
                Step::Media { track, comes: true } => people.bound(&format!("TR_{session}_{track}")),
                Step::Media { track, comes: false } => people.unbound(&format!("TR_{session}_{track}")),
            }
            for event in events(&mut people) {
                prop_assert!(heard.hears(&event), "{event:?}");
            }
            let (here, published) = match people.participant("caller") {
                Some(one) => {
                    let tracks = one.publications().iter().map(|one| (one.sid().to_owned(), one.is_muted()));
                    (Some((one.sid().to_owned(), one.0.version)), tracks.collect::<Vec<_>>())
                }
                None => (None, Vec::new()),
            };
            prop_assert_eq!(here, newest.as_ref().map(|one| (one.sid.clone(), one.version)));
            let tracks = newest.iter().flat_map(|one| &one.tracks).map(|one| (one.sid.clone(), one.muted));
            prop_assert_eq!(&published, &tracks.collect::<Vec<_>>());
            prop_assert_eq!(&published.into_iter().map(|(sid, _)| sid).collect::<BTreeSet<_>>(), &heard.published);
        }
    }
}
