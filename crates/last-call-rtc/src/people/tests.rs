//! Who came, left, published and muted, from what the server says once, twice or in another order.

mod walk;

use proto::participant_info::State;

use super::*;

fn track(sid: &str, kind: proto::TrackType, muted: bool) -> proto::TrackInfo {
    proto::TrackInfo { sid: sid.to_owned(), r#type: kind as i32, muted, ..proto::TrackInfo::default() }
}

fn sound(sid: &str) -> proto::TrackInfo {
    track(sid, proto::TrackType::Audio, false)
}

fn info(sid: &str, version: u32, tracks: &[proto::TrackInfo]) -> proto::ParticipantInfo {
    proto::ParticipantInfo {
        sid: sid.to_owned(),
        identity: "caller".to_owned(),
        state: State::Joined as i32,
        version,
        tracks: tracks.to_vec(),
        ..proto::ParticipantInfo::default()
    }
}

fn gone(sid: &str, version: u32) -> proto::ParticipantInfo {
    proto::ParticipantInfo { state: State::Disconnected as i32, ..info(sid, version, &[]) }
}

fn join(others: &[proto::ParticipantInfo]) -> proto::JoinResponse {
    let own = proto::ParticipantInfo { identity: "agent".to_owned(), ..info("PA_agent", 1, &[]) };
    proto::JoinResponse {
        participant: Some(own),
        other_participants: others.to_vec(),
        ..proto::JoinResponse::default()
    }
}

fn among(auto: AutoSubscribe, others: &[proto::ParticipantInfo]) -> People {
    let mut people = People::new(auto);
    people.joined(&join(others));
    people
}

fn alone() -> People {
    among(AutoSubscribe::All, &[])
}

/// The names of the events that one participant's news brings.
fn said(people: &mut People, news: &proto::ParticipantInfo) -> Vec<&'static str> {
    people.update(&proto::ParticipantUpdate { participants: vec![news.clone()] });
    names(people)
}

fn names(people: &mut People) -> Vec<&'static str> {
    events(people).iter().map(RoomEvent::name).collect()
}

fn events(people: &mut People) -> Vec<RoomEvent> {
    std::iter::from_fn(|| people.next_event()).collect()
}

fn asked(people: &mut People) -> Vec<(String, bool)> {
    let each =
        |one: proto::UpdateSubscription| one.track_sids.into_iter().map(move |sid| (sid, one.subscribe));
    people.take_subscriptions().into_iter().flat_map(each).collect()
}

#[test]
fn who_was_there_before_is_no_news() {
    let mut people = among(AutoSubscribe::All, &[info("PA_1", 1, &[sound("TR_1")])]);
    assert_eq!(names(&mut people), [""; 0]);
    assert_eq!(people.participants().len(), 1);
}

#[test]
fn g12_the_same_and_older_versions_change_nothing() {
    let mut people = alone();
    let news = info("PA_1", 2, &[sound("TR_1")]);
    assert_eq!(said(&mut people, &news), ["ParticipantConnected", "TrackPublished"]);
    assert_eq!(said(&mut people, &news), [""; 0]);
    assert_eq!(said(&mut people, &info("PA_1", 1, &[])), [""; 0]);
    assert_eq!(people.participant("caller").expect("is here").publications().len(), 1);
}

