//! The rules of dispatch, on this server and on livekit-server 1.13.5: each test is one claim, held against both.
//!
//! | measured on livekit-server | here |
//! | --- | --- |
//! | 1, 2, 3, 4, 5, 5b, 6, 7, 8, 10 | `rows` |
//! | 9: when a job is seen in a list | not held: ours shows it at once, theirs after up to 5 s |
//! | 11: watching and dispatching again | a matter of `watch`, not of a server |
//! | 12: a cable is cut, nobody notices | needs minutes of silence; the budget over many workers, 12b, is in `rows` |
//!
//! `edges` has what ends a connection and what goes with an assignment, `api` the errors of Twirp.

mod api;
mod edges;
mod rows;
mod target;
mod worker;
