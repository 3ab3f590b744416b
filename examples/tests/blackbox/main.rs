//! The promises of docs/protocol.md, tried on a built worker from outside: a program, a server, a shell's
//! signals. Each test's name starts with its clause, or with the thread whose fault it repeats.
//!
//! Owns the claims. Refuses times: a test asserts what happened, how often and in which order, and its
//! deadlines only keep it from waiting for ever.

mod blip;
mod cli;
#[cfg(feature = "otel")]
mod collector;
mod config;
mod drain;
mod idle;
mod init;
mod limits;
mod offers;
#[cfg(feature = "otel")]
mod otel;
mod page;
mod processes;
mod reg;
mod rig;
mod secrets;
mod seen;
mod signals;
mod systemd;
mod wire;
