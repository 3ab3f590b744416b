//! Owns the course of a cell: the worker in its state, the fault, the return, the drain, the end. Refuses to judge what came of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use livekit_protocol as proto;
use livekit_protocol::JobStatus;
use livekit_protocol::server_message::Message as ToWorker;
use livekit_protocol::worker_message::Message as FromWorker;
use nix::sys::signal::Signal;

use super::dice::Dice;
use super::road::Road;
use super::verdict::{Expected, Verdict, is_available, is_end, is_full, report_of, status_of};
use super::{Cell, SOON, State, Subject};
use crate::child::{Child, Exit};
use crate::stub::{Event, Job, Offer, What};

/// Longer than any cell.
const LONG: &str = r#"{"sleep": 3600}"#;
/// Well within what a server waits for an answer.
const HELD: &str = r#"{"accept_delay": 1.5}"#;
const SHORT: &str = "{}";

/// A call that ends by itself while its worker has no server: long enough for that to come first.
const OUTLASTS: Duration = Duration::from_secs(4);

/// A worker may decline for a reason of its own, as on a busy machine.
const TRIES: usize = 10;

/// Runs one cell. Equal seeds make equal choices; what a busy machine makes of them may differ.
///
/// # Errors
/// When the worker did not get as far as its end, with all that it said: it does not come back, takes no call again, does not
/// leave; or when the fault did not find it in its state.
pub fn run(subject: &Subject, cell: Cell, seed: u64) -> Result<Verdict> {
    let started = Instant::now();
    let road = Road::build(cell.fault)?;
    let worker = road.launch(&subject.0).spawn()?;
    let mut play =
        Play { worker, road, cell, dice: Dice::new(cell, seed), offered: 0, expected: Expected::default() };
    match play.play() {
        Ok(exit) => Ok(play.verdict(started, exit)),
        Err(error) => {
            let left = play.worker.try_wait().map_or("it runs", |_| "it has left");
            Err(anyhow!("{error:#}\nthe worker ({left}) said:\n{}", play.worker.output()))
        }
    }
}

/// Dropped in this order: the worker first.
struct Play {
    worker: Child,
    road: Road,
    cell: Cell,
    dice: Dice,
    offered: usize,
    expected: Expected,
}

impl Play {
    fn play(&mut self) -> Result<Exit> {
        self.road.stub.wait_registered(0, SOON)?;
        let linger = self.dice.while_up_to(Duration::from_millis(300));
        let outlasts = self.cell.state == State::Exiting && self.road.gate().is_none();
        if self.cell.state != State::Idle && !outlasts {
            self.call("call", LONG)?;
        }
        let mut waiting = None;
        match self.cell.state {
            State::Idle | State::Running => {}
            State::Offered => waiting = Some(self.hold_an_offer()?),
            State::Accepted => {
                self.road.stub.set_assign(None);
                waiting = Some(self.accepted("waits", LONG)?);
                self.road.stub.set_assign(Some(Duration::ZERO));
            }
            State::Draining => self.drain()?,
            State::Exiting if outlasts => return self.leave_without_a_server(),
            State::Exiting => return self.leave_amid_the_last_report(),
        }
        // Not to wait for anything: so that faults meet the worker's timers anywhere.
        std::thread::park_timeout(linger);
        if let Some(waiting) = &waiting
            && self.cell.state == State::Offered
        {
            ensure!(self.offer_of(waiting)?.answer.is_none(), "the offer was answered before the fault");
        }
        self.fail_and_heal()?;
        if let Some(waiting) = waiting
            && self.cell.state == State::Accepted
        {
            self.assign_as_the_server_would(&waiting)?;
        }
        if self.cell.state != State::Draining {
            self.call("after", LONG)?;
            self.drain()?;
        }
        self.finish()
    }

