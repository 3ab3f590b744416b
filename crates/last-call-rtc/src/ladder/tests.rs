//! The rules of the ladder one by one, the walk through all its states, and half a minute without network.

mod outage;
mod walk;

use livekit_protocol::DisconnectReason;

use super::*;

/// Takes all outputs, from [`Ladder::new`] or of one input.
fn drain(ladder: &mut Ladder) -> Vec<Output> {
    std::iter::from_fn(|| ladder.poll_output()).collect()
}

fn after(ladder: &mut Ladder, input: Input) -> Vec<Output> {
    ladder.handle(input, 0);
    drain(ladder)
}

fn connected() -> Ladder {
    let mut ladder = Ladder::new();
    drain(&mut ladder);
    after(&mut ladder, Input::Joined { generation: 1 });
    let said = after(&mut ladder, Input::PeerConnected { generation: 1 });
    assert_eq!(said.last(), Some(&Output::Tell(News::Connected)));
    ladder
}

fn leave(generation: Generation, action: LeaveAction) -> Input {
    Input::Leave { generation, action, reason: DisconnectReason::StateMismatch }
}

fn joins(said: &[Output]) -> usize {
    said.iter().filter(|output| matches!(output, Output::Join { .. })).count()
}

#[test]
fn the_first_join_is_made_at_once_under_a_budget() {
    let mut ladder = Ladder::new();
    let expected = [
        Output::Arm(Timer::Budget, numbers::BUDGET),
        Output::Join { generation: 1 },
        Output::Arm(Timer::Step, numbers::SIGNAL_LIMIT),
    ];
    assert_eq!(drain(&mut ladder), expected);
}

#[test]
fn lost_signalling_is_resumed_in_order() {
    let mut ladder = connected();
    let said = after(&mut ladder, Input::SignalClosed { generation: 1 });
    let expected = [
        Output::Tell(News::Reconnecting),
        Output::Arm(Timer::Budget, numbers::BUDGET),
        Output::Resume { generation: 2 },
        Output::Arm(Timer::Step, numbers::SIGNAL_LIMIT),
    ];
    assert_eq!(said, expected);
    let said = after(&mut ladder, Input::SignalResumed { generation: 2 });
    let media = Output::Arm(Timer::Step, numbers::MEDIA_LIMIT);
    assert_eq!(said, [Output::SyncState, Output::RestartIce { generation: 2 }, media]);
    let said = after(&mut ladder, Input::PeerConnected { generation: 2 });
    let expected = [
        Output::ReplayReliable,
        Output::Disarm(Timer::Budget),
        Output::Arm(Timer::Step, numbers::STEADY),
        Output::Tell(News::Resumed),
    ];
    assert_eq!(said, expected);
}

#[test]
fn lost_media_and_another_network_are_resumed_too() {
    for input in [Input::NetworkChanged, leave(1, LeaveAction::Resume)] {
        let mut ladder = connected();
        assert!(after(&mut ladder, input).contains(&Output::Resume { generation: 2 }), "{input:?}");
    }
    let mut ladder = connected();
    assert_eq!(
        after(&mut ladder, Input::PeerFailed { generation: 1 }),
        [Output::Arm(Timer::Step, numbers::DOUBT)]
    );
    assert!(after(&mut ladder, Input::Fired(Timer::Step)).contains(&Output::Resume { generation: 2 }));
}

#[test]
fn media_that_comes_back_by_itself_is_not_resumed() {
    let mut ladder = connected();
    after(&mut ladder, Input::PeerFailed { generation: 1 });
    after(&mut ladder, Input::PeerConnected { generation: 1 });
    assert_eq!(after(&mut ladder, Input::Fired(Timer::Step)), []);
    assert_eq!(ladder.state(), State::Connected);
}

/// livekit-server closes the peers of a deleted room a moment before its `Leave` is read.
#[test]
fn a_deleted_room_is_not_made_anew() {
    let mut ladder = connected();
    after(&mut ladder, Input::PeerFailed { generation: 1 });
    let said = after(&mut ladder, leave(1, LeaveAction::Disconnect));
    assert!(matches!(said.last(), Some(Output::Tell(News::Disconnected(Ended::ByServer(_))))), "{said:?}");
}

#[test]
fn g11_the_stale_close_of_an_older_socket_is_ignored() {
    let mut ladder = connected();
    after(&mut ladder, Input::SignalClosed { generation: 1 });
    assert_eq!(after(&mut ladder, Input::SignalClosed { generation: 1 }), []);
    after(&mut ladder, Input::SignalResumed { generation: 2 });
    assert_eq!(after(&mut ladder, Input::SignalClosed { generation: 1 }), []);
    after(&mut ladder, Input::PeerConnected { generation: 2 });
    assert_eq!(after(&mut ladder, Input::SignalClosed { generation: 1 }), []);
    assert_eq!(ladder.state(), State::Connected);
}

/// livekit/livekit#4887: media stalls in the first connect, and a second join would end the job.
#[test]
fn i4887_a_first_connect_without_media_resumes_instead_of_joining_again() {
    let mut ladder = Ladder::new();
    drain(&mut ladder);
    after(&mut ladder, Input::Joined { generation: 1 });
    let said = after(&mut ladder, Input::Fired(Timer::Step));
    assert_eq!(said, [Output::Arm(Timer::Step, numbers::backoff(1, 0))]);
    let said = after(&mut ladder, Input::Fired(Timer::Step));
    assert_eq!(said.first(), Some(&Output::Resume { generation: 2 }));
    after(&mut ladder, Input::SignalResumed { generation: 2 });
    let said = after(&mut ladder, Input::PeerConnected { generation: 2 });
    assert_eq!(
        said.last(),
        Some(&Output::Tell(News::Connected)),
        "the user has heard of no connection before"
    );
}

