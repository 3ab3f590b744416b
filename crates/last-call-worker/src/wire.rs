//! LiveKit's protobuf frames as the core's messages, and back.
//!
//! Owns both translations and what is dropped in them. Refuses to invent: a frame without what it must
//! have is rejected whole. Source: `livekit_agent.proto`.

use last_call_proto::{Answer, FromServer, JobId, Report, ToServer};
use livekit::server_message::Message as Down;
use livekit::worker_message::Message as Up;
use livekit_protocol as livekit;
use prost::Message as _;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::offer::Acceptance;

/// A frame from the server: what the core is told, and what the driver keeps beside it.
#[derive(Debug)]
pub(crate) enum Incoming {
    Registered {
        worker_id: String,
        server_version: String,
    },
    Offer(livekit::Job),
    Assignment {
        job: livekit::Job,
        url: Option<String>,
        token: String,
    },
    Termination(JobId),
    GoAway,
    Pong,
    /// A message that this version does not know, or none at all.
    Unknown,
}

impl Incoming {
    /// What the core is told.
    pub(crate) fn message(&self) -> FromServer {
        match self {
            Self::Registered { .. } => FromServer::Registered,
            Self::Offer(job) => FromServer::Offer(job.id.as_str().into()),
            Self::Assignment { job, .. } => FromServer::Assignment(job.id.as_str().into()),
            Self::Termination(job) => FromServer::Termination(job.clone()),
            Self::GoAway => FromServer::GoAway,
            Self::Pong | Self::Unknown => FromServer::Other,
        }
    }
}

/// Reads a frame; `None` if it cannot be read, or lacks the job or the id that it is about.
pub(crate) fn decode(frame: &[u8]) -> Option<Incoming> {
    let Some(message) = livekit::ServerMessage::decode(frame).ok()?.message else {
        return Some(Incoming::Unknown);
    };
    let named = |job: Option<livekit::Job>| job.filter(|job| !job.id.is_empty());
    match message {
        Down::Register(reply) => Some(Incoming::Registered {
            worker_id: reply.worker_id,
            server_version: reply.server_info.map(|info| info.version).unwrap_or_default(),
        }),
        Down::Availability(request) => named(request.job).map(Incoming::Offer),
        Down::Assignment(assignment) => {
            let job = named(assignment.job)?;
            let url = assignment.url.filter(|url| !url.is_empty());
            Some(Incoming::Assignment { job, url, token: assignment.token })
        }
        Down::Termination(end) => {
            (!end.job_id.is_empty()).then(|| Incoming::Termination(end.job_id.as_str().into()))
        }
        Down::GoAway(_) => Some(Incoming::GoAway),
        Down::Pong(_) => Some(Incoming::Pong),
    }
}

/// Writes a frame. `acceptance` is asked for the participant of a job that is accepted.
pub(crate) fn encode(
    frame: ToServer,
    registration: &livekit::RegisterWorkerRequest,
    acceptance: impl FnOnce(&JobId) -> Acceptance,
) -> Message {
    let message = match frame {
        ToServer::Ping => return Message::Ping(Bytes::new()),
        ToServer::Register => Up::Register(registration.clone()),
        ToServer::Status(status) => {
            let code = if status.available {
                livekit::WorkerStatus::WsAvailable
            } else {
                livekit::WorkerStatus::WsFull
            };
            Up::UpdateWorker(livekit::UpdateWorkerStatus {
                status: Some(code.into()),
                load: status.load.fraction(),
                job_count: status.jobs,
                draining: status.draining,
                // 0 is never stale: updates on one connection arrive in order.
                seq: 0,
            })
        }
        ToServer::Answer(job, answer) => Up::Availability(availability(&job, answer, acceptance)),
        ToServer::Report(job, report) => {
            let (status, error) = match report {
                Report::Running => (livekit::JobStatus::JsRunning, String::new()),
                Report::Success => (livekit::JobStatus::JsSuccess, String::new()),
                Report::Failed(text) => (livekit::JobStatus::JsFailed, text.to_string()),
            };
            let job_id = job.as_str().to_owned();
            Up::UpdateJob(livekit::UpdateJobStatus { job_id, status: status.into(), error })
        }
        ToServer::Migrate(jobs) => {
            let job_ids = jobs.iter().map(|job| job.as_str().to_owned()).collect();
            Up::MigrateJob(livekit::MigrateJobRequest { job_ids })
        }
    };
    Message::Binary(livekit::WorkerMessage { message: Some(message) }.encode_to_vec().into())
}

