//! A LiveKit room participant in pure Rust: it joins a room, publishes and hears audio, sends and receives data, and
//! keeps its place through what networks do.
//!
//! Owns the room client; refuses to know of jobs and workers: `last-call` does. The engine is sans-IO; the one file
//! that names sockets, clocks and tokio is `driver.rs`.

mod audio;
mod data;
mod e2ee;
mod event;
mod ladder;
mod people;
mod rpc;
mod turn;
mod wire;
