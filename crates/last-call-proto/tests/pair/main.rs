//! Worker and server in conversation: one behaviour a test, on a clock that only the test moves.
//!
//! Each test begins with the clause that it shows, or with the thread that reported the failure elsewhere.

mod calls;
mod drain;
mod harness;
mod link;
