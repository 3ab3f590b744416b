//! Owns who is given the streams of which topic, and what a transcription is told as. Refuses the streams' rules: those
//! are `streams.rs`.

use std::collections::BTreeMap;

use futures_channel::mpsc;
use livekit_protocol::DataPacket;
use livekit_protocol::data_packet::Value;

use super::Engine;
use crate::streams::{Kind, Opened, Origin, Streams};

/// What the handles ask for.
pub(crate) enum StreamCommand {
    /// The streams of a topic are read.
    Read { kind: Kind, topic: String, opened: mpsc::UnboundedSender<Opened> },
    /// The end of a stream whose writer is gone.
    BreakOff(Box<DataPacket>),
}

#[derive(Default)]
pub(super) struct Flows {
    streams: Streams,
    read: BTreeMap<(Kind, String), mpsc::UnboundedSender<Opened>>,
}

impl Engine {
    pub(super) fn on_stream_command(&mut self, command: StreamCommand) {
        match command {
            StreamCommand::Read { kind, topic, opened } => {
                self.flows.read.retain(|_, opened| !opened.is_closed());
                self.flows.read.insert((kind, topic), opened);
            }
            StreamCommand::BreakOff(trailer) => drop(self.send_quietly(*trailer)),
        }
    }

    /// A packet of a stream's; others are none.
    pub(super) fn on_stream(&mut self, origin: Origin<'_>, value: Value) {
        let Flows { streams, read } = &mut self.flows;
        if let Value::StreamHeader(header) = value {
            let reader = |kind, topic: &str| read.get(&(kind, topic.to_owned()));
            let wants = |kind, topic: &str| reader(kind, topic).is_some_and(|opened| !opened.is_closed());
            if let Some(opened) = streams.open(origin, header, wants)
                && let Some(reader) = reader(opened.kind, &opened.info.topic)
            {
                // Whoever stops to read in this moment drops the stream.
                let _ = reader.unbounded_send(opened);
            }
        } else if let Value::StreamChunk(chunk) = value {
            streams.chunk(origin, chunk);
        } else if let Value::StreamTrailer(trailer) = value {
            streams.trailer(origin, trailer);
        }
    }

    pub(super) fn streams_left(&mut self, sid: &str, identity: &str) {
        self.flows.streams.left(sid, identity);
    }

    /// A new session: what was sent meanwhile is lost.
    pub(super) fn streams_interrupted(&mut self) {
        self.flows.streams.interrupted();
    }
}
