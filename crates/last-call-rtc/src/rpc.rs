//! Owns remote procedure calls, version 1, both ways: who waits for whom, for how long, and what each end is called.
//! Refuses to send and to run a method: packets and invocations come out. (LiveKit's `RpcRequest`, `RpcAck`,
//! `RpcResponse`; codes and times are those of the official SDKs.)

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use livekit_protocol::data_packet::Value;
use livekit_protocol::rpc_response::Value as Answer;
use livekit_protocol::{DataPacket, RpcAck, RpcRequest, RpcResponse};

/// The most that a request or a response holds, in bytes.
const MOST: usize = 15 * 1024;
/// A recipient acknowledges a request within this time, or has no connection.
const ACK_WITHIN: Duration = Duration::from_secs(7);
/// What a recipient is told to take at least.
const LEAST: Duration = Duration::from_secs(1);
/// The most of an error's message, and the longest id or method that is taken, in bytes.
const WORDS: usize = 256;
/// Requests that are kept, to answer none of them twice.
const SEEN: usize = 1024;
/// Invocations that run at the same time, in all and of one caller: nobody can ask for more memory than that.
const RUNNING: usize = 1024;
const RUNNING_OF_ONE: usize = 256;

/// How a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("RPC error {code}: {message}")]
pub struct RpcError {
    /// One of the constants, or a number of the application's own.
    pub code: u32,
    /// For people.
    pub message: String,
    /// For programs; may be empty.
    pub data: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl RpcError {
            $($(#[$doc])* pub const $name: u32 = $code;)*
        }

        /// What the official SDKs say for the code.
        fn text(code: u32) -> &'static str {
            match code {
                $($code => $text,)*
                _ => "",
            }
        }
    };
}

codes! {
    /// The recipient has no method of that name.
    UNSUPPORTED_METHOD = 1400, "Method not supported at destination";
    /// There is no such participant.
    RECIPIENT_NOT_FOUND = 1401, "Recipient not found";
    /// More than 15 KiB were to be sent.
    REQUEST_PAYLOAD_TOO_LARGE = 1402, "Request payload too large";
    /// The server knows no RPC.
    UNSUPPORTED_SERVER = 1403, "RPC not supported by server";
    /// The recipient speaks another version.
    UNSUPPORTED_VERSION = 1404, "Unsupported RPC version";
    /// The method failed.
    APPLICATION_ERROR = 1500, "Application error in method handler";
    /// The recipient did not acknowledge the request.
    CONNECTION_TIMEOUT = 1501, "Connection timeout";
    /// The recipient did not answer in time.
    RESPONSE_TIMEOUT = 1502, "Response timeout";
    /// The recipient left.
    RECIPIENT_DISCONNECTED = 1503, "Recipient disconnected";
    /// More than 15 KiB were to be answered.
    RESPONSE_PAYLOAD_TOO_LARGE = 1504, "Response payload too large";
    /// The request could not be sent.
    SEND_FAILED = 1505, "Failed to send";
}

impl RpcError {
    /// One of the standard errors.
    #[must_use]
    pub fn standard(code: u32) -> Self {
        Self { code, message: text(code).to_owned(), data: String::new() }
    }

    /// An error of the application's: what a method answers when it fails.
    #[must_use]
    pub fn application(message: impl Into<String>) -> Self {
        Self { code: Self::APPLICATION_ERROR, message: message.into(), data: String::new() }
    }

    /// No longer than the official SDKs take it.
    fn cut(mut self) -> Self {
        for (text, most) in [(&mut self.message, WORDS), (&mut self.data, MOST)] {
            if text.len() > most {
                let whole = (0..=most).rev().find(|end| text.is_char_boundary(*end));
                text.truncate(whole.unwrap_or_default());
            }
        }
        self
    }
}

/// What follows from a packet, or from time.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a few at a time")]
pub(crate) enum RpcOutput {
    Send(DataPacket),
    /// A method of ours is called.
    Invoke(Invocation),
    /// A call of ours is over.
    Done(String, Result<String, RpcError>),
}

/// A call of a method of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) id: String,
    pub(crate) caller: String,
    pub(crate) method: String,
    pub(crate) payload: String,
    pub(crate) within: Duration,
}

#[derive(Debug)]
struct Call {
    recipient: String,
    /// `None` once it has been acknowledged.
    acknowledged_by: Option<Instant>,
    answered_by: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Rpc {
    calls: BTreeMap<String, Call>,
    methods: BTreeSet<String>,
    /// The invocations that wait for their end, by caller and id.
    running: BTreeSet<(String, String)>,
    seen: VecDeque<(String, String)>,
}

impl Rpc {
    /// Calls a method of another's.
    pub(crate) fn call(
        &mut self,
        now: Instant,
        request: RpcRequest,
        recipient: &str,
        within: Duration,
    ) -> Result<DataPacket, RpcError> {
        if request.payload.len() > MOST {
            return Err(RpcError::standard(RpcError::REQUEST_PAYLOAD_TOO_LARGE));
        }
        let call = Call {
            recipient: recipient.to_owned(),
            acknowledged_by: Some(now + ACK_WITHIN.min(within)),
            answered_by: now + within,
        };
        self.calls.insert(request.id.clone(), call);
        // The rest is for the way there and back.
        let effective = within.saturating_sub(ACK_WITHIN).max(LEAST).as_millis();
        let response_timeout_ms = u32::try_from(effective).unwrap_or(u32::MAX);
        Ok(packet(recipient, Value::RpcRequest(RpcRequest { version: 1, response_timeout_ms, ..request })))
    }

