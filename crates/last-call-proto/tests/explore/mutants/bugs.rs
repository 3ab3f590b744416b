//! The seeded bugs, each as small as it can be, beside the clause that must find it.
//!
//! Owns the list. Refuses bugs that need more than one hook: they are cases of [`Bug`].

use last_call_proto::{
    Answer, FromServer, Input, JobId, JobState, Link, Loss, Outcome, Output, Phase, Report, Status, Timer,
    ToServer, Worker,
};

use super::{Bug, Seeded};
use crate::scope::Scope;
use crate::scopes::{COPIES, DEADLINE, DRAIN, FLEET, LINK, LOAD, NOISE, OFFERS, QUIET, REFUSED, WEDGE};

const fn seeded(name: &'static str, clause: &'static str, scope: &'static Scope, bug: Bug) -> Seeded {
    Seeded { name, clause, scope, bug }
}

fn drains(worker: &Worker) -> bool {
    matches!(worker.phase(), Phase::Draining | Phase::Drained)
}

fn statuses(frames: &mut [ToServer]) -> impl Iterator<Item = &mut Status> {
    frames
        .iter_mut()
        .filter_map(|frame| if let ToServer::Status(status) = frame { Some(status) } else { None })
}

fn answers(frames: &mut [ToServer]) -> impl Iterator<Item = &mut Answer> {
    frames
        .iter_mut()
        .filter_map(|frame| if let ToServer::Answer(_, answer) = frame { Some(answer) } else { None })
}

fn is_end(frame: &ToServer) -> bool {
    matches!(frame, ToServer::Report(_, Report::Success | Report::Failed(_)))
}

fn runs(worker: &Worker) -> usize {
    worker.jobs().select(|state| matches!(state, JobState::Running(_))).len()
}

fn first_running(worker: &Worker) -> Option<JobId> {
    worker.jobs().select(|state| matches!(state, JobState::Running(_))).into_iter().next()
}

