//! The built `last-call guard`, with workers of LiveKit's own SDKs behind it.
//!
//! Owns what server and caller see of them. A test of a known failure is named after its thread: `agents_` is
//! livekit/agents, `js_` is livekit/agents-js; one that ends with `alone` shows the failure without guard. Refuses
//! guard's own parts, which are tested beside them.

mod crash;
mod drain;
mod links;
mod offers;
mod pass_by;
mod rig;
mod servers;
mod upstream;
