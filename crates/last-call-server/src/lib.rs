//! An embedded server that LiveKit's workers and server SDKs take for `livekit-server`: its dispatch half.
//!
//! Agent workers register at `/agent`; rooms and dispatches are made over Twirp; webhooks tell of them. What
//! a worker is offered, for how long, and what is forgotten is decided in `last-call-proto`, by the rules that
//! were measured on livekit-server 1.13.5; the differential tests hold both to them.
//!
//! It has no media. Nobody joins a room here: an agent counts as a participant from the assignment of its
//! job to the job's end. With [`Rooms`] the assignments lead to the rooms of a real livekit-server.
//!
//! | it differs from livekit-server | how |
//! | --- | --- |
//! | an offer leaves at once | there it waits 200 ms for other nodes |
//! | a room with a running job stays open | there a room with agents alone closes after its timeouts |
//! | `SimulateJob` is logged | there the sender is offered the job |
//! | a worker's namespace, long deprecated, is passed over | there it is a part of the group |
//! | an agent whose worker's connection drops has left | there it stays as long as its media does |
//! | only `JT_ROOM` workers are offered jobs | there are no callers here who could publish |
//! | a browser gets a page at `/` | there it gets `OK`, as every other client does here |
//! | a body has at most 64 KiB, there are at most 10,000 rooms and 50,000 dispatches | there memory is the limit |
//!
//! ```no_run
//! # async fn example() -> Result<(), last_call_server::BindError> {
//! use last_call_server::{Config, Keys, Server};
//!
//! let keys = Keys { key: "devkey".into(), secret: "a-secret-that-nobody-else-knows".into() };
//! let server = Server::bind(Config::new(([127, 0, 0, 1], 7880).into(), keys))?;
//! let mut events = server.events();
//! server.run(async move { while events.recv().await.is_ok() {} }).await;
//! # Ok(())
//! # }
//! ```

mod access;
mod agent;
mod alarms;
mod config;
mod event;
mod http;
mod hub;
mod id;
mod journal;
pub mod page;
mod server;
mod shared;
mod twirp;
mod webhook;
mod wire;

pub use config::{BindError, Config, Keys, Rooms};
pub use event::{Event, Reply, What};
pub use journal::Notes;
pub use server::Server;
