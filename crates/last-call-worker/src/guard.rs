//! Guard: what stands between an unchanged worker and the server.

mod forward;
mod front;
mod relay;
#[cfg(test)]
mod rig;
mod secrets;
