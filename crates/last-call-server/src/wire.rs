//! Workers' frames as messages, and messages as frames, in protobuf or JSON.
//!
//! Owns both encodings and the check of a registration. Refuses what livekit-server refuses: a frame that
//! cannot be read, or that holds no message it knows, is the end of the connection.

use last_call_proto::{Answer, JobId, Report};
use livekit::server_message::Message as Down;
use livekit::worker_message::Message as Up;
use livekit_protocol as livekit;
use prost::Message as _;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

/// The longest name of a deployment, in bytes.
const DEPLOYMENT_LIMIT: usize = 64;

/// How a worker's frames are encoded. It chooses anew with each frame that it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Binary frames.
    #[default]
    Protobuf,
    /// Text frames.
    Json,
}

/// Reads a binary frame; `None` ends the connection.
pub(crate) fn decode(bytes: &[u8]) -> Option<Up> {
    livekit::WorkerMessage::decode(bytes).ok()?.message
}

/// Reads a text frame; `None` ends the connection.
pub(crate) fn decode_json(text: &str) -> Option<Up> {
    serde_json::from_str::<livekit::WorkerMessage>(text).ok()?.message
}

/// Writes a frame.
pub(crate) fn encode(message: Down, encoding: Encoding) -> Message {
    let message = livekit::ServerMessage { message: Some(message) };
    match encoding {
        Encoding::Protobuf => Message::Binary(Bytes::from(message.encode_to_vec())),
        Encoding::Json => {
            let json = serde_json::to_string(&message).unwrap_or_default();
            Message::Text(Utf8Bytes::from(json))
        }
    }
}

/// What an answer says, the way livekit-server reads it: `terminate` is looked at first.
pub(crate) fn answer(response: &livekit::AvailabilityResponse) -> Answer {
    match response {
        livekit::AvailabilityResponse { terminate: true, .. } => Answer::Terminate,
        livekit::AvailabilityResponse { available: true, .. } => Answer::Accept,
        livekit::AvailabilityResponse { .. } => Answer::Decline,
    }
}

/// What a job's update says. Only success and failure end a job.
pub(crate) fn report(update: &livekit::UpdateJobStatus) -> (JobId, Report) {
    let report = match livekit::JobStatus::try_from(update.status) {
        Ok(livekit::JobStatus::JsSuccess) => Report::Success,
        Ok(livekit::JobStatus::JsFailed) => Report::Failed(update.error.as_str().into()),
        Ok(livekit::JobStatus::JsPending | livekit::JobStatus::JsRunning) | Err(_) => Report::Running,
    };
    (update.job_id.as_str().into(), report)
}

/// Whether a deployment's name may be used: it becomes a part of a topic's name there.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_deployment(name: &str) -> Result<(), String> {
    if name.len() > DEPLOYMENT_LIMIT {
        return Err(format!("deployment exceeds {DEPLOYMENT_LIMIT} bytes"));
    }
    match name.bytes().position(|byte| byte == b'_' || byte <= b' ' || byte == 0x7f) {
        None => Ok(()),
        Some(at) => {
            Err(format!("deployment contains an underscore, whitespace or control byte at position {at}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_1_no_frame_panics() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let message = decode(bytes).or_else(|| decode_json(std::str::from_utf8(bytes).ok()?));
            match message {
                Some(Up::Availability(response)) => drop(answer(&response)),
                Some(Up::UpdateJob(update)) => drop(report(&update)),
                Some(Up::Register(register)) => drop(check_deployment(&register.deployment)),
                Some(Up::UpdateWorker(_) | Up::Ping(_) | Up::SimulateJob(_) | Up::MigrateJob(_)) | None => {}
            }
        });
    }

    #[test]
    fn both_encodings_say_the_same() {
        let ping = Up::Ping(livekit::WorkerPing { timestamp: 7 });
        let message = livekit::WorkerMessage { message: Some(ping.clone()) };
        assert_eq!(decode(&message.encode_to_vec()), Some(ping.clone()));
        assert_eq!(decode_json(&serde_json::to_string(&message).expect("JSON")), Some(ping));
        let down = || Down::Termination(livekit::JobTermination { job_id: "AJ_1".into() });
        assert!(encode(down(), Encoding::Protobuf).is_binary());
        let text = encode(down(), Encoding::Json);
        assert_eq!(text.to_text().expect("text"), r#"{"termination":{"jobId":"AJ_1"}}"#);
    }

    #[test]
    fn messages_of_a_newer_protocol_are_refused() {
        // Field 8, `create_job_token`, which livekit-server 1.13.5 does not know.
        assert_eq!(decode(&[0x42, 0x00]), None);
        assert_eq!(decode(&[]), None);
        assert_eq!(decode_json(r#"{"createJobToken":{}}"#), None);
    }

    #[test]
    fn a_deployment_has_a_plain_name() {
        assert_eq!(check_deployment(""), Ok(()));
        assert_eq!(check_deployment("blue-7"), Ok(()));
        for name in ["a_b", "a b", "a\tb", "a\u{7f}", &"x".repeat(65)] {
            assert!(check_deployment(name).is_err(), "{name:?}");
        }
    }
}
