//! The wait for a worker that drains.
//!
//! Owns when it has left: nobody listens at its socket, or another does. Refuses to judge its drain: how it went
//! is in the worker's exit code and last log line.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::ask::{self, Progress, Seen, Unreached};
use super::{note, say};
use crate::shown;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// What follows a spent budget takes less than a second on an idle machine.
const SLACK: Duration = Duration::from_secs(5);
/// The patience with a worker that has not told its budget.
const UNTOLD: Duration = Duration::from_secs(30);

/// Waits until the worker that was ordered to drain has left, and says how it goes; whether it has, within
/// `timeout` or else what is left of its budget.
pub(super) async fn until_gone(socket: &Path, pid: Option<i32>, timeout: Option<Duration>) -> bool {
    let asked = Instant::now();
    let mut deadline = asked + timeout.unwrap_or(UNTOLD);
    let mut started = None;
    let mut told = None;
    loop {
        match timeout_at(deadline, ask::status(socket)).await {
            Ok(Ok(seen)) => match look(&seen, pid, started) {
                Look::Gone => break,
                Look::NotYet => {}
                Look::Drains(drain) => {
                    if started.replace(drain.started).is_none() && timeout.is_none() {
                        deadline = Instant::now() + drain.time_left() + SLACK;
                    }
                    if told.replace(drain.jobs_finished) != Some(drain.jobs_finished) {
                        say(socket, format_args!("{}, {}", shown::line(&seen.status.phase), progress(drain)));
                    }
                }
            },
            Ok(Err(Unreached::Missing | Unreached::Dead)) => break,
            // A busy machine, or a worker that is just leaving; the next look says more.
            Ok(Err(_)) | Err(_) => {}
        }
        if Instant::now() >= deadline {
            note(
                socket,
                format_args!("still there after {}; its drain goes on", in_seconds(asked.elapsed())),
            );
            return false;
        }
        sleep(EVERY).await;
    }
    say(socket, format_args!("left after {}", in_seconds(asked.elapsed())));
    true
}

/// What a status says of the worker that is waited for.
#[derive(Debug, PartialEq)]
enum Look<'s> {
    /// It is of the next worker at this path.
    Gone,
    /// It took the order, and does not show it yet.
    NotYet,
    Drains(&'s Progress),
}

/// Tells a worker from the next one by its process, where that can be seen, and by its drain, which cannot be undone.
fn look(seen: &Seen, pid: Option<i32>, started: Option<f64>) -> Look<'_> {
    match (&seen.status.drain, started) {
        _ if seen.pid != pid => Look::Gone,
        (None, None) => Look::NotYet,
        (None, Some(_)) => Look::Gone,
        (Some(drain), Some(started)) if (drain.started - started).abs() > 1e-3 => Look::Gone,
        (Some(drain), _) => Look::Drains(drain),
    }
}

/// A drain in a few words.
pub(super) fn progress(drain: &Progress) -> String {
    let left = humantime::format_duration(drain.time_left());
    format!("{} of {} jobs ended, {left} left", drain.jobs_finished, drain.jobs_at_start)
}

fn in_seconds(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Map, json};

    use super::*;
    use crate::orders::ask::Status;

    fn seen(pid: Option<i32>, started: Option<f64>) -> Seen {
        let drain = started.map(
            |started| json!({"started": started, "time_left": 60.0, "jobs_at_start": 1, "jobs_finished": 0}),
        );
        let status = Status::deserialize(json!({
            "phase": "any", "registered": true, "wedged": false, "worker_id": null, "agent_name": "",
            "active_jobs": 1, "accepted_jobs": 0, "load": 0.0, "drain": drain,
        }));
        Seen { pid, status: status.expect("a status"), page: Map::new() }
    }

    #[test]
    fn the_next_worker_is_told_from_the_one_that_drains() {
        for (pid, drain, known, gone) in [
            (Some(7), None, None, false),
            (None, None, None, false),
            (Some(8), None, None, true),
            (Some(8), Some(1.0), None, true),
            (Some(7), None, Some(1.0), true),
            (Some(7), Some(2.0), Some(1.0), true),
            (Some(7), Some(1.0), Some(1.0), false),
            (Some(7), Some(1.0), None, false),
        ] {
            let ordered = if pid.is_none() { None } else { Some(7) };
            let seen = seen(pid, drain);
            let look = look(&seen, ordered, known);
            assert_eq!(look == Look::Gone, gone, "{pid:?} {drain:?} {known:?}: {look:?}");
            assert_eq!(matches!(look, Look::Drains(_)), !gone && drain.is_some(), "{look:?}");
        }
    }
}
