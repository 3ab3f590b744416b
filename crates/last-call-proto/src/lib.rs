//! The decisions of Last Call as pure state machines.
//!
//! **The contract: one input, then poll until nothing is left. No clock, no randomness, no IO, no
//! panic on any input.**
//!
//! 1. Give [`Worker::handle`] one [`Input`].
//! 2. Take outputs from [`Worker::poll_output`] until it returns `None`, and do what each says.
//! 3. While the socket takes bytes, ask [`Worker::poll_transmit`] for the next frames: they are decided
//!    at the moment they are written, so nothing stale stands in a queue between a signal and the wire.
//! 4. Arm a timer when told to, for [`Policy::wait`]; when it is due, give it back as an input.
//!
//! Time exists here only as the names in [`Timer`]. Every type is `Clone + Debug + Eq + Hash` over
//! ordered maps, so that a test can walk every state that worker and [`Dispatcher`] reach together.
//! The numbers live in [`policy`], as pure functions.
//!
//! Owns every decision. Refuses payloads, sockets, clocks and dependencies; without `std` it could not have
//! them.

#![no_std]

extern crate alloc;

mod dispatcher;
mod downstream;
mod job;
mod message;
mod outbox;
pub mod policy;
mod pool;
mod rescue;
mod timer;
mod ward;
mod worker;

pub use dispatcher::{
    ConnId, Dispatcher, DispatcherEvent, DispatcherInput, DispatcherOutput, DispatcherTimer,
};
pub use downstream::{Downstream, DownstreamInput, DownstreamOutput, FromDownstream, ToDownstream};
pub use job::{JobState, JobTable, Stop};
pub use message::{Answer, FromServer, JobId, Load, Report, Status, ToServer};
pub use outbox::Outbox;
pub use policy::Policy;
pub use pool::{Pool, PoolInput, PoolLimits, PoolOutput, ProcessId};
pub use rescue::{Lineage, Rescue, RescueInput, RescueLimits, RescueOutput, RescueTimer, Room, Verdict};
pub use timer::Timer;
pub use ward::{Forward, Leaving, Restart, Ward, WardInput, WardLimits, WardOutput, WardTimer};
pub use worker::{
    Decision, Declined, End, Event, Input, Limits, Link, Loss, Outcome, Output, Phase, StopReason, Worker,
};
