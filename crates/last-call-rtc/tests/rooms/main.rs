//! Rooms against the real livekit-server: two participants of ours, in both kinds of session.
#![expect(missing_docs, reason = "a test")]

mod audio;
mod data;
mod people;
mod scene;
