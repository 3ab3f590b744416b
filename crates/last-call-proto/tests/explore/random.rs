//! Long random histories, where exploring to the end is out of reach.
//!
//! Owns depth: hundreds of steps, twenty jobs, three workers, many reconnects, under the same clauses; and the
//! cores alone under inputs that no driver would give. Refuses breadth: the scopes have that.

use last_call_proto::{
    ConnId, Decision, Dispatcher, DispatcherInput, DispatcherTimer, End, FromServer, Input, JobId, Limits,
    Load, Loss, Output, Report, Status, Timer, ToServer, Worker,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::action::Action;
use crate::clauses::{self, Clause};
use crate::explorer::{Counterexample, conversation};
use crate::mutants::{self, Mutant};
use crate::scope::{Budget, Scope};
use crate::scopes::{NOISE, NONE};
use crate::subject::Subject;
use crate::world::World;

/// Everything at once.
const LONG: Scope = Scope {
    workers: 3,
    half_open: true,
    late: true,
    hasty: true,
    fails: true,
    decisions: &[Decision::Accept, Decision::Accept, Decision::Accept, Decision::Reject, Decision::Terminate],
    loads: &[0, 300, 900],
    noise: NOISE.noise,
    ..Scope::new("long", NONE)
};

/// As much as [`LONG`], but user code and server do what they should, so that no call may be lost.
const FAIR: Scope = Scope { half_open: false, hasty: false, healthy: true, late: true, fails: true, ..LONG };

fn budgets() -> impl Strategy<Value = Budget> {
    let often = 0..30_u8;
    let signals = (0..4_u8, 0..2_u8, 0..10_u8);
    (often.clone(), often.clone(), often.clone(), signals, 0..8_u8).prop_map(
        |(drops, keepalives, noise, (drains, forces, quiets), few)| Budget {
            jobs: 20,
            drops,
            refusals: few,
            drains,
            forces,
            quiets,
            loads: few,
            terminations: few,
            stops: few,
            finishes: few,
            keepalives,
            probes: 30,
            noise,
        },
    )
}

/// One draw: how lucky, and which.
type Choice = (u8, u16);

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    vec(any::<Choice>(), 200..800)
}

/// Ends a history early, and so is let happen seldom.
fn is_last(action: &Action) -> bool {
    matches!(action, Action::Say(_, Input::Drain | Input::Force | Input::Lost(Loss::Refused)))
}

/// Moves things on.
fn is_progress(action: &Action) -> bool {
    match action {
        Action::Say(_, input) => {
            matches!(input, Input::Start | Input::Heartbeat(_) | Input::Decided(..) | Input::ProbeAnswered)
        }
        Action::Fire(_, timer) => matches!(timer, Timer::Redial | Timer::Probe),
        Action::Opens(_) | Action::Write(_) | Action::Flush(_) | Action::Up(_) | Action::Down(_) => true,
        Action::Drop(_)
        | Action::Cut(_)
        | Action::Notice(_)
        | Action::Noise(..)
        | Action::Dispatch
        | Action::Draw(..)
        | Action::Terminate(_)
        | Action::ServerFire(_) => false,
    }
}

