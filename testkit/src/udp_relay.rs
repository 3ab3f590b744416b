//! Owns a relay of datagrams between clients and a server, and the bad network on the way: what it loses, and how late the rest
//! comes. Refuses streams, which [`Relay`](crate::Relay) has.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::UdpSocket;

use crate::host::Host;

/// The largest datagram there is.
const DATAGRAM: usize = 65_535;

/// What happens to datagrams, in both directions alike. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses {
    /// Of a hundred, so many never arrive.
    pub lost: u8,
    /// The others arrive so much later at most, by chance, and overtake each other.
    pub jitter: Duration,
}

/// A running relay. It is silent once it is dropped.
#[derive(Debug)]
pub struct UdpRelay {
    _host: Host,
    address: SocketAddr,
    losses: Arc<Mutex<Losses>>,
}

impl UdpRelay {
    /// Starts a relay on a free port of loopback, which loses nothing yet.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let host = Host::start("udp-relay", None)?;
        let front = host.call(async { Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?) })?;
        let address = front.local_addr().context("the relay has no address")?;
        let losses = Arc::new(Mutex::new(Losses::default()));
        let serving = Arc::clone(&losses);
        host.spawn(async move {
            // It ends with its host; an error before is a relay that is silent, which a test hears.
            let _ = serve(Arc::new(front), target, serving).await;
        });
        Ok(Self { _host: host, address, losses })
    }

    /// Address and port to send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces what happens to datagrams from now on.
    pub fn set(&self, losses: Losses) {
        *self.losses.lock().unwrap_or_else(PoisonError::into_inner) = losses;
    }
}

async fn serve(front: Arc<UdpSocket>, target: SocketAddr, losses: Arc<Mutex<Losses>>) -> Result<()> {
    let mut clients: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (length, client) = front.recv_from(&mut buffer).await?;
        let own = match clients.get(&client) {
            Some(own) => Arc::clone(own),
            None => {
                let own = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
                clients.insert(client, Arc::clone(&own));
                tokio::spawn(answer(Arc::clone(&own), Arc::clone(&front), client, Arc::clone(&losses)));
                own
            }
        };
        carry(own, target, &buffer[..length], &losses);
    }
}

/// What the server sends to one client.
async fn answer(
    own: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    client: SocketAddr,
    losses: Arc<Mutex<Losses>>,
) -> Result<()> {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (length, _) = own.recv_from(&mut buffer).await?;
        carry(Arc::clone(&front), client, &buffer[..length], &losses);
    }
}

/// Sends it there, now, later or never.
fn carry(from: Arc<UdpSocket>, to: SocketAddr, datagram: &[u8], losses: &Mutex<Losses>) {
    let Losses { lost, jitter } = *losses.lock().unwrap_or_else(PoisonError::into_inner);
    if fastrand::u8(..100) < lost {
        return;
    }
    let (datagram, late) = (datagram.to_vec(), jitter.mul_f64(fastrand::f64()));
    tokio::spawn(async move {
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
        // What the receiver does not take is lost.
        let _ = from.send_to(&datagram, to).await;
    });
}
