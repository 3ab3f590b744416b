//! The frames between a worker and its server, as guard passes them on.
//!
//! Owns the two changes that guard makes to a frame's bytes: an assignment's URL where it has none, and JSON for a
//! worker that speaks JSON. Refuses to write again what it can pass: fields that this version does not know stay.

use bytes::{Buf, Bytes, BytesMut};
use last_call_proto::{Answer, FromDownstream, JobId, Load, Report};
use livekit::worker_message::Message as Up;
use livekit_protocol as livekit;
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use crate::link::agent_identity;

/// `ServerMessage.assignment` and `JobAssignment.url`.
const ASSIGNMENT: u32 = 3;
const URL: u32 = 2;

/// A frame from the worker: what it says to the core.
pub(super) enum Said {
    /// One that the core heeds.
    Heeded(FromDownstream),
    /// guard says this itself, or has said it: a second registration, a list of jobs after a reconnect.
    Dropped,
}

/// Reads a worker's frame; `None` if it cannot be read.
pub(super) fn read(bytes: &Bytes) -> Option<Said> {
    let message = livekit::WorkerMessage::decode(bytes.clone()).ok()?.message;
    let heeded = match message {
        Some(Up::Register(_) | Up::MigrateJob(_)) => return Some(Said::Dropped),
        Some(Up::UpdateWorker(update)) => FromDownstream::Status {
            available: update.status != Some(livekit::WorkerStatus::WsFull.into()),
            load: Load::from_fraction(update.load.into()),
        },
        Some(Up::Availability(answer)) => {
            let given = match (answer.available, answer.terminate) {
                (true, _) => Answer::Accept,
                (false, true) => Answer::Terminate,
                (false, false) => Answer::Decline,
            };
            FromDownstream::Answer(answer.job_id.as_str().into(), given)
        }
        Some(Up::UpdateJob(update)) => {
            let report = match livekit::JobStatus::try_from(update.status) {
                Ok(livekit::JobStatus::JsSuccess) => Report::Success,
                Ok(livekit::JobStatus::JsFailed) => Report::Failed(update.error.into()),
                Ok(_) | Err(_) => Report::Running,
            };
            FromDownstream::Report(update.job_id.as_str().into(), report)
        }
        Some(_) | None => FromDownstream::Other,
    };
    Some(Said::Heeded(heeded))
}

/// Who the agent of a job is that was answered so.
pub(super) fn identity(answer: &Bytes, job: &JobId) -> String {
    let frame = livekit::WorkerMessage::decode(answer.clone()).ok().and_then(|frame| frame.message);
    let Some(Up::Availability(answer)) = frame else { return agent_identity("", job) };
    agent_identity(&answer.participant_identity, job)
}

/// The end of a job, as the server says it.
pub(super) fn termination(job: &JobId) -> Bytes {
    let end = livekit::JobTermination { job_id: job.as_str().to_owned() };
    let message = livekit::server_message::Message::Termination(end);
    livekit::ServerMessage { message: Some(message) }.encode_to_vec().into()
}

/// An assignment's frame with this URL in it, every other byte as it was; `None` if it is no assignment.
pub(super) fn with_url(frame: &Bytes, url: &str) -> Option<Bytes> {
    let mut rest = frame.clone();
    let mut written = BytesMut::with_capacity(frame.len() + url.len() + 16);
    let mut found = false;
    while rest.has_remaining() {
        let before = rest.clone();
        let (field, wire) = decode_key(&mut rest).ok()?;
        if field != ASSIGNMENT || wire != WireType::LengthDelimited {
            skip(wire, &mut rest)?;
            written.extend_from_slice(&before[..before.len() - rest.len()]);
            continue;
        }
        let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let assignment = (length <= rest.len()).then(|| rest.split_to(length))?;
        let mut added = BytesMut::new();
        encode_key(URL, WireType::LengthDelimited, &mut added);
        encode_varint(url.len() as u64, &mut added);
        added.extend_from_slice(url.as_bytes());
        encode_key(ASSIGNMENT, WireType::LengthDelimited, &mut written);
        encode_varint((assignment.len() + added.len()) as u64, &mut written);
        written.extend_from_slice(&assignment);
        // Behind an empty one that is there: the last of a field counts.
        written.extend_from_slice(&added);
        found = true;
    }
    found.then(|| written.freeze())
}