    /// The fault, from its beginning until the worker is registered behind it.
    fn fail_and_heal(&mut self) -> Result<()> {
        let before = self.registered()?;
        let struck = self.road.strike(&mut self.dice, false)?;
        self.offer_some();
        self.road.noticed(&struck)?;
        self.road.heal()?;
        if self.road.breaks() {
            let back = self.road.stub.wait_registered(struck.mark, SOON).context("the worker is not back")?;
            ensure!(back > before, "the connection that broke was used again");
            self.road.calm();
        }
        self.offer_some();
        self.await_answers();
        if !self.road.breaks() {
            ensure!(self.registered()? == before, "a slow connection was given up, though nothing was lost");
        }
        Ok(())
    }

    /// A server forgets an acceptance with its connection, and keeps it on one that stands.
    fn assign_as_the_server_would(&mut self, waiting: &str) -> Result<()> {
        if !self.road.breaks() {
            self.road.stub.assign(waiting, None, None)?;
            self.running(waiting)?;
            self.expected.to_be_reported.push(waiting.to_owned());
        }
        Ok(())
    }

    /// The drain with offers around its signal, until each has its answer.
    fn drain(&mut self) -> Result<()> {
        self.offer_some();
        let mark = self.road.stub.mark();
        self.expected.signalled = Some(mark);
        self.worker.signal(Signal::SIGTERM)?;
        self.offer_some();
        let full = |event: &_| status_of(event).filter(|status| is_full(status)).map(drop);
        self.road.stub.wait_for_after(mark, full, SOON).context("no WS_FULL after SIGTERM")?;
        self.offer_some();
        self.await_answers();
        Ok(())
    }

    /// Ends the calls, and with the last one the worker.
    fn finish(&mut self) -> Result<Exit> {
        for call in self.expected.to_be_reported.clone() {
            let mark = self.terminate(&call)?;
            self.end_of(&call, mark)?;
        }
        self.worker.wait(SOON)
    }

    fn leave_amid_the_last_report(&mut self) -> Result<Exit> {
        self.drain()?;
        let [call] = self.expected.to_be_reported.clone().try_into().ok().context("one call runs")?;
        let gate = self.road.gate().context("no gate")?;
        gate.arm();
        let mark = self.terminate(&call)?;
        gate.wait()?;
        self.road.strike(&mut self.dice, true)?;
        gate.open();
        let exit = self.worker.wait(SOON)?;
        if self.road.breaks() {
            self.expected.cut_at_its_report = self.expected.to_be_reported.pop();
        } else {
            self.end_of(&call, mark)?;
        }
        Ok(exit)
    }

