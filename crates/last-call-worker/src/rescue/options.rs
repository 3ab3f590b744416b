//! The options of the rescue, for every command that has one.
//!
//! Owns the definitions. Refuses the default of `--rescue`, which is the command's.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What becomes of a call whose agent died.
#[derive(Args, Clone, Debug)]
pub(crate) struct RescueOptions {
    /// Which calls are dispatched again when their agent dies; the API secret makes the tokens for it [default: crashed with
    /// guard, off else]
    #[arg(long, env = "LAST_CALL_RESCUE", value_name = "WHICH", help_heading = "Rescue")]
    pub(crate) rescue: Option<Which>,
    /// Agents that a call may lose before it is reported lost: a call that kills whatever answers it must not go on
    #[arg(long, env = "LAST_CALL_RESCUE_ATTEMPTS", value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..=10), help_heading = "Rescue")]
    pub(crate) rescue_attempts: u8,
    /// A directory of this process's own, made where it is not there, in which the calls that run are written down: what
    /// a killed process leaves is rescued by the next one. It is to outlive the process, as an emptyDir does
    #[arg(long, env = "LAST_CALL_STATE_DIR", value_name = "DIR", help_heading = "Rescue")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// Calls that are rescued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// None: they are not looked after
    Off,
    /// Those whose agent's process died without an end of its own
    Crashed,
}
