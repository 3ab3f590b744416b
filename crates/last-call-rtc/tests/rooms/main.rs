//! Rooms against the real livekit-server: two participants of ours, and one of the Python SDK, in both kinds of
//! session.
#![expect(clippy::wildcard_enum_match_arm, reason = "of many events a test waits for one")]

mod audio;
mod data;
mod firewall;
mod interop;
mod networks;
mod older;
mod people;
mod resume;
mod scene;
mod streams;
mod video;
