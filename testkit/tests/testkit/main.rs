//! The testkit's own claims: each of its parts does what tests will lean on.

mod busy;
mod child;
mod livekit;
mod netns;
mod peer;
mod proxy;
mod python;
mod relay;
mod stub;
