//! The built `last-call` gives orders to real workers.
//!
//! Owns what an operator sees: what is printed, in which order, and the exit codes. Refuses what a worker does with an
//! order: that is tested where workers are.

mod many;
mod one;
mod rig;
mod wait;
