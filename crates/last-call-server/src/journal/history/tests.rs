//! The history against a page that saw everything: whatever happens, one that opens late ends up with the same.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits { ended: 3, gone: 2, offers: 4, notes: 2 };

/// What a page knows, told event by event.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    /// Rooms without an agent count as losses: a log says nothing of those that do not.
    unnamed: bool,
    /// Phase, since when it is no longer available, and load.
    workers: BTreeMap<String, (Phase, u64, f32)>,
    gone: Vec<String>,
    wishes: BTreeMap<String, u64>,
    /// Worker and beginning.
    running: BTreeMap<String, (String, u64)>,
    /// Job, beginning, end and outcome.
    over: Vec<(String, u64, u64, &'static str)>,
    notes: Vec<String>,
}

impl View {
    /// Of a log.
    fn new() -> Self {
        Self { unnamed: true, ..Self::default() }
    }

    fn of<'a>(self, events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut view = self;
        events.into_iter().for_each(|event| view.see(event));
        view
    }

    fn see(&mut self, Event { at_us, what }: &Event) {
        match what {
            What::WorkerRegistered { worker, agent_name, .. } => {
                self.unnamed |= agent_name.is_empty();
                assert!(
                    self.workers.insert(worker.clone(), (Phase::Available, 0, 0.0)).is_none(),
                    "{worker} twice"
                );
            }
            What::WorkerStatus { worker, available, draining, load, .. } => {
                if let Some(known) = self.workers.get_mut(worker) {
                    let phase = Phase::of(*available, *draining);
                    let since = if known.0 == phase { known.1 } else { *at_us };
                    *known = (phase, if phase == Phase::Available { 0 } else { since }, *load);
                }
            }
            What::WorkerGone { worker } => {
                if self.workers.remove(worker).is_some() {
                    self.gone.push(worker.clone());
                }
            }
            What::DispatchCreated { dispatch, agent_name, .. } => {
                if self.unnamed || !agent_name.is_empty() {
                    self.wishes.insert(dispatch.clone(), *at_us);
                }
            }
            What::Assigned { job, dispatch, worker, .. } => {
                self.wishes.remove(dispatch);
                assert!(self.running.insert(job.clone(), (worker.clone(), *at_us)).is_none(), "{job} twice");
            }
            What::Unserved { job, dispatch, .. } | What::Unanswered { job, dispatch, .. } => {
                if let Some(start) = self.wishes.remove(dispatch) {
                    self.over.push((job.clone(), start, *at_us, "lost"));
                }
            }
            What::JobEnded { job, success, .. } => {
                self.end(job, *at_us, if *success { "finished" } else { "failed" })
            }
            What::JobOrphaned { job, .. } => self.end(job, *at_us, "orphaned"),
            What::Noted { text, .. } => self.notes.push(text.clone()),
            What::RoomStarted { .. }
            | What::RoomFinished { .. }
            | What::Offered { .. }
            | What::Answered { .. }
            | What::JobRunning { .. } => {}
        }
    }

    fn end(&mut self, job: &str, at: u64, outcome: &'static str) {
        if let Some((_, start)) = self.running.remove(job) {
            self.over.push((job.to_owned(), start, at, outcome));
        }
    }
}

fn last<T: Clone>(all: &[T], count: usize) -> Vec<T> {
    all[all.len().saturating_sub(count)..].to_vec()
}

/// What a server may tell, a choice for each event.
fn story(choices: &[(u8, u8)]) -> Vec<Event> {
    let (mut workers, mut asked, mut running) = (Vec::new(), Vec::new(), Vec::new());
    let mut events = Vec::new();
    for (at_us, (kind, pick)) in (1..).zip(choices) {
        let of = |list: &[u64]| (!list.is_empty()).then(|| list[usize::from(*pick) % list.len()]);
        let worker = of(&workers).map_or("AW_unknown".to_owned(), |number| format!("AW_{number}"));
        let call = |number: u64| (format!("AJ_{number}"), format!("AD_{number}"), format!("room-{number}"));
        let agent_name = if pick % 3 == 0 { String::new() } else { "a".to_owned() };
        let mut tell = |what| events.push(Event { at_us, what });
        match kind % 12 {
            0 => {
                workers.push(at_us);
                tell(What::WorkerRegistered {
                    worker: format!("AW_{at_us}"),
                    agent_name,
                    version: String::new(),
                });
            }
            1 | 2 => {
                let (available, draining, load) = (pick & 1 == 0, pick & 6 == 6, f32::from(*pick));
                tell(What::WorkerStatus { worker, available, draining, load, jobs: 0 });
            }
            3 => {
                workers.retain(|number| format!("AW_{number}") != worker);
                tell(What::WorkerGone { worker });
            }
            4 | 5 => {
                let (_, dispatch, room) = call(at_us);
                asked.push(at_us);
                tell(What::DispatchCreated { dispatch, room, agent_name });
            }
            6..=9 => {
                let Some(number) = of(&asked) else { continue };
                if pick % 15 != 10 {
                    asked.retain(|one| *one != number);
                }
                if pick % 3 == 0 {
                    running.push(number);
                }
                offer(*pick, call(number), &worker).into_iter().for_each(&mut tell);
            }
            10 => {
                let Some(number) = of(&running) else { continue };
                running.retain(|one| *one != number);
                let (job, dispatch, room) = call(number);
                tell(match pick % 3 {
                    0 => What::JobOrphaned { job, worker, dispatch, room },
                    kind => What::JobEnded { job, worker, success: kind == 1, error: String::new() },
                });
            }
            _ => tell(What::Noted { worker: None, text: at_us.to_string() }),
        }
    }
    events
}

