//! Every state that the cores of worker and server reach together, within bounds, and what must hold there.
//!
//! Read [`clauses`] first: the promises are the specification. Then [`world`] for what can happen, [`scopes`]
//! for how much of it, and [`mutants`] for the proof that the clauses bite.

mod action;
mod clauses;
mod explorer;
#[path = "../fingerprint/mod.rs"]
mod fingerprint;
mod mutants;
mod random;
mod record;
mod scope;
mod scopes;
mod subject;
mod world;