fn availability(
    job: &JobId,
    answer: Answer,
    acceptance: impl FnOnce(&JobId) -> Acceptance,
) -> livekit::AvailabilityResponse {
    let job_id = job.as_str().to_owned();
    match answer {
        Answer::Accept => {
            let Acceptance { identity, name, metadata, attributes } = acceptance(job);
            livekit::AvailabilityResponse {
                job_id,
                available: true,
                participant_identity: identity,
                participant_name: name,
                participant_metadata: metadata,
                participant_attributes: attributes,
                ..Default::default()
            }
        }
        Answer::Decline => livekit::AvailabilityResponse { job_id, ..Default::default() },
        Answer::Terminate => livekit::AvailabilityResponse { job_id, terminate: true, ..Default::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register() -> livekit::RegisterWorkerRequest {
        livekit::RegisterWorkerRequest::default()
    }

    fn written(frame: ToServer) -> Up {
        let Message::Binary(bytes) = encode(frame, &register(), |_| Acceptance::default()) else {
            panic!("not a binary frame")
        };
        livekit::WorkerMessage::decode(bytes).expect("what we wrote").message.expect("a message")
    }

    #[test]
    fn wire_1_no_bytes_panic() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            if let Some(incoming) = decode(bytes) {
                let _ = incoming.message();
            }
        });
    }

    #[test]
    fn wire_1_every_truncation_of_a_real_frame_is_read_or_rejected() {
        let job = livekit::Job { id: "AJ_1".into(), metadata: "x".repeat(300), ..Default::default() };
        let assignment = livekit::JobAssignment { job: Some(job), url: None, token: "t".into() };
        let whole = livekit::ServerMessage { message: Some(Down::Assignment(assignment)) }.encode_to_vec();
        for cut in 0..whole.len() {
            assert!(!matches!(decode(&whole[..cut]), Some(Incoming::Assignment { .. })), "cut at {cut}");
        }
        assert!(matches!(decode(&whole), Some(Incoming::Assignment { .. })));
    }

    #[test]
    fn wire_1_frames_about_no_job_are_rejected() {
        let nameless = livekit::AvailabilityRequest { job: Some(livekit::Job::default()), resuming: false };
        for message in [
            Down::Availability(nameless),
            Down::Availability(livekit::AvailabilityRequest::default()),
            Down::Assignment(livekit::JobAssignment::default()),
            Down::Termination(livekit::JobTermination::default()),
        ] {
            let bytes = livekit::ServerMessage { message: Some(message) }.encode_to_vec();
            assert!(decode(&bytes).is_none());
        }
    }

    #[test]
    fn drain_3_a_decline_never_ends_the_call() {
        let Up::Availability(answer) = written(ToServer::Answer("AJ_1".into(), Answer::Decline)) else {
            panic!("not an answer")
        };
        assert_eq!((answer.job_id.as_str(), answer.available, answer.terminate), ("AJ_1", false, false));
    }

    #[test]
    fn drain_2_full_says_full_and_draining() {
        let status = last_call_proto::Status {
            available: false,
            draining: true,
            load: last_call_proto::Load::from_thousandths(500),
            jobs: 3,
        };
        let Up::UpdateWorker(update) = written(ToServer::Status(status)) else { panic!("not a status") };
        assert_eq!(update.status, Some(livekit::WorkerStatus::WsFull.into()));
        assert!(update.draining && update.job_count == 3 && (update.load - 0.5).abs() < f32::EPSILON);
    }
}
