//! The story and its picture, from made-up facts.
//!
//! Owns what the counts, the outcomes and the verdict come to. Refuses processes: `tests/demo` plays the real thing.

use super::picture::{self, Paper};
use super::story::{Left, Outcome, Role, Story, Who};
use super::tap::SeenWhat;
use last_call_server::Reply;

const SECOND: u64 = 1_000_000;

/// A worker that registered at 0.
fn worker(story: &mut Story, role: Role) -> Who {
    let who = story.started(role, 0);
    story.saw(who, 0, SeenWhat::Registering { agent_name: "a".into(), version: "1".into() });
    story.saw(who, 0, SeenWhat::Registered { worker_id: format!("AW_{who}") });
    who
}

fn status(available: bool) -> SeenWhat {
    SeenWhat::Status { available, draining: !available, load: 0.0, jobs: 0 }
}

fn offered(story: &mut Story, who: Who, room: &str, at_us: u64, reply: Option<Reply>) {
    let (job, dispatch) = (format!("AJ_{room}_{who}"), format!("AD_{room}"));
    let offer = SeenWhat::Offered { job: job.clone(), dispatch: dispatch.clone(), room: room.into() };
    story.saw(who, at_us, offer);
    let Some(reply) = reply else { return };
    story.saw(who, at_us, SeenWhat::Answered { job: job.clone(), reply });
    if reply == Reply::Accepted {
        story.saw(who, at_us, SeenWhat::Assigned { job, dispatch, room: room.into() });
    }
}

fn call(story: &mut Story, who: Who, room: &str, from: u64) {
    story.called(room, from);
    offered(story, who, room, from, Some(Reply::Accepted));
}

fn ended(story: &mut Story, who: Who, room: &str, at_us: u64, success: bool) {
    let job = format!("AJ_{room}_{who}");
    story.saw(who, at_us, SeenWhat::Ended { job, success, error: String::new() });
}

/// An old worker that drains as it should, beside a new one.
fn good() -> Story {
    let mut story = Story::default();
    let old = worker(&mut story, Role::Ours);
    let new = worker(&mut story, Role::Relief);
    for (room, from) in [("a", SECOND), ("b", 2 * SECOND), ("c", 3 * SECOND)] {
        call(&mut story, old, room, from);
    }
    story.called("d", 4 * SECOND - 10);
    offered(&mut story, old, "d", 4 * SECOND - 10, None);
    story.signalled(old, 4 * SECOND);
    story.saw(old, 4 * SECOND + 400, status(false));
    story.saw(old, 4 * SECOND + 410, SeenWhat::Answered { job: "AJ_d_0".into(), reply: Reply::Declined });
    offered(&mut story, new, "d", 4 * SECOND + 500, Some(Reply::Accepted));
    call(&mut story, new, "e", 5 * SECOND);
    story.signalled(old, 6 * SECOND);
    for (room, who, at_us) in [("a", old, 7), ("b", old, 8), ("c", old, 9), ("d", new, 10), ("e", new, 12)] {
        story.hung_up(room, at_us * SECOND);
        ended(&mut story, who, room, at_us * SECOND + 300, true);
    }
    story.left(old, 9 * SECOND + 2_300, Left::Code(0));
    story.left(new, 12 * SECOND + 900, Left::Code(0));
    story
}

#[test]
fn a_clean_drain_is_told_as_one() {
    let story = good();
    assert!(story.kept(0));
    assert_eq!(story.workers[0].full_after_us(), Some(400));
    assert_eq!(story.lingered_us(0), Some(2_000));
    assert_eq!(story.running(0, 5 * SECOND), 3);
    assert_eq!((story.workers[0].before.made, story.workers[0].before.declined), (4, 1));
    assert!(picture::verdict(&story).iter().all(|(good, _)| *good));
    assert!(story.shown());
}

#[test]
fn the_picture_of_a_clean_drain() {
    let paper = Paper { columns: 80, colours: false, unicode: true };
    let story = good();
    insta::assert_snapshot!(
        [picture::timeline(&story, paper), picture::table(&story, paper)].concat().join("\n")
    );
}

#[test]
fn a_picture_without_colours_and_letters_is_ascii_and_fits() {
    for columns in [0, 50, 80, 100, 1_000] {
        let paper = Paper { columns, colours: false, unicode: false };
        for line in picture::timeline(&good(), paper) {
            assert!(line.len() <= columns.clamp(50, 120), "{columns}: {line}");
            assert!(line.is_ascii(), "{line}");
        }
        assert!(picture::timeline(&Story::default(), paper).len() == 1, "nothing happened");
    }
}