fn skip(wire: WireType, rest: &mut Bytes) -> Option<()> {
    let bytes = match wire {
        WireType::Varint => return decode_varint(rest).ok().map(drop),
        WireType::ThirtyTwoBit => 4,
        WireType::SixtyFourBit => 8,
        WireType::LengthDelimited => usize::try_from(decode_varint(rest).ok()?).ok()?,
        // Groups are older than LiveKit.
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    (bytes <= rest.len()).then(|| rest.advance(bytes))
}

/// A worker's JSON frame as protobuf.
pub(super) fn from_json(text: &str) -> Option<Bytes> {
    let message: livekit::WorkerMessage = serde_json::from_str(text).ok()?;
    Some(message.encode_to_vec().into())
}

/// A server's frame as JSON.
pub(super) fn to_json(frame: Bytes) -> Option<String> {
    let message = livekit::ServerMessage::decode(frame).ok()?;
    serde_json::to_string(&message).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(url: Option<&str>) -> livekit::ServerMessage {
        let job = livekit::Job { id: "AJ_1".into(), metadata: "x".repeat(200), ..Default::default() };
        let assignment =
            livekit::JobAssignment { job: Some(job), url: url.map(str::to_owned), token: "a token".into() };
        livekit::ServerMessage { message: Some(livekit::server_message::Message::Assignment(assignment)) }
    }

    #[test]
    fn wire_2_an_assignment_gets_its_url_and_keeps_every_other_byte() {
        for url in [None, Some("")] {
            let plain = assignment(url).encode_to_vec();
            let mut strange = plain.clone();
            // A field that nobody knows, in front and behind.
            strange.splice(0..0, [0xba, 0x3e, 0x02, b'h', b'i']);
            strange.extend([0xc0, 0x3e, 0x07]);
            for frame in [plain, strange] {
                let frame = Bytes::from(frame);
                let filled = with_url(&frame, "wss://real.example").expect("an assignment");
                let read = livekit::ServerMessage::decode(filled.clone()).expect("a frame");
                assert_eq!(read, assignment(Some("wss://real.example")));
                let odd = |bytes: &Bytes| bytes.len() - assignment(None).encoded_len();
                assert!(odd(&filled) >= "wss://real.example".len() + 2, "something is lost");
                assert_eq!(frame.starts_with(&[0xba]), filled.starts_with(&[0xba, 0x3e, 0x02, b'h', b'i']));
                assert_eq!(frame.ends_with(&[0x07]), filled.ends_with(&[0xc0, 0x3e, 0x07]));
            }
        }
        assert_eq!(with_url(&termination(&"AJ_1".into()), "wss://real.example"), None);
    }

    #[test]
    fn wire_1_no_bytes_panic() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let bytes = Bytes::from(bytes.clone());
            let _ = (read(&bytes), with_url(&bytes, "ws://u"), identity(&bytes, &"AJ_1".into()));
            let _ = to_json(bytes.clone());
            let _ = from_json(&String::from_utf8_lossy(&bytes));
        });
    }

    #[test]
    fn json_says_the_same_both_ways() {
        let text = r#"{"updateWorker":{"status":"WS_FULL","load":0.5}}"#;
        let Some(Said::Heeded(said)) = from_json(text).as_ref().and_then(read) else {
            panic!("not read: {text}")
        };
        assert_eq!(said, FromDownstream::Status { available: false, load: Load::from_thousandths(500) });
        let json = to_json(termination(&"AJ_1".into())).expect("JSON");
        assert_eq!(json, r#"{"termination":{"jobId":"AJ_1"}}"#);
    }
}
