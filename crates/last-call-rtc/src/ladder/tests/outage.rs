//! Thirty seconds in which every packet is dropped, on a virtual clock: whatever the dice say, the session is resumed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const OUTAGE: Duration = Duration::from_secs(30);

/// Runs until connected or closed; sockets opened in the outage never answer, later ones do as `server` says.
/// Returns the time it took, and how many resumes and joins were made.
fn run(
    ladder: &mut Ladder,
    rolls: &[u32],
    server: impl Fn(Output) -> Option<Input>,
) -> (Duration, usize, usize) {
    let mut now = Duration::ZERO;
    let mut timers = BTreeMap::from([(Timer::Step, numbers::STEADY)]);
    let (mut resumes, mut joins) = (0, 0);
    let mut rolls = rolls.iter().cycle().copied();
    ladder.handle(Input::SignalClosed { generation: 1 }, 0);
    loop {
        let mut answer = None;
        while let Some(output) = ladder.poll_output() {
            match output {
                Output::Arm(timer, wait) => drop(timers.insert(timer, now + wait)),
                Output::Disarm(timer) => drop(timers.remove(&timer)),
                Output::Resume { .. } => resumes += 1,
                Output::Join { .. } => joins += 1,
                Output::Abandon { .. }
                | Output::SyncState
                | Output::RestartIce { .. }
                | Output::ReplayReliable
                | Output::Republish
                | Output::SendLeave
                | Output::Tell(_) => {}
            }
            if now >= OUTAGE {
                answer = server(output).or(answer);
            }
        }
        if matches!(ladder.state(), State::Connected | State::Closed(_)) {
            return (now, resumes, joins);
        }
        let roll = rolls.next().unwrap();
        if let Some(input) = answer {
            ladder.handle(input, roll);
            continue;
        }
        let (&timer, &at) = timers.iter().min_by_key(|(_, at)| **at).unwrap();
        timers.remove(&timer);
        now = at;
        ladder.handle(Input::Fired(timer), roll);
    }
}

/// A server that still has the session.
fn keeps(output: Output) -> Option<Input> {
    if let Output::Resume { generation } = output {
        Some(Input::SignalResumed { generation })
    } else if let Output::RestartIce { generation } = output {
        Some(Input::PeerConnected { generation })
    } else {
        None
    }
}

proptest! {
    #[test]
    fn half_a_minute_without_network_is_resumed_without_a_join(rolls in prop::collection::vec(any::<u32>(), 1..20)) {
        let mut ladder = connected();
        let (took, resumes, joins) = run(&mut ladder, &rolls, keeps);
        prop_assert_eq!(ladder.state(), State::Connected);
        prop_assert_eq!(joins, 0);
        prop_assert!(resumes >= 3);
        prop_assert!(took < OUTAGE + numbers::SIGNAL_LIMIT + Duration::from_secs(7), "{:?}", took);
    }

    #[test]
    fn a_server_that_let_go_is_joined_anew_within_the_budget(rolls in prop::collection::vec(any::<u32>(), 1..20)) {
        let mut ladder = connected();
        let joined = Cell::new(0);
        let (took, _, joins) = run(&mut ladder, &rolls, |output| {
            if let Output::Resume { generation } = output {
                Some(Input::ResumeRefused { generation })
            } else if let Output::Join { generation } = output {
                joined.set(generation);
                Some(Input::Joined { generation })
            } else {
                (output == Output::Republish).then(|| Input::PeerConnected { generation: joined.get() })
            }
        });
        prop_assert_eq!(ladder.state(), State::Connected);
        prop_assert_eq!(joins, 1);
        prop_assert!(took < numbers::BUDGET);
    }

    #[test]
    fn without_a_server_it_gives_up_after_the_budget(rolls in prop::collection::vec(any::<u32>(), 1..20)) {
        let mut ladder = connected();
        let (took, _, joins) = run(&mut ladder, &rolls, |_| None);
        prop_assert_eq!(ladder.state(), State::Closed(Ended::GaveUp));
        prop_assert_eq!(took, numbers::BUDGET);
        prop_assert_eq!(joins, 0);
    }
}