/// An offer, its answer, and what comes of it: nothing where the next worker is to be asked.
fn offer(pick: u8, (job, dispatch, room): (String, String, String), worker: &str) -> Vec<What> {
    let worker = || worker.to_owned();
    let reply = [Reply::Accepted, Reply::Declined, Reply::Terminated][usize::from(pick) % 3];
    let (asked, wish, place) = (job.clone(), dispatch.clone(), room.clone());
    let offered = What::Offered { job: asked.clone(), dispatch: wish, room: place, worker: worker() };
    let answered = What::Answered { job: asked, worker: worker(), reply };
    let outcome = match reply {
        Reply::Accepted => {
            Some(What::Assigned { job, dispatch, room, worker: worker(), identity: String::new() })
        }
        Reply::Declined if pick % 15 == 10 => None,
        Reply::Declined if pick.is_multiple_of(2) => Some(What::Unserved { job, dispatch, room }),
        Reply::Declined => Some(What::Unanswered { job, dispatch, room }),
        Reply::Terminated => None,
    };
    [Some(offered), Some(answered), outcome].into_iter().flatten().collect()
}

fn stories() -> impl Strategy<Value = Vec<Event>> {
    vec((any::<u8>(), any::<u8>()), 0..300).prop_map(|choices| story(&choices))
}

proptest! {
    #[test]
    fn who_opens_late_sees_what_is_kept_as_one_who_was_there(events in stories()) {
        let mut history = History::new(SMALL);
        let full = View::default().of(&events);
        events.into_iter().for_each(|event| history.record(&Arc::new(event)));
        let batch = history.after(0);
        let late = View::new().of(batch.events.iter().map(|(_, event)| &**event));
        prop_assert!(batch.fresh);
        prop_assert_eq!(&late.workers, &full.workers);
        prop_assert_eq!(&late.running, &full.running);
        prop_assert_eq!(&late.over, &last(&full.over, SMALL.ended));
        prop_assert_eq!(&late.gone, &last(&full.gone, SMALL.gone));
        prop_assert_eq!(&late.notes, &last(&full.notes, SMALL.notes));
        let lost = full.over.iter().filter(|call| call.3 == "lost").count();
        prop_assert_eq!((batch.tally.running, batch.tally.unserved + batch.tally.unanswered), (full.running.len(), lost));
        prop_assert_eq!(batch.tally.workers, full.workers.len());
    }

    #[test]
    fn who_follows_now_and_then_misses_no_end_and_sees_nothing_twice(
        events in stories(),
        looks in vec(1_usize..60, 1..50),
    ) {
        let mut history = History::new(SMALL);
        let full = View::default().of(&events);
        let (mut view, mut seen, mut numbers) = (View::new(), 0, BTreeSet::new());
        let mut looks = looks.into_iter().cycle();
        let mut until = looks.next().unwrap_or(1);
        let count = events.len();
        for (index, event) in events.into_iter().enumerate() {
            history.record(&Arc::new(event));
            if index >= until || index + 1 == count {
                until = index + looks.next().unwrap_or(1);
                let batch = history.after(seen);
                if batch.fresh {
                    view = View::new();
                    numbers.clear();
                }
                for (number, event) in &batch.events {
                    prop_assert!(numbers.insert(*number) && numbers.last() == Some(number), "{} again", number);
                    view.see(event);
                }
                seen = batch.latest;
            }
        }
        // A phase that came and went between two looks is not told.
        let phases = |view: &View| view.workers.iter().map(|(id, of)| (id.clone(), of.0, of.2)).collect::<Vec<_>>();
        prop_assert_eq!(phases(&view), phases(&full));
        prop_assert_eq!(&view.running, &full.running);
        for kept in last(&full.over, SMALL.ended) {
            prop_assert!(view.over.iter().filter(|call| **call == kept).count() == 1, "{:?}", kept);
        }
    }

    #[test]
    fn what_is_over_is_bounded(events in stories()) {
        let mut history = History::new(SMALL);
        for event in events {
            history.record(&Arc::new(event));
            let going_on = 3 * history.workers.len() + history.running.len() + history.wishes.len();
            let over = 2 * SMALL.ended + 4 * SMALL.gone + SMALL.offers + SMALL.notes;
            prop_assert!(history.log.len() <= going_on + over);
        }
    }
}

#[test]
fn a_number_of_another_run_starts_afresh() {
    let mut history = History::new(SMALL);
    history.record(&Arc::new(Event::now(What::Noted { worker: None, text: "one".into() })));
    assert!(!history.after(1).fresh && history.after(1).events.is_empty());
    assert!(history.after(9).fresh);
    assert_eq!(history.after(9).events.len(), 1);
}

#[test]
fn a_room_that_wanted_nobody_is_no_loss() {
    let mut history = History::new(SMALL);
    let room = |history: &mut History, number: u32| {
        let (dispatch, job) = (format!("AD_{number}"), format!("AJ_{number}"));
        let room = format!("room-{number}");
        let created = What::DispatchCreated {
            dispatch: dispatch.clone(),
            room: room.clone(),
            agent_name: String::new(),
        };
        history.record(&Arc::new(Event::now(created)));
        history.record(&Arc::new(Event::now(What::Unserved { job, dispatch, room })));
    };
    room(&mut history, 1);
    assert_eq!((history.tally.unserved, history.log.len()), (0, 0));
    let worker = "AW_1".to_owned();
    history.record(&Arc::new(Event::now(What::WorkerRegistered {
        worker,
        agent_name: String::new(),
        version: String::new(),
    })));
    room(&mut history, 2);
    assert_eq!(history.tally.unserved, 1);
}
