//! `last-call guard`: an unchanged worker of any SDK, kept to the promises of ours.
//!
//! | file | owns |
//! | --- | --- |
//! | `options.rs` | the options, which are the help page |
//! | `run.rs` | the program: from the options to the exit code |
//! | `stand.rs` | the one loop: signals, the worker's process, its registrations |
//! | `child.rs` | the worker's process, from the order to start it to its end |
//! | `tally.rs` | what became of the calls, for the exit code |
//! | `registrations.rs` | a link to the server for each registration of the worker |
//! | `connection.rs` | one connection of the worker: its upgrade, its frames |
//! | `guarded.rs` | the worker in the place of user code, for one link |
//! | `frames.rs` | what guard reads and changes in a frame |
//! | `secrets.rs` | whose tokens count, and what guard signs |
//! | `front.rs` | the listener that the worker dials: registrations, and all else |
//! | `forward.rs` | stand-ins for the proxies of the worker's environment |
//! | `relay.rs` | a connection that passes on requests, for both |
//! | `rooms.rs` | the look into rooms, for calls whose end nobody reports |
//! | `shim.rs` | the server's own URL for job processes, and what becomes of them |
//!
//! Refuses to change what the worker is: its code, its frames and its output stay as they are.

mod child;
mod connection;
mod forward;
mod frames;
mod front;
mod guarded;
mod options;
mod registrations;
mod relay;
#[cfg(test)]
mod rig;
mod rooms;
mod run;
mod secrets;
mod shim;
mod stand;
mod tally;

pub(crate) use guarded::{FromWorker, Guarded};
pub use options::GuardOptions;
pub use run::run_guard;