#[test]
fn every_way_to_break_a_promise_is_told() {
    let old = 0;
    let broken = |change: &dyn Fn(&mut Story)| {
        let mut story = Story::default();
        worker(&mut story, Role::Ours);
        call(&mut story, old, "a", SECOND);
        story.signalled(old, 2 * SECOND);
        change(&mut story);
        assert!(!story.kept(old) && !story.shown());
        assert!(picture::verdict(&story).iter().any(|(good, _)| !good));
        story
    };
    let full = |story: &mut Story| story.saw(old, 2 * SECOND + 1, status(false));
    let hang_up = |story: &mut Story| {
        story.hung_up("a", 3 * SECOND);
        ended(story, old, "a", 3 * SECOND, true);
    };
    let killed = broken(&|story| {
        full(story);
        story.left(old, 2 * SECOND + 2, Left::Code(0));
        story.hung_up("a", 3 * SECOND);
    });
    assert_eq!(killed.count(Some(old), Outcome::CutOff), 1);
    let failed = broken(&|story| {
        full(story);
        ended(story, old, "a", 2 * SECOND + 5, false);
        story.hung_up("a", 3 * SECOND);
        story.left(old, 4 * SECOND, Left::Code(0));
    });
    assert_eq!(failed.count(Some(old), Outcome::Failed), 1);
    broken(&|story| {
        hang_up(story);
        story.left(old, 4 * SECOND, Left::Code(0));
    });
    for left in [Left::Code(1), Left::Signal(9), Left::Stayed] {
        broken(&|story| {
            full(story);
            hang_up(story);
            story.left(old, 4 * SECOND, left);
        });
    }
    let hangs_up_itself = broken(&|story| {
        full(story);
        ended(story, old, "a", 2 * SECOND + 5, true);
        story.hung_up("a", 3 * SECOND);
        story.left(old, 2 * SECOND + 9, Left::Code(0));
    });
    assert_eq!(hangs_up_itself.count(Some(old), Outcome::CutOff), 1);
    let greedy = broken(&|story| {
        full(story);
        call(story, old, "b", 2 * SECOND + 10);
        hang_up(story);
        story.hung_up("b", 3 * SECOND);
        story.left(old, 4 * SECOND, Left::Code(0));
    });
    assert_eq!(greedy.workers[old].taken_when_full, 1);
    let alone = broken(&|story| {
        story.called("b", SECOND);
        story.hung_up("b", 3 * SECOND);
    });
    assert_eq!(alone.count(None, Outcome::NoAgent), 1);
}

#[test]
fn a_relief_that_dies_and_a_caller_without_an_agent_are_told() {
    let mut story = good();
    story.workers[1].left = Some((11 * SECOND, Left::Signal(9)));
    assert!(story.kept(0) && !story.shown(), "the new worker was killed amid a call");
    let mut story = good();
    story.called("f", 6 * SECOND);
    story.hung_up("f", 7 * SECOND);
    assert!(story.kept(0) && !story.shown(), "one caller got no agent");
    // Beside another's worker that may be the other's doing.
    story.workers[1].role = Role::Theirs;
    worker(&mut story, Role::Relief);
    story.left(2, 9 * SECOND, Left::Code(0));
    assert!(story.shown());
}

#[test]
fn who_leaves_amid_calls_has_no_last_call() {
    let mut story = Story::default();
    let old = worker(&mut story, Role::Ours);
    call(&mut story, old, "a", SECOND);
    call(&mut story, old, "b", SECOND);
    story.hung_up("a", 2 * SECOND);
    story.left(old, 3 * SECOND, Left::Code(1));
    assert_eq!(story.lingered_us(old), None);
}

#[test]
fn one_that_was_full_before_the_signal_is_full_at_once() {
    let mut story = Story::default();
    let old = worker(&mut story, Role::Ours);
    story.saw(old, SECOND, status(false));
    story.signalled(old, 2 * SECOND);
    assert_eq!(story.workers[old].full_after_us(), Some(0));
    let mut story = Story::default();
    let old = worker(&mut story, Role::Ours);
    story.saw(old, SECOND, status(false));
    story.saw(old, SECOND, status(true));
    story.signalled(old, 2 * SECOND);
    assert_eq!(story.workers[old].full_after_us(), None);
    // Full of load first, and of the drain later.
    story.saw(old, 3 * SECOND, status(false));
    story.saw(old, 4 * SECOND, status(true));
    call(&mut story, old, "a", 5 * SECOND);
    story.saw(old, 6 * SECOND, status(false));
    assert_eq!(story.workers[old].full_after_us(), Some(4 * SECOND));
    assert_eq!(story.workers[old].taken_when_full, 0);
}

#[test]
fn wire_1_no_order_of_facts_panics() {
    bolero::check!().with_type::<Vec<(u8, bool, u8, u32)>>().for_each(|facts| {
        let mut story = Story::default();
        worker(&mut story, Role::Ours);
        worker(&mut story, Role::Relief);
        for (kind, second, room, at_us) in facts {
            let (who, room, at_us) = (usize::from(*second), room.to_string(), u64::from(*at_us));
            let job = format!("AJ_{room}_{who}");
            match kind % 9 {
                0 => story.called(&room, at_us),
                1 => story.hung_up(&room, at_us),
                2 => story.signalled(who, at_us),
                3 => story.left(who, at_us, Left::Code(0)),
                4 => story.saw(who, at_us, status(room.len() > 1)),
                5 => offered(&mut story, who, &room, at_us, Some(Reply::Accepted)),
                6 => offered(&mut story, who, &room, at_us, None),
                7 => ended(&mut story, who, &room, at_us, room.len() > 1),
                _ => story.saw(who, at_us, SeenWhat::Answered { job, reply: Reply::Declined }),
            }
        }
        let paper = Paper { columns: 80, colours: true, unicode: true };
        picture::timeline(&story, paper);
        picture::table(&story, paper);
        let mut outcomes = [None, Some(0), Some(1)].into_iter().flat_map(|who| {
            [Outcome::Finished, Outcome::Failed, Outcome::CutOff, Outcome::NoAgent].map(|what| (who, what))
        });
        let all = outcomes.by_ref().map(|(who, what)| story.count(who, what)).sum::<usize>();
        assert_eq!(all, story.calls.len(), "every call has one outcome");
    });
}

#[test]
fn wire_1_no_command_line_of_a_worker_panics() {
    bolero::check!().with_type::<String>().for_each(|text| {
        let _ = super::words(text);
    });
}

#[test]
fn times_have_units() {
    let shown = [
        (0, "0.00 ms"),
        (68, "0.06 ms"),
        (999, "0.99 ms"),
        (1_500, "1.5 ms"),
        (23_900, "23 ms"),
        (2_850_000, "2.8 s"),
    ];
    for (time_us, text) in shown {
        assert_eq!(picture::time(time_us), text);
    }
}
