//! Owns what becomes of what the ways beside UDP have to say. Refuses to choose among them.

use super::{Due, Engine};
use crate::routes::RouteOutput;

impl Engine {
    pub(super) fn drain_routes(&mut self) {
        while let Some(output) = self.routes.poll_output() {
            match output {
                RouteOutput::Socket(id, action) => self.due.push_back(Due::Socket(id, action)),
                RouteOutput::Candidate(which, candidate) => {
                    if let Some(peer) = self.session.peer(which) {
                        peer.add_local_candidate(candidate);
                    }
                }
                RouteOutput::Gone(which, candidate) => {
                    if let Some(peer) = self.session.peer(which) {
                        peer.remove_local_candidate(&candidate);
                    }
                }
                RouteOutput::Packet { which, proto, source, destination, payload } => {
                    self.session.receive(self.now, which, proto, source, destination, &payload);
                }
            }
        }
    }
}
