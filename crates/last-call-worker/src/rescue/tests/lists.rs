//! What lists mean, by value.

use std::collections::BTreeSet;

use last_call_proto::Room;
use livekit::participant_info::{Kind, State};
use livekit_protocol as livekit;

use super::super::call::{ATTRIBUTE, Call, Made, Mark};
use super::super::look::{self, Listed, Seen};
use super::job;

fn dispatch(id: &str, mark: Option<&str>) -> livekit::AgentDispatch {
    livekit::AgentDispatch {
        id: id.to_owned(),
        room: "lobby".to_owned(),
        state: Some(livekit::AgentDispatchState { created_at: 7_900_000_000, ..Default::default() }),
        agent_name: "bar".to_owned(),
        attributes: mark.map(|mark| (ATTRIBUTE.to_owned(), mark.to_owned())).into_iter().collect(),
        ..Default::default()
    }
}

fn participant(kind: Kind, state: State) -> livekit::ParticipantInfo {
    livekit::ParticipantInfo { kind: kind.into(), state: state.into(), ..Default::default() }
}

fn caller() -> livekit::ParticipantInfo {
    participant(Kind::Standard, State::Active)
}

fn judge(call: &Call, listed: Listed, made: &Made, before: Option<&BTreeSet<String>>) -> Seen {
    look::judge(call, listed, made, before, &BTreeSet::from(["agent-here".to_owned()]))
}

fn call() -> Call {
    Call::of(&job(&dispatch("AD_1", None)), "agent-1")
}

#[test]
fn call_1_who_waits_for_an_agent() {
    for (kind, state, waits) in [
        (Kind::Standard, State::Active, true),
        (Kind::Sip, State::Active, true),
        (Kind::Ingress, State::Active, true),
        (Kind::Standard, State::Joining, true),
        (Kind::Standard, State::Disconnected, false),
        (Kind::Agent, State::Active, false),
        (Kind::Egress, State::Active, false),
    ] {
        let listed = Listed {
            participants: vec![participant(Kind::Agent, State::Active), participant(kind, state)],
            dispatches: vec![dispatch("AD_1", None)],
        };
        let seen = judge(&call(), listed, &Made::default(), None);
        assert_eq!(seen.room == Room::Waiting, waits, "{kind:?} {state:?}: {seen:?}");
    }
}