/// The other half of livekit/livekit#4887: the `Leave` meant for the session that the rejoin replaced.
#[test]
fn i4887_the_leave_of_a_replaced_session_does_not_end_the_new_one() {
    let mut ladder = connected();
    let said = after(&mut ladder, leave(1, LeaveAction::Reconnect));
    assert!(said.contains(&Output::Join { generation: 2 }), "{said:?}");
    let duplicate = Input::Leave {
        generation: 1,
        action: LeaveAction::Disconnect,
        reason: DisconnectReason::DuplicateIdentity,
    };
    assert_eq!(after(&mut ladder, duplicate), []);
    let said = after(&mut ladder, Input::Joined { generation: 2 });
    assert_eq!(said.first(), Some(&Output::Republish));
    let said = after(&mut ladder, Input::PeerConnected { generation: 2 });
    assert_eq!(said.last(), Some(&Output::Tell(News::Reconnected)));
    assert!(!said.contains(&Output::ReplayReliable), "the new session has acknowledged nothing");
}

#[test]
fn a_refused_resume_joins_anew_at_once() {
    let mut ladder = connected();
    after(&mut ladder, Input::SignalClosed { generation: 1 });
    let said = after(&mut ladder, Input::ResumeRefused { generation: 2 });
    assert_eq!(said.first(), Some(&Output::Join { generation: 3 }));
    assert!(matches!(ladder.state(), State::Rejoining(_)));
}

#[test]
fn a_session_without_media_is_replaced_after_its_tries_and_no_sooner() {
    let mut ladder = connected();
    let mut said = after(&mut ladder, Input::SignalClosed { generation: 1 });
    for attempt in 0..numbers::MUTE_TRIES {
        assert_eq!(joins(&said), 0, "before try {attempt}");
        let generation = u64::from(attempt) + 2;
        after(&mut ladder, Input::SignalResumed { generation });
        after(&mut ladder, Input::Fired(Timer::Step));
        said = after(&mut ladder, Input::Fired(Timer::Step));
    }
    assert_eq!(joins(&said), 1, "{said:?}");
}

#[test]
fn g11_a_server_that_takes_and_drops_in_turn_meets_the_back_off() {
    let mut ladder = connected();
    after(&mut ladder, Input::SignalClosed { generation: 1 });
    after(&mut ladder, Input::SignalResumed { generation: 2 });
    after(&mut ladder, Input::PeerConnected { generation: 2 });
    let again = ladder.clone();
    let said = after(&mut ladder, Input::SignalClosed { generation: 2 });
    assert!(!said.contains(&Output::Resume { generation: 3 }), "{said:?}");
    let mut ladder = again;
    after(&mut ladder, Input::Fired(Timer::Step));
    let said = after(&mut ladder, Input::SignalClosed { generation: 2 });
    assert!(said.contains(&Output::Resume { generation: 3 }), "it was steady: {said:?}");
}

#[test]
fn disconnect_ends_at_once_with_its_reason() {
    let mut ladder = connected();
    let reason = DisconnectReason::RoomDeleted;
    let said = after(&mut ladder, Input::Leave { generation: 1, action: LeaveAction::Disconnect, reason });
    assert_eq!(said.last(), Some(&Output::Tell(News::Disconnected(Ended::ByServer(reason)))));
    assert_eq!(ladder.state(), State::Closed(Ended::ByServer(reason)));
}

#[test]
fn a_refusal_is_final_in_the_first_connect_alone() {
    let mut first = Ladder::new();
    drain(&mut first);
    after(&mut first, Input::JoinFailed { generation: 1, permanent: true });
    assert_eq!(first.state(), State::Closed(Ended::JoinRefused));
    let mut later = connected();
    after(&mut later, leave(1, LeaveAction::Reconnect));
    after(&mut later, Input::JoinFailed { generation: 2, permanent: true });
    assert_eq!(later.state(), State::Rejoining(1));
}

#[test]
fn the_user_leaves_with_a_word_where_the_socket_stands() {
    let mut ladder = connected();
    assert_eq!(after(&mut ladder, Input::Close).first(), Some(&Output::SendLeave));
    let mut ladder = connected();
    after(&mut ladder, Input::SignalClosed { generation: 1 });
    assert_eq!(after(&mut ladder, Input::Close).first(), Some(&Output::Abandon { generation: 2 }));
}

/// livekit/rust-sdks#1096: the end of all attempts is told.
#[test]
fn i1096_giving_up_is_told() {
    let mut ladder = connected();
    after(&mut ladder, Input::SignalClosed { generation: 1 });
    let said = after(&mut ladder, Input::Fired(Timer::Budget));
    assert_eq!(said.last(), Some(&Output::Tell(News::Disconnected(Ended::GaveUp))));
}

#[test]
fn a_changed_network_cuts_the_back_off_short() {
    let mut ladder = connected();
    after(&mut ladder, Input::SignalClosed { generation: 1 });
    after(&mut ladder, Input::SignalClosed { generation: 2 });
    assert_eq!(after(&mut ladder, Input::NetworkChanged).first(), Some(&Output::Resume { generation: 3 }));
}

/// livekit/rust-sdks#786: attempts burst. The waits grow to 5 s, and a quarter of that at most is added.
#[test]
fn i786_waits_grow_and_are_scattered() {
    let waits: Vec<u128> = (1..=numbers::ATTEMPT_TOP).map(|n| numbers::backoff(n, 0).as_millis()).collect();
    assert_eq!(waits, [300, 1200, 2700, 4800, 5000]);
    assert_eq!(numbers::backoff(5, u32::MAX).as_millis(), 6249);
}
