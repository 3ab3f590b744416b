//! Jobs as processes: this program run again, for one job each.
//!
//! | file | owns |
//! | --- | --- |
//! | `pool.rs` | the worker's side: processes kept warm, and the thread that this lives on |
//! | `process.rs` | one process, from its start to its end |
//! | `conversation.rs` | what a job's process and the link hear of each other |
//! | `child.rs` | the process's own side: what `run` does there in place of a worker |
//! | `wire.rs` | what goes over the socket between both |
//! | `before.rs` | what `main` has done before `run`, where each process will do it too |
//!
//! For the core a job in a process is a job like any other: it is launched, told, cancelled and ended, by a future in
//! place of the entrypoint's. In the process the same [`TaskRunner`](crate::runner::TaskRunner) runs the entrypoint,
//! so that it sees what it would see as a task. Refuses to decide when a process starts: the core's pool does.

mod before;
mod child;
mod conversation;
mod pool;
mod process;
mod wire;

pub(crate) use before::{listening, other_threads, warn as warn_of_what_is_repeated};
pub(crate) use child::{Control, recognise, run as run_child};
pub(crate) use pool::{Asked, Processes, STOP_WITHIN, Supervisor, start};
