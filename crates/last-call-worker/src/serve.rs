//! `Worker::serve`: a worker inside a program that has a runtime of its own.
//!
//! Owns nothing but the worker's life. Refuses signals, logs and exits, which are the program's.

use std::future::Future;

use last_call_proto::Outcome;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::config::{Config, Mode};
use crate::error::StartError;
use crate::link::Control;
use crate::options::Options;
use crate::program::Worker;
use crate::start::{self, Controls, Finished};

impl Options {
    /// Options as the environment has them, and the file that `LAST_CALL_CONFIG` names: its keys, and its
    /// table `[start]`.
    ///
    /// # Errors
    /// If a variable or a key makes no sense, and if the file cannot be read; the text names it.
    pub fn from_env() -> Result<Self, StartError> {
        crate::command_line::from_env()
    }
}

impl Worker {
    /// Runs the worker until `shutdown` resolves and the drain that it starts is over. User code runs on
    /// the runtime that this is called on; the link has its own thread, so a blocked runtime delays only
    /// `shutdown` itself.
    ///
    /// Not cancel safe: dropped, it forces the worker to leave, and running jobs are cut off.
    ///
    /// # Errors
    /// If the worker cannot start; nothing is registered then. A server that refuses it is no error but
    /// [`Outcome::Refused`].
    pub async fn serve(
        self,
        options: Options,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Outcome, StartError> {
        let config = Config::new(&options, Mode::Production, &self.program.agent_name)?;
        if config.processes.is_some() {
            let advice = "LAST_CALL_RUNNER=process needs a program that is run by last_call::run; Worker::serve runs jobs as tasks";
            return Err(StartError::Usage(advice.to_owned()));
        }
        if options.reap {
            let advice = "--reap (LAST_CALL_REAP) needs a program that is run by last_call::run; under Worker::serve the process is yours";
            return Err(StartError::Usage(advice.to_owned()));
        }
        let (control, orders) = mpsc::unbounded_channel();
        let controls = Controls { control, orders, signals: None, threads: 0 };
        let forced = ForcedWhenDropped(controls.control.clone());
        let mut ended = start::serve(self, config, &Handle::current(), controls)?.run_aside()?;
        let finished = tokio::select! {
            finished = &mut ended => finished,
            () = shutdown => {
                // A worker that left already needs no telling.
                let _ = forced.0.send(Control::Drain(std::time::Instant::now()));
                ended.await
            }
        };
        match finished {
            Ok(Finished::Left(report)) => Ok(report.outcome),
            Ok(Finished::PrewarmFailed(text)) => Err(StartError::Prewarm(text)),
            Ok(Finished::LinkDied) | Err(_) => Err(StartError::LinkDied),
        }
    }
}

struct ForcedWhenDropped(mpsc::UnboundedSender<Control>);

impl Drop for ForcedWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.send(Control::Force);
    }
}