    /// A call of ours did not leave.
    pub(crate) fn unsent(&mut self, id: &str) -> Vec<RpcOutput> {
        self.fail(RpcError::SEND_FAILED, |of, _| of == id)
    }

    /// From now on this method is there, or is not.
    pub(crate) fn offer(&mut self, method: &str, offered: bool) {
        if offered {
            self.methods.insert(method.to_owned());
        } else {
            self.methods.remove(method);
        }
    }

    /// A packet of `from`; nothing where it is none of RPC's.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else a packet is")]
    pub(crate) fn receive(&mut self, from: &str, value: Value) -> Vec<RpcOutput> {
        match value {
            Value::RpcRequest(request) => self.requested(from, request),
            Value::RpcAck(ack) => {
                if let Some(call) = self.calls.get_mut(&ack.request_id).filter(|call| call.recipient == from)
                {
                    call.acknowledged_by = None;
                }
                Vec::new()
            }
            Value::RpcResponse(response) => self.answered(from, response),
            _ => Vec::new(),
        }
    }

    fn requested(&mut self, caller: &str, request: RpcRequest) -> Vec<RpcOutput> {
        let key = (caller.to_owned(), request.id.clone());
        if request.id.len() > WORDS || self.seen.contains(&key) {
            return Vec::new();
        }
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(key.clone());
        let ack = RpcAck { request_id: request.id.clone() };
        let mut outputs = vec![RpcOutput::Send(packet(caller, Value::RpcAck(ack)))];
        let refused = if request.version != 1 {
            Some(RpcError::UNSUPPORTED_VERSION)
        } else if !self.methods.contains(&request.method) {
            Some(RpcError::UNSUPPORTED_METHOD)
        } else if request.payload.len() > MOST {
            Some(RpcError::REQUEST_PAYLOAD_TOO_LARGE)
        } else {
            let of_one = self.running.iter().filter(|(running, _)| running == caller).count();
            let busy = self.running.len() >= RUNNING || of_one >= RUNNING_OF_ONE;
            busy.then_some(RpcError::APPLICATION_ERROR)
        };
        self.running.insert(key);
        if let Some(code) = refused {
            let answer = self.respond(caller, &request.id, Err(RpcError::standard(code)));
            outputs.extend(answer.map(RpcOutput::Send));
            return outputs;
        }
        outputs.push(RpcOutput::Invoke(Invocation {
            id: request.id,
            caller: caller.to_owned(),
            method: request.method,
            payload: request.payload,
            within: Duration::from_millis(request.response_timeout_ms.into()),
        }));
        outputs
    }

    fn answered(&mut self, from: &str, response: RpcResponse) -> Vec<RpcOutput> {
        if self.calls.get(&response.request_id).is_none_or(|call| call.recipient != from) {
            return Vec::new();
        }
        self.calls.remove(&response.request_id);
        let result = match response.value {
            Some(Answer::Payload(payload)) => Ok(payload),
            Some(Answer::Error(error)) => {
                Err(RpcError { code: error.code, message: error.message, data: error.data }.cut())
            }
            // Compression is never offered.
            Some(Answer::CompressedPayload(_)) | None => Err(RpcError::standard(RpcError::APPLICATION_ERROR)),
        };
        vec![RpcOutput::Done(response.request_id, result)]
    }

    /// The end of an invocation; `None` where nobody waits for it.
    pub(crate) fn respond(
        &mut self,
        caller: &str,
        id: &str,
        result: Result<String, RpcError>,
    ) -> Option<DataPacket> {
        if !self.running.remove(&(caller.to_owned(), id.to_owned())) {
            return None;
        }
        let result = result.and_then(|payload| {
            if payload.len() > MOST {
                return Err(RpcError::standard(RpcError::RESPONSE_PAYLOAD_TOO_LARGE));
            }
            Ok(payload)
        });
        let value = match result {
            Ok(payload) => Answer::Payload(payload),
            Err(error) => {
                let RpcError { code, message, data } = error.cut();
                Answer::Error(livekit_protocol::RpcError { code, message, data })
            }
        };
        let response = RpcResponse { request_id: id.to_owned(), value: Some(value) };
        Some(packet(caller, Value::RpcResponse(response)))
    }

    /// A participant left: nobody waits for it, and it waits for nobody.
    pub(crate) fn left(&mut self, identity: &str) -> Vec<RpcOutput> {
        self.running.retain(|(caller, _)| caller != identity);
        self.fail(RpcError::RECIPIENT_DISCONNECTED, |_, call| call.recipient == identity)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.calls.values().map(|call| call.acknowledged_by.unwrap_or(call.answered_by)).min()
    }

    pub(crate) fn due(&mut self, now: Instant) -> Vec<RpcOutput> {
        let mut over = self
            .fail(RpcError::CONNECTION_TIMEOUT, |_, call| call.acknowledged_by.is_some_and(|by| by <= now));
        over.extend(self.fail(RpcError::RESPONSE_TIMEOUT, |_, call| call.answered_by <= now));
        over
    }

    fn fail(&mut self, code: u32, which: impl Fn(&str, &Call) -> bool) -> Vec<RpcOutput> {
        let failed: Vec<String> =
            self.calls.iter().filter(|(id, call)| which(id, call)).map(|(id, _)| id.clone()).collect();
        self.calls.retain(|id, call| !which(id, call));
        failed.into_iter().map(|id| RpcOutput::Done(id, Err(RpcError::standard(code)))).collect()
    }
}

fn packet(to: &str, value: Value) -> DataPacket {
    DataPacket { destination_identities: vec![to.to_owned()], value: Some(value), ..DataPacket::default() }
}
