//! The lines of JSON that pass between the worker and a program, on file descriptor 4.
//!
//! Owns their shapes and what the program's own come to. Refuses to fail a job for a line that makes no sense: it is
//! logged, and the call goes on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use last_call_worker::JobContext;
use last_call_worker::process::{self, Rate};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::AsyncRead;

/// What the worker says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToProgram {
    /// The worker drains: nobody new is served, and this job may go on for so long.
    Draining { seconds: f64 },
    /// The job must stop, and is killed if it has not by then.
    Shutdown { reason: String, seconds: f64 },
    /// Answer me.
    Ping,
}

/// What the program says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromProgram {
    /// It reads its lines.
    Ready,
    Pong,
    /// What it does, on every log line from now on.
    Status {
        status: String,
    },
    Log {
        #[serde(default)]
        level: Level,
        message: String,
        #[serde(default)]
        fields: Map<String, Value>,
    },
    /// The job has failed, however the process ends.
    Fail {
        error: String,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

/// What is known of a program by its lines.
#[derive(Debug)]
pub(super) struct Heard(Mutex<State>);

#[derive(Debug)]
struct State {
    listens: bool,
    answers: u64,
    failure: Option<String>,
    rate: Rate,
}

impl Heard {
    pub(super) fn new(now: Instant) -> Self {
        let state = State { listens: false, answers: 0, failure: None, rate: Rate::new(now) };
        Self(Mutex::new(state))
    }

    /// Hears everything until the program hangs up.
    pub(super) async fn listen(&self, pipe: impl AsyncRead + Unpin, job: &JobContext) {
        process::read_lines(pipe, |line, cut| self.hear(line, cut, job)).await;
    }

    /// Whether it has shown that it reads its lines.
    pub(super) fn listens(&self) -> bool {
        self.state().listens
    }

    /// How many pings it has answered.
    pub(super) fn answers(&self) -> u64 {
        self.state().answers
    }

    /// Why it says that the job has failed.
    pub(super) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    fn hear(&self, line: &str, cut: u64, job: &JobContext) {
        if line.trim().is_empty() {
            return;
        }
        let now = Instant::now();
        let parsed =
            if cut > 0 { Err(Bad::Long(cut)) } else { serde_json::from_str(line).map_err(Bad::Json) };
        let mut state = self.state();
        state.listens |= matches!(parsed, Ok(FromProgram::Ready | FromProgram::Pong));
        match parsed {
            Ok(FromProgram::Ready) => {}
            Ok(FromProgram::Pong) => state.answers += 1,
            Ok(FromProgram::Fail { error }) => {
                state.failure.get_or_insert(error);
            }
            Ok(FromProgram::Status { status }) => job.log_field("status", status),
            Ok(FromProgram::Log { level, message, fields }) => {
                if state.rate.pass(now).is_some() {
                    log(level, &message, fields);
                }
            }
            Err(bad) => {
                if state.rate.pass(now).is_some() {
                    tracing::warn!(%bad, "a line of the program on file descriptor 4 makes no sense");
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a line makes no sense.
#[derive(Debug, thiserror::Error)]
enum Bad {
    #[error("it is {0} bytes too long")]
    Long(u64),
    #[error("{0}")]
    Json(serde_json::Error),
}

fn log(level: Level, message: &str, fields: Map<String, Value>) {
    let fields = if fields.is_empty() { None } else { Some(Value::Object(fields).to_string()) };
    match level {
        Level::Debug => tracing::debug!(fields, "{message}"),
        Level::Info => tracing::info!(fields, "{message}"),
        Level::Warn => tracing::warn!(fields, "{message}"),
        Level::Error => tracing::error!(fields, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_docs_exec_md_says() {
        let parse = |text| serde_json::from_str::<FromProgram>(text);
        let log = FromProgram::Log { level: Level::Info, message: "hi".into(), fields: Map::new() };
        for (text, expected) in [
            (r#"{"type":"ready"}"#, FromProgram::Ready),
            (r#"{"type":"pong","more":1}"#, FromProgram::Pong),
            (r#"{"type":"status","status":"on hold"}"#, FromProgram::Status { status: "on hold".into() }),
            (r#"{"type":"log","message":"hi"}"#, log),
            (r#"{"type":"fail","error":"no voice"}"#, FromProgram::Fail { error: "no voice".into() }),
        ] {
            assert_eq!(parse(text).expect(text), expected);
        }
        for text in ["", "1", "{}", r#"{"type":"later"}"#, r#"{"type":"log","level":"loud","message":""}"#] {
            assert!(parse(text).is_err(), "{text}");
        }
        let text = |message| String::from_utf8(super::super::document::json(&message)).expect("text");
        assert_eq!(text(ToProgram::Ping), "{\"type\":\"ping\"}\n");
        assert_eq!(text(ToProgram::Draining { seconds: 2.5 }), "{\"type\":\"draining\",\"seconds\":2.5}\n");
        assert_eq!(
            text(ToProgram::Shutdown { reason: "why".to_owned(), seconds: 1.0 }),
            "{\"type\":\"shutdown\",\"reason\":\"why\",\"seconds\":1.0}\n"
        );
    }

    #[test]
    fn wire_1_no_line_panics() {
        bolero::check!().with_type::<String>().for_each(|text| {
            let _ = serde_json::from_str::<FromProgram>(text);
        });
    }
}
