//! The rules of dispatch, on this server and on livekit-server 1.13.5: each test is one claim, held against both.
//!
//! | measured on livekit-server | here |
//! | --- | --- |
//! | 1, 2, 3, 4, 5, 5b, 6, 7, 8, 10, 11, 12, 12b | `rows` |
//! | 9: when a job is seen in a list | not held: ours shows it at once, theirs after up to 5 s |
//! | 11: watching and dispatching again | of the server: a second dispatch makes a second agent |
//! | 12: a cable is cut, nobody notices | as a worker that is deaf and mute for longer than two pings |
//!
//! `edges` has what ends a connection and what goes with an assignment, `api` the errors of Twirp.

mod api;
mod edges;
mod rows;
mod target;
mod worker;