#[test]
fn the_same_identity_with_a_new_sid_left_and_came() {
    let mut people = among(AutoSubscribe::All, &[info("PA_1", 9, &[sound("TR_1")])]);
    people.update(&proto::ParticipantUpdate { participants: vec![info("PA_2", 1, &[])] });
    let events = events(&mut people);
    let [
        RoomEvent::TrackUnpublished { .. },
        RoomEvent::ParticipantDisconnected(left),
        RoomEvent::ParticipantConnected(came),
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((left.sid(), came.sid()), ("PA_1", "PA_2"));
    assert_eq!(left.disconnect_reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!(
        said(&mut people, &gone("PA_1", 10)),
        [""; 0],
        "the older session's end is not the newer one's"
    );
    assert_eq!(people.participant("caller").map(Participant::sid), Some("PA_2"));
    assert_eq!(said(&mut people, &gone("PA_2", 2)), ["ParticipantDisconnected"]);
    assert_eq!(said(&mut people, &gone("PA_2", 2)), [""; 0]);
}

#[test]
fn tracks_come_are_muted_unmuted_and_go() {
    let mut people = among(AutoSubscribe::All, &[info("PA_1", 1, &[])]);
    let muted = track("TR_1", proto::TrackType::Audio, true);
    assert_eq!(said(&mut people, &info("PA_1", 2, &[sound("TR_1")])), ["TrackPublished"]);
    assert_eq!(said(&mut people, &info("PA_1", 3, &[muted])), ["TrackMuted"]);
    assert_eq!(said(&mut people, &info("PA_1", 4, &[sound("TR_1")])), ["TrackUnmuted"]);
    assert_eq!(said(&mut people, &info("PA_1", 5, &[])), ["TrackUnpublished"]);
}

#[test]
fn g15_media_may_come_before_or_after_the_news() {
    let news = info("PA_1", 1, &[sound("TR_1")]);
    let mut before = alone();
    before.bound("TR_1");
    assert_eq!(names(&mut before), [""; 0]);
    assert_eq!(said(&mut before, &news), ["ParticipantConnected", "TrackPublished", "TrackSubscribed"]);
    let mut after = alone();
    assert_eq!(said(&mut after, &news), ["ParticipantConnected", "TrackPublished"]);
    after.bound("TR_1");
    after.bound("TR_1");
    assert_eq!(names(&mut after), ["TrackSubscribed"]);
    for mut people in [before, after] {
        assert!(people.participants()[0].publications()[0].is_subscribed());
        people.unbound("TR_1");
        people.unbound("TR_1");
        assert_eq!(names(&mut people), ["TrackUnsubscribed"]);
        assert!(!people.participants()[0].publications()[0].is_subscribed());
    }
}

#[test]
fn media_ends_before_the_track_and_the_track_before_the_participant() {
    let mut people = among(AutoSubscribe::All, &[info("PA_1", 1, &[sound("TR_1")])]);
    people.bound("TR_1");
    names(&mut people);
    let expected = ["TrackUnsubscribed", "TrackUnpublished", "ParticipantDisconnected"];
    assert_eq!(said(&mut people, &gone("PA_1", 2)), expected);
    people.unbound("TR_1");
    assert_eq!(names(&mut people), [""; 0]);
    assert!(people.bound.is_empty(), "nothing is kept of who has left");
}

#[test]
fn a_track_that_goes_and_comes_back_in_its_section_is_subscribed() {
    let mut people = among(AutoSubscribe::All, &[info("PA_1", 1, &[sound("TR_1")])]);
    people.bound("TR_1");
    names(&mut people);
    assert_eq!(said(&mut people, &info("PA_1", 2, &[])), ["TrackUnsubscribed", "TrackUnpublished"]);
    assert_eq!(said(&mut people, &info("PA_1", 3, &[sound("TR_1")])), ["TrackPublished", "TrackSubscribed"]);
}

#[test]
fn late_news_of_who_has_left_brings_nobody_back() {
    let mut people = among(AutoSubscribe::All, &[info("PA_1", 1, &[])]);
    assert_eq!(said(&mut people, &gone("PA_1", 3)), ["ParticipantDisconnected"]);
    assert_eq!(said(&mut people, &info("PA_1", 2, &[])), [""; 0]);
    assert_eq!(said(&mut people, &info("PA_2", 1, &[])), ["ParticipantConnected"]);
    (3..1000).for_each(|sid| drop(said(&mut people, &info(&format!("PA_{sid}"), 1, &[]))));
    assert!(people.gone.len() <= GONE);
}

#[test]
fn only_the_wanted_kind_is_asked_for() {
    let tracks = [sound("TR_a"), track("TR_v", proto::TrackType::Video, false)];
    for (auto, expected) in [
        (AutoSubscribe::All, None),
        (AutoSubscribe::None, None),
        (AutoSubscribe::AudioOnly, Some("TR_a")),
        (AutoSubscribe::VideoOnly, Some("TR_v")),
    ] {
        let expected: Vec<_> = expected.map(|sid| (sid.to_owned(), true)).into_iter().collect();
        assert_eq!(asked(&mut among(auto, &[info("PA_1", 1, &tracks)])), expected, "there before: {auto:?}");
        let mut people = among(auto, &[]);
        said(&mut people, &info("PA_1", 1, &tracks));
        assert_eq!(asked(&mut people), expected, "came: {auto:?}");
    }
}

#[test]
fn a_resume_tells_what_differs_from_what_comes_by_itself() {
    let mut people = among(AutoSubscribe::All, &[]);
    people.set_subscribed("TR_off", false);
    people.set_subscribed("TR_on", true);
    let sync = people.sync_subscription();
    assert_eq!((sync.track_sids, sync.subscribe), (vec!["TR_off".to_owned()], false));
    let mut people = among(AutoSubscribe::AudioOnly, &[info("PA_1", 1, &[sound("TR_1"), sound("TR_2")])]);
    people.set_subscribed("TR_1", false);
    people.set_subscribed("TR_v", true);
    let sync = people.sync_subscription();
    assert_eq!((sync.track_sids, sync.subscribe), (vec!["TR_2".to_owned(), "TR_v".to_owned()], true));
}

#[test]
fn a_new_session_s_differences_are_news_and_its_tracks_are_asked_for_once() {
    let other = |identity: &str, track: &str| proto::ParticipantInfo {
        identity: identity.to_owned(),
        ..info(&format!("PA_{identity}"), 1, &[sound(track)])
    };
    let mut people = among(AutoSubscribe::AudioOnly, &[other("stays", "TR_s"), other("goes", "TR_g")]);
    asked(&mut people);
    people.rejoined(&join(&[other("stays", "TR_s"), other("comes", "TR_c")]));
    let expected = ["TrackUnpublished", "ParticipantDisconnected", "ParticipantConnected", "TrackPublished"];
    assert_eq!(names(&mut people), expected);
    let mut asked = asked(&mut people);
    asked.sort();
    assert_eq!(asked, [("TR_c".to_owned(), true), ("TR_s".to_owned(), true)]);
}

#[test]
fn changed_attributes_are_told_by_key() {
    let with = |version, pairs: &[(&str, &str)]| proto::ParticipantInfo {
        attributes: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..info("PA_1", version, &[])
    };
    let mut people = among(AutoSubscribe::All, &[with(1, &[("same", "1"), ("other", "1"), ("away", "1")])]);
    let news = with(2, &[("same", "1"), ("other", "2"), ("new", "1")]);
    people.update(&proto::ParticipantUpdate { participants: vec![news] });
    let events = events(&mut people);
    let [RoomEvent::ParticipantAttributesChanged { changed, .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(changed, &["away", "new", "other"]);
}

#[test]
fn debug_shows_nothing_personal() {
    let personal = proto::ParticipantInfo {
        name: "secret name".to_owned(),
        metadata: "secret metadata".to_owned(),
        attributes: [("secret key".to_owned(), "secret value".to_owned())].into(),
        ..info("PA_1", 1, &[])
    };
    let mut people = alone();
    people.update(&proto::ParticipantUpdate { participants: vec![personal] });
    let shown = format!("{people:?} {:?} {:?}", people.participants(), people.events);
    assert!(shown.contains("PA_1"));
    assert!(!shown.contains("secret"), "{shown}");
}
