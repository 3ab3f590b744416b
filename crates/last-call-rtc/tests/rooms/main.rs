//! Rooms against the real livekit-server: two participants of ours, and one of the Python SDK, in both kinds of
//! session.
#![expect(missing_docs, reason = "a test")]

mod audio;
mod data;
mod interop;
mod people;
mod scene;
