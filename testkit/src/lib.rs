//! What every test, check and bench of Last Call shares, so that each of them reads as its own claim only.
//!
//! | to | use |
//! | --- | --- |
//! | run a program from outside and see what it says, when, and how it ends | [`Child`], [`Launch`] |
//! | play the dispatcher's side of `/agent`, with any fault | [`Stub`] |
//! | dispatch on the real server | [`LiveKit`] |
//! | use the official Python SDK, or Node packages | [`Python`], [`Node`] |
//! | be in a room with somebody on an official SDK | [`Sdk`], [`Participant`] |
//! | run a worker of LiveKit's own SDKs | [`Peer`] |
//! | spoil a connection byte by byte or frame by frame | [`Relay`] |
//! | cut a network cable | [`Netns`] |
//! | be the network's DNS server | [`Dns`] |
//! | relay media | [`TurnServer`] |
//! | lose datagrams, or be late with them | [`UdpRelay`] |
//! | stand where a company's HTTP proxy stands | [`Proxy`] |
//! | be asked whether a worker takes a job | [`Decider`] |
//! | look at a process that is nobody's child here | [`processes`] |
//! | fail the network under a worker in every way and in every state | [`blip`] |
//! | wait for what has no event of its own | [`until()`] |
//! | keep every core busy | [`Spinners`] |
//! | state a figure | [`Machine`], [`Histogram`] |
//!
//! Everything is synchronous and lives on threads of its own: a test's runtime, however busy or stuck, disturbs neither the
//! measurement nor the fault. In an asynchronous test, wait on `spawn_blocking` or use the multi-thread flavour.
//!
//! Nothing here decides what is right: the assertions are the test's.

pub use livekit_protocol as proto;

pub mod blip;
mod busy;
mod certificate;
mod child;
mod cut;
mod decider;
mod dns;
mod histogram;
mod host;
mod launch;
mod livekit;
mod log;
mod machine;
mod netns;
mod node;
mod participant;
mod peer;
pub mod processes;
mod proxy;
mod python;
mod relay;
mod skip;
mod stub;
mod turn;
mod udp_relay;
mod until;
mod wire;

pub use busy::Spinners;
pub use certificate::Certificate;
pub use child::{Child, Exit, Line, Source};
pub use cut::Cut;
pub use decider::{Asked, Decided, Decider};
pub use dns::Dns;
pub use histogram::Histogram;
pub use launch::{Launch, Signal, pid_1_possible};
pub use livekit::{Api, LiveKit, Settings};
pub use machine::Machine;
pub use netns::Netns;
pub use node::Node;
pub use participant::{Participant, Sdk};
pub use peer::Peer;
pub use proxy::{Connect, Proxy};
pub use python::Python;
pub use relay::{Direction, Faults, Frame, Relay, Verdict};
pub use skip::skip;
pub use stub::{Answer, Event, Job, Offer, Options, Storm, Stub, Tally, Upgrade, What};
pub use turn::{TurnServer, TurnTransport};
pub use udp_relay::{Losses, UdpRelay};
pub use until::until;
