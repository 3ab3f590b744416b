//! Conversations of a caller and a recipient, and everything that keeps one from its end.

use std::time::{Duration, Instant};

use livekit_protocol::data_packet::Value;
use livekit_protocol::{DataPacket, RpcAck, RpcRequest};
use proptest::prelude::*;

use super::{ACK_WITHIN, MOST, RUNNING, RUNNING_OF_ONE, Rpc, RpcError, RpcOutput, WORDS};

const WITHIN: Duration = Duration::from_secs(15);

fn request(payload: &str) -> RpcRequest {
    RpcRequest {
        id: "1".to_owned(),
        method: "greet".to_owned(),
        payload: payload.to_owned(),
        ..RpcRequest::default()
    }
}

fn value(packet: &DataPacket) -> Value {
    packet.value.clone().expect("a value")
}

fn sent(outputs: Vec<RpcOutput>) -> Vec<DataPacket> {
    let packet = |output| if let RpcOutput::Send(packet) = output { Some(packet) } else { None };
    outputs.into_iter().filter_map(packet).collect()
}

fn code(outputs: &[RpcOutput]) -> Option<u32> {
    match outputs {
        [RpcOutput::Done(_, Err(error))] => Some(error.code),
        _ => None,
    }
}

#[test]
fn a_call_is_acknowledged_invoked_and_answered_once() {
    let now = Instant::now();
    let (mut caller, mut recipient) = (Rpc::default(), Rpc::default());
    recipient.offer("greet", true);
    let asked = caller.call(now, request("hello"), "bob", WITHIN).expect("small enough");
    assert!(matches!(&asked.value, Some(Value::RpcRequest(asked)) if asked.response_timeout_ms == 8_000));
    assert_eq!(asked.destination_identities, ["bob"]);
    let mut outputs = recipient.receive("alice", value(&asked));
    let Some(RpcOutput::Invoke(invocation)) = outputs.pop() else { panic!("not invoked") };
    assert_eq!((invocation.method.as_str(), invocation.payload.as_str()), ("greet", "hello"));
    assert_eq!(recipient.receive("alice", value(&asked)), [], "said twice");
    for packet in sent(outputs) {
        assert_eq!(caller.receive("bob", value(&packet)), []);
    }
    assert_eq!(caller.due(now + ACK_WITHIN), [], "it was acknowledged");
    let answer = recipient.respond("alice", &invocation.id, Ok("hi".to_owned())).expect("an answer");
    assert_eq!(recipient.respond("alice", &invocation.id, Ok("hi".to_owned())), None, "answered twice");
    assert_eq!(caller.receive("mallory", value(&answer)), [], "an answer of somebody else's");
    assert_eq!(caller.receive("bob", value(&answer)), [RpcOutput::Done("1".to_owned(), Ok("hi".to_owned()))]);
    assert_eq!(caller.receive("bob", value(&answer)), []);
    assert_eq!(caller.deadline(), None);
}