/// Walks one history to its end, or to the first step that breaks one of `clauses`.
fn walk<S: Subject>(
    subject: &S,
    scope: &Scope,
    clauses: &[&'static Clause],
    choices: &[Choice],
) -> Option<Counterexample> {
    let mut world = World::new(subject.clone(), scope);
    let mut path = Vec::new();
    for (luck, choice) in choices {
        let mut actions = world.actions(scope);
        let wanted: fn(&Action) -> bool = match luck {
            0..3 => is_last,
            3..96 => |action| !is_last(action),
            96.. => is_progress,
        };
        if actions.iter().any(wanted) {
            actions.retain(wanted);
        }
        let Some(action) = actions.get(usize::from(*choice) % actions.len().max(1)) else { break };
        let before = world.clone();
        let effects = world.apply(action, scope);
        path.push(action.clone());
        if let Some(clause) = clauses::broken(clauses, scope, &before, &world, &effects) {
            return Some(Counterexample { clause, path });
        }
    }
    None
}

fn holds(scope: &Scope, choices: &[Choice]) -> Result<(), TestCaseError> {
    let worker = Worker::new(scope.limits);
    let Some(found) = walk(&worker, scope, &clauses::all().collect::<Vec<_>>(), choices) else {
        return Ok(());
    };
    let told = conversation(worker, scope, &found.path);
    Err(TestCaseError::fail(format!("{}: {}, but:\n{told}", found.clause.id, found.clause.says)))
}

/// A walk that no seeded bug trips over would be no proof.
#[test]
fn random_histories_catch_seeded_bugs_too() {
    let mut runner = TestRunner::deterministic();
    let mut draw = || (budgets(), choices()).new_tree(&mut runner).expect("any history will do").current();
    let histories = (0..768).map(|_| draw()).collect::<Vec<_>>();
    let caught = |(_, clause, mutant): &(&str, &str, Mutant)| {
        let clauses = clauses::all().filter(|of| of.id == *clause).collect::<Vec<_>>();
        let mut walks = histories.iter();
        walks.any(|(budget, choices)| {
            walk(mutant, &Scope { budget: *budget, ..LONG }, &clauses, choices).is_some()
        })
    };
    let missed = mutants::all(LONG.limits).filter(|mutant| !caught(mutant)).map(|(name, ..)| name);
    let missed = missed.collect::<Vec<_>>();
    assert!(missed.len() < 4, "a few need more luck than these histories have, but not so many: {missed:?}");
}

fn jobs() -> impl Strategy<Value = JobId> {
    select(&["A", "B", "C", "D"][..]).prop_map(JobId::from)
}

fn loads() -> impl Strategy<Value = Load> {
    (0..=1_000_u16).prop_map(Load::from_thousandths)
}

fn timers() -> impl Strategy<Value = Timer> {
    let bare = select(vec![
        Timer::Dial,
        Timer::Register,
        Timer::Redial,
        Timer::Ping,
        Timer::Pong,
        Timer::Refresh,
        Timer::Probe,
        Timer::DrainTell,
        Timer::DrainCancel,
        Timer::DrainKill,
        Timer::Flush,
    ]);
    let of_job = [Timer::Heartbeat, Timer::Answer, Timer::Assignment, Timer::Cancel, Timer::Kill];
    prop_oneof![bare, (jobs(), select(of_job.to_vec())).prop_map(|(job, timer)| timer(job))]
}

fn frames() -> impl Strategy<Value = FromServer> {
    let of_job = [FromServer::Offer, FromServer::Assignment, FromServer::Termination];
    prop_oneof![
        1 => select(vec![FromServer::Registered, FromServer::GoAway, FromServer::Other]),
        3 => (jobs(), select(of_job.to_vec())).prop_map(|(job, frame)| frame(job)),
    ]
}

fn inputs() -> impl Strategy<Value = Input> {
    let decisions = select(vec![Decision::Accept, Decision::Reject, Decision::Terminate, Decision::Fail]);
    let ends = select(vec![End::Success, End::Failed("user code failed".into())]);
    prop_oneof![
        4 => select(vec![Input::Start, Input::Connected, Input::Flushed, Input::Garbage, Input::ProbeAnswered]),
        2 => select(vec![Input::Lost(Loss::Broken), Input::Lost(Loss::Refused)]),
        1 => select(vec![Input::Drain, Input::Force, Input::Quiet, Input::Unquiet]),
        8 => frames().prop_map(Input::Received),
        4 => timers().prop_map(Input::Fired),
        4 => (jobs(), decisions).prop_map(|(job, decision)| Input::Decided(job, decision)),
        2 => (jobs(), ends).prop_map(|(job, end)| Input::Ended(job, end)),
        1 => jobs().prop_map(Input::Heartbeat),
        1 => jobs().prop_map(Input::Finishing),
        1 => jobs().prop_map(Input::StopRequested),
        1 => loads().prop_map(Input::Load),
    ]
}

fn server_inputs() -> impl Strategy<Value = DispatcherInput> {
    let conns = || (0..3_u32).prop_map(ConnId);
    let answers = select(vec![
        last_call_proto::Answer::Accept,
        last_call_proto::Answer::Decline,
        last_call_proto::Answer::Terminate,
    ]);
    let statuses = (any::<bool>(), any::<bool>(), loads());
    let said = prop_oneof![
        select(vec![ToServer::Register, ToServer::Ping, ToServer::Migrate(Vec::new())]),
        statuses.prop_map(|(available, draining, load)| {
            ToServer::Status(Status { available, draining, load, jobs: 0 })
        }),
        (jobs(), answers).prop_map(|(job, answer)| ToServer::Answer(job, answer)),
        (jobs(), select(vec![Report::Running, Report::Success]))
            .prop_map(|(job, report)| ToServer::Report(job, report)),
    ];
    prop_oneof![
        1 => conns().prop_map(DispatcherInput::Connected),
        1 => conns().prop_map(DispatcherInput::Closed),
        4 => (conns(), said).prop_map(|(conn, frame)| DispatcherInput::Received(conn, frame)),
        2 => jobs().prop_map(DispatcherInput::Dispatch),
        2 => (jobs(), conns()).prop_map(|(job, conn)| DispatcherInput::Chosen(job, conn)),
        1 => jobs().prop_map(DispatcherInput::Terminate),
        1 => conns().prop_map(|conn| DispatcherInput::Fired(DispatcherTimer::Register(conn))),
        1 => jobs().prop_map(|job| DispatcherInput::Fired(DispatcherTimer::Budget(job))),
    ]
}

/// Feeds `inputs`, writing after every `write_after`-th, and returns the outputs.
fn feed(worker: &mut Worker, inputs: Vec<Input>, write_after: usize) -> Vec<Output> {
    let mut outputs = Vec::new();
    for (at, input) in inputs.into_iter().enumerate() {
        worker.handle(input);
        outputs.extend(std::iter::from_fn(|| worker.poll_output()));
        if at % write_after == 0 {
            while worker.poll_transmit().is_some() {}
        }
    }
    outputs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_clause_holds_in_long_histories(
        budget in budgets(),
        max_jobs in select(vec![None, Some(1), Some(3)]),
        choices in choices(),
    ) {
        let limits = Limits { max_jobs, ..LONG.limits };
        holds(&Scope { budget, limits, ..LONG }, &choices)?;
    }

    #[test]
    fn job_1_no_call_is_lost_beside_a_healthy_worker(
        budget in budgets(),
        choices in choices(),
    ) {
        // A server that ends its own offers, or makes them up, loses calls by itself.
        let budget = Budget { noise: 0, terminations: 0, ..budget };
        holds(&Scope { budget, ..FAIR }, &choices)?;
    }

    #[test]
    fn drain_6_whatever_happened_the_drain_has_an_end(
        inputs in vec(inputs(), 0..300),
        write_after in 1..8_usize,
    ) {
        let mut worker = Worker::new(LONG.limits);
        let mut outputs = feed(&mut worker, inputs, write_after);
        let stages = [Timer::DrainTell, Timer::DrainCancel, Timer::DrainKill, Timer::Flush].map(Input::Fired);
        outputs.extend(feed(&mut worker, [vec![Input::Drain], stages.to_vec()].concat(), usize::MAX));
        let exits = outputs.iter().filter(|output| matches!(output, Output::Exit(_))).count();
        prop_assert_eq!(exits, 1);
        prop_assert!(matches!(outputs.last(), Some(Output::Exit(_))), "{:?}", outputs.last());
    }

    #[test]
    fn wire_1_the_server_survives_any_input(inputs in vec(server_inputs(), 0..300)) {
        let mut dispatcher = Dispatcher::new(Load::from_thousandths(700));
        for input in inputs {
            dispatcher.handle(input);
            while dispatcher.poll_output().is_some() {}
        }
    }
}