    /// The last call ends by itself while the worker tries to reach its server.
    fn leave_without_a_server(&mut self) -> Result<Exit> {
        let call = self.accepted("call", &format!(r#"{{"sleep": {}}}"#, OUTLASTS.as_secs()))?;
        self.running(&call)?;
        let assigned = |event: &Event| {
            matches!(&event.what, What::Sent(ToWorker::Assignment(assignment))
                if assignment.job.as_ref().is_some_and(|job| job.id == call))
            .then_some(event.at)
        };
        let until = self.road.stub.wait_for(assigned, SOON)? + OUTLASTS;
        self.drain()?;
        let struck = self.road.strike(&mut self.dice, true)?;
        self.road.noticed(&struck)?;
        ensure!(
            Instant::now() < until,
            "the call was over before the fault was there: the machine is too slow"
        );
        self.expected.ends_by_itself = Some((call, until));
        self.worker.wait(SOON)
    }

    /// An offer that user code thinks about: it has heard of that one when it has answered a later one.
    fn hold_an_offer(&mut self) -> Result<String> {
        for _ in 0..TRIES {
            let held = self.name("held");
            self.road.stub.offer(Job::new(&held).metadata(HELD))?;
            self.accepted("beside", SHORT)?;
            if self.offer_of(&held)?.answer.is_none() {
                return Ok(held);
            }
        }
        bail!("no offer was held in {TRIES} tries: does the worker know accept_delay?")
    }

    /// Has a call run, which is to be reported in the end.
    fn call(&mut self, name: &str, orders: &str) -> Result<()> {
        let call = self.accepted(name, orders)?;
        self.running(&call)?;
        self.expected.to_be_reported.push(call);
        Ok(())
    }

    fn running(&self, call: &str) -> Result<()> {
        let runs = |event: &_| {
            report_of(event)
                .filter(|report| report.job_id == call && report.status() == JobStatus::JsRunning)
                .map(drop)
        };
        self.road.stub.wait_for(runs, SOON).with_context(|| format!("{call} does not run"))
    }

    /// Offers until one is taken; its id.
    fn accepted(&mut self, name: &str, orders: &str) -> Result<String> {
        for _ in 0..TRIES {
            let (id, mark) = (self.name(name), self.road.stub.mark());
            self.road.stub.offer(Job::new(&id).metadata(orders))?;
            let answer = |event: &Event| match event.message() {
                Some(FromWorker::Availability(answer)) if answer.job_id == id => Some(answer.available),
                _ => None,
            };
            if self.road.stub.wait_for_after(mark, answer, SOON).context("a call has no answer")? {
                return Ok(id);
            }
            let available = |event: &_| status_of(event).filter(|status| is_available(status)).map(drop);
            self.road.stub.wait_for_after(mark, available, SOON).context("a call was declined")?;
        }
        bail!("{TRIES} calls were declined by an available worker")
    }

    /// Offers a few short jobs to a worker that may just be gone.
    fn offer_some(&mut self) {
        for _ in 0..self.dice.number(1, 4) {
            let job = Job::new(self.name("short")).metadata(SHORT);
            // Without a connection nobody is asked.
            let _ = self.road.stub.offer(job);
        }
    }

    /// Waits for the answers on the newest connection; those that do not come are counted in the end.
    fn await_answers(&self) {
        let Some(connection) = self.road.stub.registered() else { return };
        let open = |offer: &Offer| offer.connection == connection && offer.answer.is_none();
        let mut open: Vec<String> =
            self.road.stub.offers().into_iter().filter(open).map(|offer| offer.job_id).collect();
        let answered = |event: &Event| {
            if let Some(FromWorker::Availability(answer)) = event.message() {
                open.retain(|id| *id != answer.job_id);
            }
            open.is_empty().then_some(())
        };
        let _ = self.road.stub.wait_for(answered, SOON);
    }

    /// Tells the worker, on the connection that it has now, that a call is over; from where its report is to be looked for.
    fn terminate(&self, call: &str) -> Result<usize> {
        let mark = self.road.stub.mark();
        let termination = proto::JobTermination { job_id: call.to_owned() };
        self.road.stub.send(self.registered()?, ToWorker::Termination(termination))?;
        Ok(mark)
    }

    fn end_of(&self, call: &str, mark: usize) -> Result<()> {
        let ended =
            |event: &_| report_of(event).filter(|report| report.job_id == call && is_end(report)).map(drop);
        let end = self.road.stub.wait_for_after(mark, ended, SOON);
        end.with_context(|| format!("the end of {call} is not reported"))
    }

    fn registered(&self) -> Result<u64> {
        self.road.stub.registered().context("no worker is registered")
    }

    fn offer_of(&self, job: &str) -> Result<Offer> {
        let offer = self.road.stub.offers().into_iter().find(|offer| offer.job_id == job);
        offer.with_context(|| format!("{job} was not offered"))
    }

    fn name(&mut self, name: &str) -> String {
        self.offered += 1;
        format!("{name}-{}", self.offered)
    }

    fn verdict(&self, started: Instant, exit: Exit) -> Verdict {
        let broken = self.cell.state == State::Exiting && self.road.breaks();
        let (events, offers) = (self.road.stub.events(), self.road.stub.offers());
        let output = self.worker.output();
        Verdict::of(&events, &offers, &self.expected, broken, exit, started.elapsed(), output)
    }
}