#[test]
fn call_1_a_call_is_served_by_a_newer_dispatch_of_its_lineage_alone() {
    let (newer, older) =
        (r#"{"first":"AD_1","attempt":1,"dead":[]}"#, r#"{"first":"AD_1","attempt":0,"dead":[]}"#);
    let another = r#"{"first":"AD_7","attempt":1,"dead":[]}"#;
    for (mark, room) in [
        (Some(newer), Room::Asked),
        (Some(older), Room::Waiting),
        // Two agents in one room by design.
        (Some(another), Room::Waiting),
        (None, Room::Waiting),
        (Some("soup"), Room::Waiting),
    ] {
        let dispatches = vec![dispatch("AD_1", None), dispatch("AD_2", mark)];
        let listed = Listed { participants: vec![caller()], dispatches };
        assert_eq!(judge(&call(), listed, &Made::default(), None).room, room, "{mark:?}");
    }
    // Of several one that was taken is enough.
    let mut taken = dispatch("AD_3", Some(newer));
    taken.state.get_or_insert_default().jobs.push(livekit::Job::default());
    let dispatches = vec![dispatch("AD_1", None), dispatch("AD_2", Some(newer)), taken];
    let seen = judge(&call(), Listed { participants: vec![caller()], dispatches }, &Made::default(), None);
    assert_eq!((seen.room, seen.newer.as_deref()), (Room::Served, Some("AD_3")));
    // An agent that came since is as good as a job.
    for (joined_at, room) in [(6, Room::Asked), (7, Room::Served), (9, Room::Served)] {
        let agent = livekit::ParticipantInfo { joined_at, ..participant(Kind::Agent, State::Active) };
        let dispatches = vec![dispatch("AD_1", None), dispatch("AD_2", Some(newer))];
        let listed = Listed { participants: vec![caller(), agent], dispatches };
        assert_eq!(judge(&call(), listed, &Made::default(), None).room, room, "joined at {joined_at}");
    }
    // But not that of another call of the room, whether it is listed or runs here.
    // One that began long before is over, where agents always have the same identity.
    for (identity, began, room) in [
        ("agent-7", 110, Room::Asked),
        ("agent-7", 95, Room::Asked),
        ("agent-7", 50, Room::Served),
        ("agent-here", 50, Room::Asked),
        ("agent-2", 50, Room::Served),
    ] {
        let mut neighbour = dispatch("AD_7", Some(another));
        let state = livekit::JobState {
            participant_identity: "agent-7".to_owned(),
            started_at: began * 1_000_000_000,
            ..Default::default()
        };
        let job = livekit::Job { state: Some(state), ..Default::default() };
        neighbour.state.get_or_insert_default().jobs.push(job);
        let agent = livekit::ParticipantInfo {
            joined_at: 101,
            identity: identity.to_owned(),
            ..participant(Kind::Agent, State::Active)
        };
        let mut made = dispatch("AD_2", Some(newer));
        made.state.get_or_insert_default().created_at = 100_000_000_000;
        let dispatches = vec![dispatch("AD_1", None), neighbour, made];
        let listed = Listed { participants: vec![caller(), agent], dispatches };
        assert_eq!(judge(&call(), listed, &Made::default(), None).room, room, "{identity} {began}");
    }
    // The dead agent's may be deleted: what is left says what was asked for.
    let dispatches = vec![dispatch("AD_2", Some(newer))];
    let seen = judge(&call(), Listed { participants: vec![caller()], dispatches }, &Made::default(), None);
    assert_eq!((seen.room, seen.like.map(|like| like.id).as_deref()), (Room::Asked, Some("AD_2")));
}

#[test]
fn call_1_a_dispatch_without_attributes_is_known_by_what_is_known_here() {
    let listed = || Listed {
        participants: vec![caller()],
        dispatches: vec![dispatch("AD_1", None), dispatch("AD_2", None)],
    };
    let mut made = Made::default();
    made.add("AD_2".to_owned(), call().next(1));
    assert_eq!(judge(&call(), listed(), &made, None).room, Room::Asked);
    let before = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    let none = Made::default();
    // Ours, of which nobody said that it was made: it was not there before.
    assert_eq!(judge(&call(), listed(), &none, Some(&before(&["AD_1"]))).room, Room::Asked);
    assert_eq!(judge(&call(), listed(), &none, Some(&before(&["AD_1", "AD_2"]))).room, Room::Waiting);
    let mut other = listed();
    other.dispatches[1].metadata = "another".to_owned();
    assert_eq!(judge(&call(), other, &none, Some(&before(&["AD_1"]))).room, Room::Waiting);
}

#[test]
fn call_1_a_dispatch_that_was_deleted_is_not_made_again() {
    let mut deleted = dispatch("AD_1", None);
    deleted.state.get_or_insert_default().deleted_at = 1;
    for dispatches in [vec![], vec![dispatch("AD_2", None)], vec![deleted]] {
        let listed = Listed { participants: vec![caller()], dispatches };
        let seen = judge(&call(), listed, &Made::default(), None);
        assert_eq!((seen.room, seen.why.contains("gone")), (Room::Empty, true), "{seen:?}");
    }
}

#[test]
fn call_1_the_attribute_goes_there_and_back_and_none_of_anybody_panics() {
    let mark =
        Mark { first: "AD_1".to_owned(), attempt: 2, dead: vec!["\"a\\\n".to_owned(), "b".to_owned()] };
    let read = |text: &str| Mark::read(&[(ATTRIBUTE.to_owned(), text.to_owned())].into());
    assert_eq!(read(&mark.text()).as_ref(), Some(&mark));
    let again = dispatch("AD_2", Some(&mark.text()));
    assert_eq!(Call::of(&job(&again), "agent-2").mark, mark);
    assert_eq!(read(r#"{"first":"","attempt":1,"dead":[]}"#), None);
    assert_eq!(read(r#"{"first":"AD_1","attempt":256,"dead":[]}"#), None);
    bolero::check!().with_type::<String>().for_each(|text| drop(read(text)));

    let mut call = call();
    for number in 0..20 {
        call.mark = call.next(1);
        call.agent = format!("agent-{number}");
    }
    let dead = call.dead();
    assert_eq!((dead.len(), dead.last().map(String::as_str)), (8, Some("agent-19")));
}
