//! Between the inputs of a [`Turn`] and turn-client-proto: what it says is carried out, and what waits is kept in
//! bounds. Refuses inputs from outside: `turn.rs` takes them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use turn_client_proto::api::{TurnEvent, TurnPeerData, TurnPollRet};
use turn_client_proto::prelude::TurnClientApi;
use turn_client_proto::stun::Instant as TurnInstant;
use turn_client_proto::types::TransportType;

use super::{ALLOCATION_LIMIT, MAX_STEPS, MAX_WAITING, Permission, Turn, TurnFailure, TurnOutput};

impl Turn {
    pub(super) fn turn_time(&self, now: Instant) -> TurnInstant {
        // The crate's clock counts nanoseconds in an i64: far more than a session lasts.
        TurnInstant::ZERO + now.saturating_duration_since(self.epoch)
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.step(now);
        if self.relayed.is_some() || self.over {
            return;
        }
        let limit = self.epoch + ALLOCATION_LIMIT;
        if now >= limit {
            self.fail(TurnFailure::Refused);
        } else {
            self.due = Some(self.due.map_or(limit, |due| due.min(limit)));
        }
    }

    pub(super) fn step(&mut self, now: Instant) {
        let at = self.turn_time(now);
        for _ in 0..MAX_STEPS {
            if self.over {
                return;
            }
            let polled = self.client.poll(at);
            let sent = self.transmit_all(at);
            let heard = self.hear_all(now);
            match polled {
                TurnPollRet::WaitUntil(until) if until > at => {
                    let wait = until.saturating_duration_since(TurnInstant::ZERO);
                    self.due = self.epoch.checked_add(wait);
                    if !sent && !heard {
                        return;
                    }
                }
                TurnPollRet::WaitUntil(_) if !sent && !heard => break,
                TurnPollRet::Closed => {
                    let failure =
                        if self.relayed.is_some() { TurnFailure::Ended } else { TurnFailure::Refused };
                    self.fail(failure);
                }
                // Only TCP allocations, which are not asked for, have peers' sockets.
                TurnPollRet::WaitUntil(_)
                | TurnPollRet::AllocateTcpSocket { .. }
                | TurnPollRet::TcpClose { .. } => {}
            }
        }
        // Something is due at once and does not go on: try again shortly instead of without end.
        self.due = now.checked_add(Duration::from_millis(10));
    }

    pub(super) fn transmit_all(&mut self, at: TurnInstant) -> bool {
        let mut any = false;
        while let Some(transmit) = self.client.poll_transmit(at) {
            self.outputs.push_back(TurnOutput::Transmit(transmit.data.to_vec()));
            any = true;
        }
        any
    }

    pub(super) fn hear_all(&mut self, now: Instant) -> bool {
        let at = self.turn_time(now);
        let mut any = false;
        while let Some(data) = self.client.poll_recv(at) {
            self.deliver(&data);
            any = true;
        }
        while let Some(event) = self.client.poll_event() {
            self.hear(&event, now);
            any = true;
        }
        any
    }

    pub(super) fn hear(&mut self, event: &TurnEvent, now: Instant) {
        match event {
            TurnEvent::AllocationCreated(_, relayed) => {
                self.relayed = Some(*relayed);
                self.outputs.push_back(TurnOutput::Relayed(*relayed));
            }
            TurnEvent::AllocationCreateFailed(_) => self.fail(TurnFailure::Refused),
            TurnEvent::PermissionCreated(_, ip) => {
                for (peer, permission) in &mut self.peers {
                    if peer.ip() == *ip {
                        *permission = Permission::Given;
                    }
                }
                for (peer, payload) in std::mem::take(&mut self.waiting) {
                    if peer.ip() == *ip {
                        self.relay(peer, &payload, now);
                    } else {
                        self.waiting.push_back((peer, payload));
                    }
                }
            }
            // Forgotten, so that a later payload asks again: ICE goes on trying as long as it hopes.
            TurnEvent::PermissionCreateFailed(_, ip) => {
                self.peers.retain(|peer, _| peer.ip() != *ip);
                self.waiting.retain(|(peer, _)| peer.ip() != *ip);
            }
            // Without a channel the payloads go in indications.
            TurnEvent::ChannelCreated(..)
            | TurnEvent::ChannelCreateFailed(..)
            | TurnEvent::TcpConnected(_)
            | TurnEvent::TcpConnectFailed(_) => {}
        }
    }

    pub(super) fn ask(&mut self, peer: SocketAddr, now: Instant) {
        let at = self.turn_time(now);
        let given = self.client.have_permission(TransportType::Udp, peer.ip());
        self.peers.insert(peer, if given { Permission::Given } else { Permission::Asked });
        // Refusals say that it stands or is asked for already, or that the allocation is ending, which is heard of.
        let _ = self.client.create_permission(TransportType::Udp, peer.ip(), at);
        if self.client.transport() == TransportType::Udp {
            let _ = self.client.bind_channel(TransportType::Udp, peer, at);
        }
        if given {
            for (peer, payload) in std::mem::take(&mut self.waiting) {
                self.send_or_keep(peer, payload, now);
            }
        }
    }

    pub(super) fn send_or_keep(&mut self, peer: SocketAddr, payload: Vec<u8>, now: Instant) {
        if self.peers.get(&peer) == Some(&Permission::Given) {
            self.relay(peer, &payload, now);
        } else {
            self.waiting.push_back((peer, payload));
        }
    }

    pub(super) fn wait(&mut self, peer: SocketAddr, payload: &[u8]) {
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((peer, payload.to_vec()));
    }

    pub(super) fn relay(&mut self, peer: SocketAddr, payload: &[u8], now: Instant) {
        let at = self.turn_time(now);
        match self.client.send_to(TransportType::Udp, peer, payload, at) {
            Ok(Some(transmit)) => self.outputs.push_back(TurnOutput::Transmit(transmit.build().data)),
            Ok(None) => {}
            // The permission lapsed: the next payload asks for it again.
            Err(_) => drop(self.peers.remove(&peer)),
        }
    }

    pub(super) fn deliver<T: AsRef<[u8]> + std::fmt::Debug>(&mut self, data: &TurnPeerData<T>) {
        self.outputs.push_back(TurnOutput::Received { peer: data.peer, payload: data.data().to_vec() });
    }

    pub(super) fn fail(&mut self, failure: TurnFailure) {
        if !self.over {
            self.over = true;
            self.due = None;
            self.relayed = None;
            self.waiting.clear();
            self.outputs.push_back(TurnOutput::Failed(failure));
        }
    }
}
