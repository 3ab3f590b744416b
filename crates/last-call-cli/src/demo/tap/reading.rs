//! What a message says to the demo, and the one message that does not pass as it is.
//!
//! Owns both directions' meaning. Refuses to keep what nobody may see: metadata, tokens, participants.

use last_call_server::Reply;
use livekit::server_message::Message as Down;
use livekit::worker_message::Message as Up;
use livekit_protocol as livekit;
use prost::Message as _;
use serde_json::Value;

use super::frames::Message;
use super::seen::SeenWhat;

/// Characters of an id or an error that are kept.
const BRIEF: usize = 200;

/// What a worker's message says; `None` if nothing of interest. `available` is what it last said of that.
pub(super) fn of_worker(message: &Message, available: &mut bool) -> Option<SeenWhat> {
    let read = if message.text {
        serde_json::from_slice(&message.payload).ok()
    } else {
        livekit::WorkerMessage::decode(&message.payload[..]).ok()
    };
    let Some(said) = read.and_then(|message: livekit::WorkerMessage| message.message) else {
        return Some(SeenWhat::Unread { from_worker: true, bytes: message.payload.len() });
    };
    match said {
        Up::UpdateWorker(update) => {
            *available = update
                .status
                .map_or(*available, |status| status == i32::from(livekit::WorkerStatus::WsAvailable));
            Some(SeenWhat::Status {
                available: *available,
                draining: update.draining,
                load: update.load,
                jobs: update.job_count,
            })
        }
        Up::Availability(answer) => {
            // The order in which livekit-server looks.
            let reply = match (answer.terminate, answer.available) {
                (true, _) => Reply::Terminated,
                (false, true) => Reply::Accepted,
                (false, false) => Reply::Declined,
            };
            Some(SeenWhat::Answered { job: brief(&answer.job_id), reply })
        }
        Up::UpdateJob(update) => {
            let job = brief(&update.job_id);
            let ended = |success| SeenWhat::Ended { job: job.clone(), success, error: brief(&update.error) };
            match livekit::JobStatus::try_from(update.status) {
                Ok(livekit::JobStatus::JsRunning) => Some(SeenWhat::Running { job }),
                Ok(livekit::JobStatus::JsSuccess) => Some(ended(true)),
                Ok(livekit::JobStatus::JsFailed) => Some(ended(false)),
                Ok(livekit::JobStatus::JsPending) | Err(_) => None,
            }
        }
        Up::Register(registration) => Some(SeenWhat::Registering {
            // Whole, since calls are dispatched to it.
            agent_name: registration.agent_name,
            version: brief(&registration.version),
        }),
        Up::Ping(_) | Up::SimulateJob(_) | Up::MigrateJob(_) => None,
    }
}

/// What a server's message says, and what is to be passed on in its place, if it is an assignment that leads nowhere
/// and there are `rooms`.
pub(super) fn of_server(message: &Message, rooms: Option<&str>) -> (Option<SeenWhat>, Option<Vec<u8>>) {
    let read = if message.text {
        serde_json::from_slice(&message.payload).ok()
    } else {
        livekit::ServerMessage::decode(&message.payload[..]).ok()
    };
    let unread = SeenWhat::Unread { from_worker: false, bytes: message.payload.len() };
    let Some(said) = read.and_then(|message: livekit::ServerMessage| message.message) else {
        return (Some(unread), None);
    };
    let named = |job: Option<livekit::Job>| {
        let job = job?;
        let room = job.room.map(|room| brief(&room.name)).unwrap_or_default();
        Some((brief(&job.id), brief(&job.dispatch_id), room))
    };
    match said {
        Down::Register(reply) => (Some(SeenWhat::Registered { worker_id: brief(&reply.worker_id) }), None),
        Down::Availability(request) => {
            let offered = named(request.job);
            let what = offered.map(|(job, dispatch, room)| SeenWhat::Offered { job, dispatch, room });
            (Some(what.unwrap_or(unread)), None)
        }
        Down::Assignment(assignment) => {
            let leads = assignment.url.as_ref().is_some_and(|url| !url.is_empty());
            let filled = rooms.filter(|_| !leads).and_then(|url| filled(message, url));
            let assigned = named(assignment.job);
            let what = assigned.map(|(job, dispatch, room)| SeenWhat::Assigned { job, dispatch, room });
            (Some(what.unwrap_or(unread)), filled)
        }
        Down::Termination(end) => (Some(SeenWhat::Terminated { job: brief(&end.job_id) }), None),
        Down::Pong(_) | Down::GoAway(_) => (None, None),
    }
}

