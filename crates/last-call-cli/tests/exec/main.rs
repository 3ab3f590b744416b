//! The built `last-call run`, with small programs as agents.
//!
//! Owns the contract of docs/exec.md and the drain's promises as such a program sees them. Refuses the promises of
//! every worker, which are tested where workers are.

mod contract;
mod drain;
mod hook;
mod livekit;
mod rig;
mod supervision;
