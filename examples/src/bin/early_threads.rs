//! A test subject: a program that has a thread of its own before `run`, as one with a profiler or a log
//! shipper has, and whose code does in the open what real code does by accident.
//!
//! Owns one misdeed for each word: of a job's metadata, or of `SUBJECT` for the whole program. Refuses to be
//! an example to follow.

use std::fmt;
use std::io::Write;
use std::process::{Command, ExitCode};
use std::time::Duration;

use last_call::prelude::*;

fn main() -> ExitCode {
    let waits_for_ever = || std::thread::park_timeout(Duration::MAX);
    std::thread::spawn(waits_for_ever);
    let subject = std::env::var("SUBJECT").unwrap_or_default();
    match subject.as_str() {
        "inside a runtime" => inside_a_runtime(),
        "binds a port" => match std::net::TcpListener::bind(std::env::var("PORT").unwrap_or_default()) {
            Ok(_bound) => last_call::run(worker("")),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "cannot bind the port: {error}");
                ExitCode::FAILURE
            }
        },
        _ => last_call::run(worker(&subject)),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn inside_a_runtime() -> ExitCode {
    last_call::run(worker(""))
}

fn worker(subject: &str) -> Worker {
    let slow_start = subject == "slow start";
    let alone = subject.to_owned();
    Worker::new("early-threads")
        .load(|| 0.1)
        .prewarm(move || async move {
            tracing::info!("prewarming");
            if slow_start {
                std::future::pending::<()>().await;
            }
            Ok::<_, Error>(())
        })
        .on_request(|request| async move {
            match request.metadata() {
                "handler panics" => panic!("told to panic in the handler"),
                "handler blocks" => std::thread::sleep(Duration::from_secs(3)),
                _ => {}
            }
            request.accept()
        })
        .entrypoint(move |job| answer(job, alone.clone()))
}

/// A job without metadata, as `connect` runs one, does what the program was told.
async fn answer(job: JobContext, subject: String) -> Result<(), Error> {
    let orders = if job.metadata().is_empty() { subject.as_str() } else { job.metadata() };
    tracing::info!(orders, "answering");
    match orders {
        "wait" => {
            job.draining().await;
            Ok(())
        }
        "wait for ever" => std::future::pending().await,
        "fail" => Err(CannotGreet(NoPhoneBook(std::io::ErrorKind::NotFound.into())).into()),
        "child" => {
            let status = Command::new("cat").arg("/proc/self/status").output()?.stdout;
            let status = String::from_utf8_lossy(&status).into_owned();
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or_default();
            tracing::info!(blocked = blocked.trim(), "a child was started");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The outermost of three errors.
#[derive(Debug)]
struct CannotGreet(NoPhoneBook);

impl fmt::Display for CannotGreet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot greet the caller")
    }
}

impl std::error::Error for CannotGreet {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[derive(Debug)]
struct NoPhoneBook(std::io::Error);

impl fmt::Display for NoPhoneBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the phone book is gone")
    }
}

impl std::error::Error for NoPhoneBook {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
