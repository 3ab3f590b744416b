//! Owns the handles of remote procedure calls: calling a method of another's, and offering one. Refuses their rules.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;

use super::Room;
use crate::engine::Command;
use crate::rpc::{Invocation, RpcError};

impl Room {
    /// Calls a method of the participant `destination`, and waits for its answer, for `within` at most (the official SDKs
    /// wait 15 s if nothing else is said). Dropped, the answer is not waited for; the method runs all the same.
    ///
    /// # Errors
    /// [`RpcError`] with one of its codes: what kept the call from its end, or what the method answered.
    pub async fn perform_rpc(
        &self,
        destination: &str,
        method: &str,
        payload: impl Into<String>,
        within: Duration,
    ) -> Result<String, RpcError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Call {
            to: destination.to_owned(),
            method: method.to_owned(),
            payload: payload.into(),
            within,
            reply,
        });
        answer.await.unwrap_or_else(|_| Err(RpcError::standard(RpcError::SEND_FAILED)))
    }

    /// Offers a method: what comes are its calls, until what is returned is dropped. A method that is offered again is the
    /// newer offer's.
    #[must_use]
    pub fn rpc_method(&self, method: &str) -> RpcMethod {
        let (invocations, calls) = mpsc::unbounded();
        self.tell(Command::Offer { method: method.to_owned(), invocations });
        RpcMethod { room: self.clone(), calls }
    }
}

/// The calls of a method that this participant offers.
#[derive(Debug)]
pub struct RpcMethod {
    room: Room,
    calls: mpsc::UnboundedReceiver<Invocation>,
}

impl RpcMethod {
    /// The next call; `None` once the room is over. Cancel safe.
    pub async fn next(&mut self) -> Option<RpcCall> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for RpcMethod {
    type Item = RpcCall;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<RpcCall>> {
        let next = Pin::new(&mut self.calls).poll_next(context);
        next.map(|next| {
            next.map(|invocation| RpcCall { room: self.room.clone(), invocation: Some(invocation) })
        })
    }
}

/// A call of a method. Dropped without an answer, it is answered with an application error.
#[derive(Debug)]
pub struct RpcCall {
    room: Room,
    /// `None` once it is answered.
    invocation: Option<Invocation>,
}

impl RpcCall {
    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> &str {
        self.invocation.as_ref().map_or("", |invocation| &invocation.caller)
    }

    /// What the caller says.
    #[must_use]
    pub fn payload(&self) -> &str {
        self.invocation.as_ref().map_or("", |invocation| &invocation.payload)
    }

    /// How long the caller waits for the answer.
    #[must_use]
    pub fn within(&self) -> Duration {
        self.invocation.as_ref().map_or(Duration::ZERO, |invocation| invocation.within)
    }

    /// Answers. An answer that comes too late is nobody's.
    pub fn answer(mut self, result: Result<String, RpcError>) {
        self.say(result);
    }

    fn say(&mut self, result: Result<String, RpcError>) {
        if let Some(Invocation { id, caller, .. }) = self.invocation.take() {
            self.room.tell(Command::Answer { caller, id, result });
        }
    }
}

impl Drop for RpcCall {
    fn drop(&mut self) {
        self.say(Err(RpcError::standard(RpcError::APPLICATION_ERROR)));
    }
}