pub(super) const BUGS: &[Seeded] = &[
    seeded(
        "ignores the signal while it dials",
        "DRAIN-1",
        &DRAIN,
        Bug::Input(|worker, input| {
            (input != Input::Drain || worker.link() != Link::Dialling).then_some(input)
        }),
    ),
    seeded(
        "forgets to say FULL when a job runs",
        "DRAIN-1",
        &DRAIN,
        Bug::Frames(|worker, frames| {
            if runs(worker) > 0 {
                frames.retain(|frame| !matches!(frame, ToServer::Status(_)));
            }
        }),
    ),
    seeded(
        "waits on its jobs without bound",
        "DRAIN-1",
        &DRAIN,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| *output != Output::Arm(Timer::DrainTell));
        }),
    ),
    seeded(
        "puts FULL behind other frames",
        "DRAIN-2",
        &DRAIN,
        Bug::Frames(|worker, frames| {
            if drains(worker) && frames.len() > 1 && frames.first() != Some(&ToServer::Register) {
                frames.rotate_left(1);
            }
        }),
    ),
    seeded(
        "forgets FULL over a reconnect",
        "DRAIN-2",
        &DRAIN,
        Bug::Frames(|_, frames| {
            if frames.first() == Some(&ToServer::Register) {
                frames.truncate(1);
            }
        }),
    ),
    seeded(
        "accepts after the signal",
        "DRAIN-3",
        &DRAIN,
        Bug::Frames(|worker, frames| {
            if drains(worker) {
                answers(frames).for_each(|answer| *answer = Answer::Accept);
            }
        }),
    ),
    seeded(
        "ends the call where it declines in a drain",
        "DRAIN-3",
        &DRAIN,
        Bug::Frames(|worker, frames| {
            if drains(worker) {
                answers(frames).for_each(|answer| *answer = Answer::Terminate);
            }
        }),
    ),
    seeded(
        "is deaf to offers in a drain",
        "DRAIN-3",
        &DRAIN,
        Bug::Input(|worker, input| {
            let offer = matches!(input, Input::Received(FromServer::Offer(_)));
            (!offer || !drains(worker)).then_some(input)
        }),
    ),
    seeded(
        "drops an assignment that comes in a drain",
        "DRAIN-4",
        &DRAIN,
        Bug::Input(|worker, input| {
            let assignment = matches!(input, Input::Received(FromServer::Assignment(_)));
            (!assignment || !drains(worker)).then_some(input)
        }),
    ),
    seeded(
        "leaves with an acceptance unassigned",
        "DRAIN-4",
        &DRAIN,
        Bug::Outputs(|worker, input, outputs| {
            let accepted = !worker.jobs().select(|state| state == JobState::Accepted).is_empty();
            if *input == Input::Drain && accepted && runs(worker) == 0 {
                outputs.push(Output::Exit(Outcome::Finished));
            }
        }),
    ),
    seeded(
        "leaves when the first of two jobs ends",
        "DRAIN-5",
        &DRAIN,
        Bug::Outputs(|worker, input, outputs| {
            if drains(worker) && runs(worker) > 1 && matches!(input, Input::Ended(..)) {
                outputs.push(Output::Exit(Outcome::Finished));
            }
        }),
    ),
    seeded(
        "sleeps its last timeout out",
        "DRAIN-5",
        &DRAIN,
        Bug::Outputs(|_, input, outputs| {
            if *input != Input::Fired(Timer::Flush) {
                outputs.retain(|output| !matches!(output, Output::Exit(_)));
            }
        }),
    ),
    seeded(
        "cancels a job that was never told",
        "DRAIN-6",
        &DEADLINE,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| !matches!(output, Output::Tell(..)));
        }),
    ),
    seeded(
        "kills where it should cancel",
        "DRAIN-6",
        &DEADLINE,
        Bug::Outputs(|_, _, outputs| {
            for output in outputs {
                if let Output::Cancel(job) = output {
                    *output = Output::Kill(job.clone());
                }
            }
        }),
    ),
    seeded(
        "waits without bound for shutdown callbacks",
        "DRAIN-6",
        &DEADLINE,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| !matches!(output, Output::Arm(Timer::Kill(_))));
        }),
    ),
    seeded(
        "drains behind its jobs' backs",
        "DRAIN-7",
        &DRAIN,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| !matches!(output, Output::Notify(_)));
        }),
    ),
    seeded(
        "notifies again at the deadline",
        "DRAIN-7",
        &DEADLINE,
        Bug::Outputs(|worker, input, outputs| {
            if *input == Input::Fired(Timer::DrainTell) {
                outputs.extend(first_running(worker).map(Output::Notify));
            }
        }),
    ),
    seeded(
        "exits 0 whatever it cut off",
        "DRAIN-8",
        &DEADLINE,
        Bug::Outputs(|_, _, outputs| {
            if let Some(Output::Exit(outcome)) = outputs.last_mut() {
                *outcome = Outcome::Finished;
            }
        }),
    ),
    seeded(
        "forgets one of the jobs that it cut off",
        "DRAIN-8",
        &DEADLINE,
        Bug::Outputs(|_, _, outputs| {
            if let Some(Output::Exit(Outcome::CutOff(jobs))) = outputs.last_mut() {
                jobs.truncate(1);
            }
        }),
    ),
    seeded(
        "takes the second signal for force",
        "DRAIN-9",
        &DRAIN,
        Bug::Input(|worker, input| {
            Some(if input == Input::Drain && drains(worker) { Input::Force } else { input })
        }),
    ),
    seeded(
        "takes force for a drain",
        "DRAIN-9",
        &DEADLINE,
        Bug::Input(|_, input| Some(if input == Input::Force { Input::Drain } else { input })),
    ),
    seeded(
        "accepts while quiet",
        "DRAIN-11",
        &QUIET,
        Bug::Frames(|worker, frames| {
            if worker.phase() == Phase::Quiet {
                answers(frames).for_each(|answer| *answer = Answer::Accept);
            }
        }),
    ),
    seeded(
        "stays quiet",
        "DRAIN-11",
        &QUIET,
        Bug::Input(|_, input| (input != Input::Unquiet).then_some(input)),
    ),
    seeded("stays FULL after quiet", "DRAIN-11", &QUIET, Bug::LostUnquiet),
    seeded(
        "takes unquiet for the end of a drain",
        "DRAIN-11",
        &QUIET,
        Bug::Outputs(|worker, input, outputs| {
            if *input == Input::Unquiet && drains(worker) {
                outputs.push(Output::Exit(Outcome::Finished));
            }
        }),
    ),
    seeded(
        "advertises itself in a drain",
        "REG-1",
        &DRAIN,
        Bug::Frames(|worker, frames| {
            if drains(worker) {
                statuses(frames).for_each(|status| status.available = true);
            }
        }),
    ),
    seeded(
        "never dials again",
        "REG-1",
        &DRAIN,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| *output != Output::Arm(Timer::Redial));
        }),
    ),
    seeded(
        "dials without a bound",
        "REG-1",
        &REFUSED,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| *output != Output::Arm(Timer::Dial));
        }),
    ),
    seeded(
        "stays available while wedged",
        "REG-1",
        &WEDGE,
        Bug::Frames(|worker, frames| {
            if worker.wedged() {
                statuses(frames).for_each(|status| status.available = true);
            }
        }),
    ),
    seeded(
        "stays available over its threshold",
        "REG-1",
        &LOAD,
        Bug::Input(|_, input| (!matches!(input, Input::Load(_))).then_some(input)),
    ),
    seeded(
        "never pings",
        "REG-2",
        &LINK,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| *output != Output::Arm(Timer::Ping));
        }),
    ),
    seeded(
        "does not wait for a pong",
        "REG-2",
        &LINK,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| *output != Output::Arm(Timer::Pong));
        }),
    ),
    seeded(
        "leaves when it is refused on a reconnect",
        "REG-3",
        &REFUSED,
        Bug::Outputs(|_, input, outputs| {
            if *input == Input::Lost(Loss::Refused) {
                outputs.push(Output::Exit(Outcome::Refused));
            }
        }),
    ),
    seeded(
        "tries for ever with a wrong key",
        "REG-3",
        &REFUSED,
        Bug::Input(|_, input| {
            Some(if input == Input::Lost(Loss::Refused) { Input::Lost(Loss::Broken) } else { input })
        }),
    ),
    seeded(
        "answers twice",
        "JOB-1",
        &DRAIN,
        Bug::Frames(|_, frames| {
            let again = frames
                .iter()
                .filter(|frame| matches!(frame, ToServer::Answer(..)))
                .cloned()
                .collect::<Vec<_>>();
            frames.extend(again);
        }),
    ),
    seeded(
        "drops an offer that user code is silent about",
        "JOB-1",
        &WEDGE,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| !matches!(output, Output::Arm(Timer::Heartbeat(_))));
        }),
    ),
    seeded(
        "drops the answers of a worker that is full",
        "JOB-1",
        &FLEET,
        Bug::Frames(|_, frames| {
            frames.retain(|frame| !matches!(frame, ToServer::Answer(_, Answer::Decline)));
        }),
    ),
    seeded("sends a yes that comes too late", "JOB-1", &OFFERS, Bug::LateYes),
    seeded(
        "takes one job too many",
        "JOB-2",
        &OFFERS,
        Bug::Limits(|limits| {
            limits.max_jobs = limits.max_jobs.map(|max| max + 1);
        }),
    ),
    seeded(
        "lets an agent leave before its report",
        "JOB-3",
        &DRAIN,
        Bug::Outputs(|_, input, outputs| {
            if let Input::Ended(job, _) = input {
                outputs.insert(0, Output::Release(job.clone()));
            }
        }),
    ),
    seeded(
        "reports an end twice",
        "JOB-3",
        &DRAIN,
        Bug::Frames(|_, frames| {
            let again = frames.iter().filter(|frame| is_end(frame)).cloned().collect::<Vec<_>>();
            frames.extend(again);
        }),
    ),
    seeded(
        "reports a failure as a success",
        "JOB-3",
        &DEADLINE,
        Bug::Frames(|_, frames| {
            for frame in frames {
                if let ToServer::Report(_, report @ Report::Failed(_)) = frame {
                    *report = Report::Success;
                }
            }
        }),
    ),
    seeded(
        "keeps the slot of a job that never comes",
        "JOB-5",
        &OFFERS,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| !matches!(output, Output::Arm(Timer::Assignment(_))));
        }),
    ),
    seeded(
        "hangs up on garbage",
        "WIRE-1",
        &NOISE,
        Bug::Outputs(|_, input, outputs| {
            if *input == Input::Garbage {
                outputs.push(Output::HangUp);
            }
        }),
    ),
    seeded(
        "starts a job twice",
        "WIRE-1",
        &COPIES,
        Bug::Outputs(|worker, input, outputs| {
            if let Input::Received(FromServer::Assignment(job)) = input
                && matches!(worker.jobs().get(job), Some(JobState::Running(_)))
            {
                outputs.push(Output::Launch(job.clone()));
            }
        }),
    ),
    seeded(
        "speaks before it is registered",
        "WIRE-2",
        &DRAIN,
        Bug::Frames(|_, frames| {
            if frames.first() == Some(&ToServer::Register) {
                frames.push(ToServer::Migrate(Vec::new()));
            }
        }),
    ),
    seeded(
        "registers twice",
        "WIRE-2",
        &LINK,
        Bug::Frames(|_, frames| {
            if frames.contains(&ToServer::Ping) {
                frames.insert(0, ToServer::Register);
            }
        }),
    ),
    seeded(
        "leaves timers behind",
        "CORE",
        &OFFERS,
        Bug::Outputs(|_, _, outputs| {
            outputs.retain(|output| !matches!(output, Output::Disarm(Timer::Answer(_))));
        }),
    ),
    seeded(
        "talks on after its exit",
        "CORE",
        &DRAIN,
        Bug::Outputs(|_, _, outputs| {
            if matches!(outputs.last(), Some(Output::Exit(_))) {
                outputs.push(Output::Dial);
            }
        }),
    ),
];
