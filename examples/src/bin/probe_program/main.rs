//! What probe does in a job, as a program under `last-call run`, which the black-box tests drive in place of probe. Its
//! contract is docs/probe.md, and that of docs/exec.md with its worker.
//!
//! Owns what passes between the two. Refuses the library: nothing of a worker is in this program.
//!
//! Its standard input must be file descriptor 4, as `sh -c 'exec "$0" <&4' probe_program` has it: in Rust no safe code
//! takes up a file descriptor by its number.

#[expect(dead_code, reason = "a program is in no room")]
#[path = "../probe/diary.rs"]
mod diary;
#[path = "../probe/ending.rs"]
mod ending;
#[path = "../probe/orders.rs"]
mod orders;
#[path = "../probe/others.rs"]
mod others;
#[path = "../probe/told.rs"]
mod told;
mod worker;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::diary::Diary;
use crate::ending::Ending;
use crate::orders::{As, Orders};
use crate::worker::{News, Worker};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Where the job's document is.
const DOCUMENT: &str = "/dev/fd/3";
/// What a shell says of a program that SIGTERM has ended.
const TERMINATED: u8 = 128 + 15;

fn main() -> ExitCode {
    let worker = match Worker::at_stdin() {
        Ok(worker) => worker,
        Err(error) => return worker::complain(&error),
    };
    let of_a_panic = worker.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<&str>().copied().unwrap_or_default();
        of_a_panic.say(&json!({"type": "fail", "error": format!("panicked: {said}")}));
    }));
    run(&worker).unwrap_or_else(|error| {
        worker.say(&json!({"type": "fail", "error": error.to_string()}));
        ExitCode::FAILURE
    })
}

fn run(worker: &Worker) -> Result<ExitCode, Error> {
    let document: Value = serde_json::from_reader(File::open(DOCUMENT)?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dir = std::env::var_os("PROBE_JOB_DIR");
    let id = text(&document["job"]["id"]);
    let diary = Diary::open(dir.as_deref().map(Path::new), &id)?;
    let orders = Orders::read(&text(&document["job"]["metadata"]))?;
    if orders.spans || orders.connect || orders.reject || orders.accept != As::default() {
        return Err("a program has no spans and no room, and does not decide on offers".into());
    }
    if orders.tell
        && let Some(dir) = &dir
    {
        told::write(Path::new(dir), &id, &told(&document))?;
    }
    let deaf = orders.ignore_cancel && !orders.busy;
    let news = worker.listen(diary.clone(), deaf)?;
    if orders.stray {
        worker.log("a program was started", &json!({"stray": others::leave_one()?}));
    }
    if orders.orphans > 0 {
        others::leave(orders.orphans)?;
    }
    let ending = Ending::new(diary);
    if let Some(code) = work(&orders, &news, worker) {
        return Ok(code);
    }
    ending.end_as_told(&orders)?;
    Ok(ExitCode::SUCCESS)
}

/// What probe says of all that a job is given.
fn told(document: &Value) -> Value {
    let job = &document["job"];
    json!({
        "job": job["id"],
        "dispatch": job["dispatch_id"],
        "type": job["type"],
        "room": job["room"]["name"],
        "participant": job["participant"]["identity"],
        "metadata": job["metadata"],
        "attributes": job["attributes"],
        "agent_name": job["agent_name"],
        "deployment": job["deployment"],
        "identity": document["identity"],
        "url": document["url"],
        "worker": document["worker_id"],
        "token": document["token"],
    })
}

/// Works until the time is over, or it is told to stop: then how it leaves.
fn work(orders: &Orders, news: &Receiver<News>, worker: &Worker) -> Option<ExitCode> {
    const SLICE: Duration = Duration::from_millis(9);
    let until = Instant::now() + orders.sleep;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if orders.busy {
            let slice = Instant::now();
            while slice.elapsed() < SLICE.min(left) {
                std::hint::spin_loop();
            }
        }
        match news.recv_timeout(if orders.busy { left.min(Duration::from_millis(1)) } else { left }) {
            Ok(News::Stop(_)) if orders.ignore_cancel => {}
            Ok(News::Stop(reason)) => {
                worker.log("told to stop", &json!({"reason": reason}));
                return Some(ExitCode::SUCCESS);
            }
            Ok(News::Terminated) => return Some(ExitCode::from(TERMINATED)),
            // Never for want of a sender: SIGTERM has one for good.
            Err(_) if until <= Instant::now() => return None,
            Err(_) => {}
        }
    }
}
