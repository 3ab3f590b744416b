//! Owns who is told of the ends of remote procedure calls. Refuses their rules: those are `rpc.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_channel::{mpsc, oneshot};
use livekit_protocol::RpcRequest;
use livekit_protocol::data_packet::Value;

use super::{Engine, answer};
use crate::rpc::{Invocation, Rpc, RpcError, RpcOutput};

/// Where the end of a call of ours goes.
pub(crate) type RpcReply = oneshot::Sender<Result<String, RpcError>>;

#[derive(Default)]
pub(super) struct Remote {
    rpc: Rpc,
    waiting: BTreeMap<String, RpcReply>,
    methods: BTreeMap<String, mpsc::UnboundedSender<Invocation>>,
    last: u64,
}

impl Remote {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.rpc.deadline()
    }
}

impl Engine {
    pub(super) fn call(
        &mut self,
        to: &str,
        method: String,
        payload: String,
        within: Duration,
        reply: RpcReply,
    ) {
        if self.people.participant(to).is_none() {
            answer(reply, Err(RpcError::standard(RpcError::RECIPIENT_NOT_FOUND)));
            return;
        }
        self.remote.last += 1;
        // Unique among those who call the same recipient, across rejoins too.
        let id = format!("{:x}-{:016x}", self.remote.last, fastrand::u64(..));
        let request = RpcRequest { id: id.clone(), method, payload, ..RpcRequest::default() };
        match self.remote.rpc.call(self.now, request, to, within) {
            Ok(packet) => {
                self.remote.waiting.insert(id.clone(), reply);
                if !self.send_quietly(packet) {
                    let outputs = self.remote.rpc.unsent(&id);
                    self.perform_rpc(outputs);
                }
            }
            Err(error) => answer(reply, Err(error)),
        }
    }

    pub(super) fn offer_method(&mut self, method: String, invocations: mpsc::UnboundedSender<Invocation>) {
        self.remote.rpc.offer(&method, true);
        self.remote.methods.insert(method, invocations);
    }

    pub(super) fn respond(&mut self, caller: &str, id: &str, result: Result<String, RpcError>) {
        if let Some(packet) = self.remote.rpc.respond(caller, id, result) {
            self.send_quietly(packet);
        }
    }

    /// A packet of RPC's.
    pub(super) fn on_rpc(&mut self, from: &str, value: Value) {
        let outputs = self.remote.rpc.receive(from, value);
        self.perform_rpc(outputs);
    }

    pub(super) fn rpc_due(&mut self) {
        let outputs = self.remote.rpc.due(self.now);
        self.perform_rpc(outputs);
    }

    pub(super) fn rpc_left(&mut self, identity: &str) {
        let outputs = self.remote.rpc.left(identity);
        self.perform_rpc(outputs);
    }

    fn perform_rpc(&mut self, outputs: Vec<RpcOutput>) {
        for output in outputs {
            match output {
                // Whoever sends more requests than it takes answers waits in vain.
                RpcOutput::Send(packet) => drop(self.send_quietly(packet)),
                RpcOutput::Done(id, result) => {
                    if let Some(reply) = self.remote.waiting.remove(&id) {
                        answer(reply, result);
                    }
                }
                RpcOutput::Invoke(invocation) => self.invoke(invocation),
            }
        }
    }

    fn invoke(&mut self, invocation: Invocation) {
        let (caller, id, method) =
            (invocation.caller.clone(), invocation.id.clone(), invocation.method.clone());
        let heard =
            self.remote.methods.get(&method).is_some_and(|method| method.unbounded_send(invocation).is_ok());
        if !heard {
            // Whoever offered it is gone.
            self.remote.methods.remove(&method);
            self.remote.rpc.offer(&method, false);
            self.respond(&caller, &id, Err(RpcError::standard(RpcError::UNSUPPORTED_METHOD)));
        }
    }
}