/// The same assignment with a URL; what is unknown in it stays.
fn filled(message: &Message, url: &str) -> Option<Vec<u8>> {
    if message.text {
        let mut json: Value = serde_json::from_slice(&message.payload).ok()?;
        json.get_mut("assignment")?.as_object_mut()?.insert("url".to_owned(), url.into());
        return serde_json::to_vec(&json).ok();
    }
    // In protobuf, of a message that comes twice the parts are put together.
    let addition = livekit::JobAssignment { url: Some(url.to_owned()), ..Default::default() };
    let addition = livekit::ServerMessage { message: Some(Down::Assignment(addition)) };
    Some([message.payload.clone(), addition.encode_to_vec()].concat())
}

fn brief(text: &str) -> String {
    text.chars().take(BRIEF).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(payload: Vec<u8>) -> Message {
        Message { wire: Default::default(), payload, text: false }
    }

    fn text(payload: &str) -> Message {
        Message { wire: Default::default(), payload: payload.into(), text: true }
    }

    fn assignment(url: Option<&str>) -> Vec<u8> {
        let room = livekit::Room { name: "lobby".into(), metadata: "hunter2".into(), ..Default::default() };
        let job = livekit::Job {
            id: "AJ_1".into(),
            dispatch_id: "AD_1".into(),
            room: Some(room),
            metadata: "hunter2".into(),
            ..Default::default()
        };
        let url = url.map(str::to_owned);
        let assignment = livekit::JobAssignment { job: Some(job), url, token: "hunter2".into() };
        livekit::ServerMessage { message: Some(Down::Assignment(assignment)) }.encode_to_vec()
    }

    #[test]
    fn wire_1_no_bytes_panic_and_all_pass() {
        bolero::check!().with_type::<(Vec<u8>, bool)>().for_each(|(bytes, text)| {
            let message = Message { text: *text, ..binary(bytes.clone()) };
            of_worker(&message, &mut true);
            let (_, instead) = of_server(&message, None);
            assert_eq!(instead, None);
        });
    }

    #[test]
    fn an_assignment_that_leads_nowhere_gets_the_rooms() {
        // A field that this version does not know, within the assignment.
        let (job, unknown) = (assignment(None), [0xfa, 0x07, 0x03, b'n', b'e', b'w']);
        let inner = [&job[1 + 1..], &unknown].concat();
        assert_eq!((job[0], usize::from(job[1])), (0x1a, job.len() - 2), "a short message of field 3");
        let newer = [&[0x1a, u8::try_from(inner.len()).expect("short")][..], &inner].concat();

        let (what, instead) = of_server(&binary(newer.clone()), Some("wss://rooms.example"));
        let assigned =
            SeenWhat::Assigned { job: "AJ_1".into(), dispatch: "AD_1".into(), room: "lobby".into() };
        assert_eq!(what, Some(assigned));
        let instead = instead.expect("filled");
        assert!(instead.starts_with(&newer), "what is unknown stays");
        let read = livekit::ServerMessage::decode(&instead[..]).expect("protobuf").message;
        let Some(Down::Assignment(read)) = read else { panic!("not an assignment: {read:?}") };
        assert_eq!(read.url.as_deref(), Some("wss://rooms.example"));
        assert_eq!((read.token.as_str(), read.job.expect("the job").id.as_str()), ("hunter2", "AJ_1"));

        let empty = of_server(&binary(assignment(Some(""))), Some("wss://rooms.example")).1.expect("filled");
        assert!(String::from_utf8_lossy(&empty).contains("wss://rooms.example"));
        assert_eq!(of_server(&binary(assignment(Some("wss://other"))), Some("wss://rooms.example")).1, None);
        assert_eq!(of_server(&binary(assignment(None)), None).1, None);
    }

    #[test]
    fn an_assignment_in_json_gets_the_rooms_too() {
        let message = text(r#"{"assignment":{"job":{"id":"AJ_1"},"token":"t"}}"#);
        let (what, instead) = of_server(&message, Some("ws://rooms"));
        assert!(matches!(what, Some(SeenWhat::Assigned { job, .. }) if job == "AJ_1"));
        let read: Value = serde_json::from_slice(&instead.expect("filled")).expect("JSON");
        assert_eq!(
            read,
            serde_json::json!({"assignment":{"job":{"id":"AJ_1"},"token":"t","url":"ws://rooms"}})
        );
    }

    #[test]
    fn nothing_secret_is_seen() {
        let (what, _) = of_server(&binary(assignment(None)), Some("wss://rooms"));
        assert!(!format!("{what:?}").contains("hunter2"));
    }

    #[test]
    fn a_name_that_calls_are_dispatched_to_is_kept_whole() {
        let (agent_name, version) = ("é".repeat(BRIEF + 1), "1".repeat(BRIEF + 1));
        let registration =
            livekit::RegisterWorkerRequest { agent_name: agent_name.clone(), version, ..Default::default() };
        let message = livekit::WorkerMessage { message: Some(Up::Register(registration)) };
        let seen = of_worker(&binary(message.encode_to_vec()), &mut true);
        assert_eq!(seen, Some(SeenWhat::Registering { agent_name, version: "1".repeat(BRIEF) }));
    }

    #[test]
    fn a_status_without_a_word_about_it_changes_nothing() {
        let status = |status| {
            let update =
                livekit::UpdateWorkerStatus { status, load: 0.5, job_count: 2, ..Default::default() };
            binary(livekit::WorkerMessage { message: Some(Up::UpdateWorker(update)) }.encode_to_vec())
        };
        let mut available = true;
        let full = of_worker(&status(Some(livekit::WorkerStatus::WsFull.into())), &mut available);
        let still = of_worker(&status(None), &mut available);
        let expected = SeenWhat::Status { available: false, draining: false, load: 0.5, jobs: 2 };
        assert_eq!((full.as_ref(), still.as_ref()), (Some(&expected), Some(&expected)));
    }

    #[test]
    fn an_answer_is_read_as_the_server_reads_it() {
        for (terminate, available, reply) in [
            (false, true, Reply::Accepted),
            (false, false, Reply::Declined),
            (true, false, Reply::Terminated),
            (true, true, Reply::Terminated),
        ] {
            let answer = livekit::AvailabilityResponse {
                job_id: "AJ_1".into(),
                available,
                terminate,
                ..Default::default()
            };
            let message = livekit::WorkerMessage { message: Some(Up::Availability(answer)) };
            let answered = SeenWhat::Answered { job: "AJ_1".into(), reply };
            assert_eq!(of_worker(&binary(message.encode_to_vec()), &mut true), Some(answered.clone()));
            let json = serde_json::to_string(&message).expect("JSON");
            assert_eq!(of_worker(&text(&json), &mut true), Some(answered));
        }
    }

    #[test]
    fn messages_of_another_protocol_are_counted() {
        // Field 8, which this protocol does not have.
        let unread = |from_worker, bytes| Some(SeenWhat::Unread { from_worker, bytes });
        assert_eq!(of_worker(&binary(vec![0x42, 0]), &mut true), unread(true, 2));
        assert_eq!(of_server(&binary(vec![0x42, 0]), None).0, unread(false, 2));
        assert_eq!(of_server(&text("not JSON"), None).0, unread(false, 8));
    }
}
