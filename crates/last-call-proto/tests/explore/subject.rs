//! What is explored: the worker's core, or something that claims to be one.
//!
//! Owns the seam at which mutants slip in. Refuses to look inside.

use std::hash::Hash;

use last_call_proto::{Input, Output, ToServer, Worker};

/// A worker as its driver sees it.
pub(crate) trait Subject: Clone + Eq + Hash {
    fn handle(&mut self, input: Input);
    fn poll_output(&mut self) -> Option<Output>;
    fn poll_transmit(&mut self) -> Option<Vec<ToServer>>;
    /// The core, for what it says of itself.
    fn worker(&self) -> &Worker;
}

impl Subject for Worker {
    fn handle(&mut self, input: Input) {
        self.handle(input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.poll_output()
    }

    fn poll_transmit(&mut self) -> Option<Vec<ToServer>> {
        self.poll_transmit()
    }

    fn worker(&self) -> &Worker {
        self
    }
}