#[test]
fn each_way_to_fail_has_its_code() {
    let now = Instant::now();
    let mut caller = Rpc::default();
    let too_large = caller.call(now, request(&"x".repeat(MOST + 1)), "bob", WITHIN).expect_err("too large");
    assert_eq!(too_large.code, RpcError::REQUEST_PAYLOAD_TOO_LARGE);

    caller.call(now, request(""), "bob", WITHIN).expect("small enough");
    assert_eq!(code(&caller.due(now + ACK_WITHIN)), Some(RpcError::CONNECTION_TIMEOUT));
    let hasty = caller.call(now, request(""), "bob", ACK_WITHIN / 2).expect("small enough");
    assert!(matches!(hasty.value, Some(Value::RpcRequest(asked)) if asked.response_timeout_ms == 1_000));
    let nobody = code(&caller.due(now + ACK_WITHIN / 2));
    assert_eq!(nobody, Some(RpcError::CONNECTION_TIMEOUT), "never acknowledged, however short the wait");
    caller.call(now, request(""), "bob", WITHIN).expect("small enough");
    let ack = RpcAck { request_id: "1".to_owned() };
    assert_eq!(caller.receive("bob", Value::RpcAck(ack)), []);
    assert_eq!(code(&caller.due(now + WITHIN)), Some(RpcError::RESPONSE_TIMEOUT));
    caller.call(now, request(""), "bob", WITHIN).expect("small enough");
    assert_eq!(code(&caller.unsent("1")), Some(RpcError::SEND_FAILED));
    caller.call(now, request(""), "bob", WITHIN).expect("small enough");
    assert_eq!(caller.left("carol"), []);
    assert_eq!(code(&caller.left("bob")), Some(RpcError::RECIPIENT_DISCONNECTED));

    let mut recipient = Rpc::default();
    let refused = |recipient: &mut Rpc, asked: &DataPacket, caller: &mut Rpc| {
        let sent = sent(recipient.receive("alice", value(asked)));
        code(&sent.iter().flat_map(|packet| caller.receive("bob", value(packet))).collect::<Vec<_>>())
    };
    let asked = caller.call(now, request(""), "bob", WITHIN).expect("small enough");
    assert_eq!(refused(&mut recipient, &asked, &mut caller), Some(RpcError::UNSUPPORTED_METHOD));
    recipient.offer("greet", true);
    let mut asked = caller
        .call(now, RpcRequest { id: "2".to_owned(), ..request("") }, "bob", WITHIN)
        .expect("small enough");
    if let Some(Value::RpcRequest(request)) = &mut asked.value {
        request.version = 2;
    }
    assert_eq!(refused(&mut recipient, &asked, &mut caller), Some(RpcError::UNSUPPORTED_VERSION));
    let asked = caller
        .call(now, RpcRequest { id: "3".to_owned(), ..request("") }, "bob", WITHIN)
        .expect("small enough");
    recipient.receive("alice", value(&asked));
    let answer = recipient.respond("alice", "3", Ok("x".repeat(MOST + 1))).expect("an answer");
    assert_eq!(code(&caller.receive("bob", value(&answer))), Some(RpcError::RESPONSE_PAYLOAD_TOO_LARGE));
}

#[test]
fn an_error_s_words_are_cut_between_characters() {
    let error = RpcError { data: "é".repeat(MOST), ..RpcError::application("é".repeat(WORDS)) }.cut();
    assert_eq!((error.message.len(), error.data.len()), (WORDS, MOST));
    let odd = RpcError::application(format!("x{}", "é".repeat(WORDS))).cut();
    assert_eq!(odd.message.len(), WORDS - 1);
}

#[test]
fn one_caller_s_flood_leaves_room_for_another() {
    let mut recipient = Rpc::default();
    recipient.offer("greet", true);
    let mut flood = |caller: &str, count: usize| {
        let ask =
            |index: usize| Value::RpcRequest(RpcRequest { id: index.to_string(), version: 1, ..request("") });
        let outputs = (0..count).flat_map(|index| recipient.receive(caller, ask(index))).collect::<Vec<_>>();
        outputs.iter().filter(|output| matches!(output, RpcOutput::Invoke(_))).count()
    };
    assert_eq!(flood("mallory", RUNNING), RUNNING_OF_ONE);
    assert_eq!(flood("alice", 1), 1);
    let large = Value::RpcRequest(RpcRequest { version: 1, ..request(&"x".repeat(MOST + 1)) });
    assert!(!recipient.receive("bob", large).iter().any(|output| matches!(output, RpcOutput::Invoke(_))));
    let long = Value::RpcRequest(RpcRequest { id: "x".repeat(WORDS + 1), version: 1, ..request("") });
    assert_eq!(recipient.receive("bob", long), []);
}

proptest! {
    /// Whatever a participant sends: nothing panics, and what is kept has a bound.
    #[test]
    fn arbitrary_requests_are_bounded(ids in prop::collection::vec("[a-c]{0,3}", 0..200), known in any::<bool>()) {
        let mut recipient = Rpc::default();
        recipient.offer("greet", known);
        for id in ids {
            let outputs = recipient.receive("mallory", Value::RpcRequest(RpcRequest { id, version: 1, ..request("") }));
            prop_assert!(outputs.len() <= 2);
        }
        prop_assert!(recipient.running.len() <= RUNNING && recipient.seen.len() <= super::SEEN);
        if !known {
            prop_assert!(recipient.running.is_empty());
        }
        recipient.left("mallory");
        prop_assert!(recipient.running.is_empty());
    }
}
