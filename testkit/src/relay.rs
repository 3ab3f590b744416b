//! Owns a TCP relay between a client and a server, and all that can go wrong on the way: slowness, silence, loss, ends; by bytes or by
//! WebSocket frames. Refuses packets: what needs the kernel to lose one is done by [`Netns`](crate::Netns).

pub(crate) mod pump;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use self::pump::Pump;
pub use self::script::{Frame, Verdict};
use crate::cut::Cut;
use crate::host::Host;

/// The way of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From whoever connected to the relay.
    ToServer,
    /// From the relay's target.
    ToClient,
}

/// What happens to the bytes of one direction. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every byte arrives so much later.
    pub delay: Duration,
    /// And up to so much later still; the order is kept.
    pub jitter: Duration,
    /// Chooses the jitter: equal seeds, equal jitter.
    pub seed: u64,
    /// Bytes per write, each a TCP segment of its own.
    pub chunk: Option<usize>,
    /// Bytes per second.
    pub rate: Option<u64>,
    /// Every byte is taken and none arrives: the sender learns nothing. What arrives afterwards lacks these bytes.
    pub blackhole: bool,
}

impl Faults {
    /// One byte at a time, a thousand a second.
    pub fn trickle() -> Self {
        Self { chunk: Some(1), rate: Some(1000), ..Self::default() }
    }
}

/// A running relay. Its connections close when it is dropped.
#[derive(Debug)]
pub struct Relay {
    _host: Host,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// One direction's orders, for all connections.
#[derive(Clone, Debug, Default)]
struct Lane {
    faults: Faults,
    frozen: bool,
    /// Bytes to let through before it freezes by itself.
    budget: Option<u64>,
    /// Counts the half-closes: a connection older than the last one is closed that way.
    closes: u64,
}

/// What becomes of a whole connection.
#[derive(Clone, Copy, Debug)]
enum End {
    Cut(Cut),
    /// No end that anyone sees.
    Abandoned,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    to_server: Way,
    to_client: Way,
    ends: Mutex<BTreeMap<u64, watch::Sender<Option<End>>>>,
    left: Mutex<BTreeSet<u64>>,
    script: script::Script,
}

#[derive(Debug, Default)]
struct Way {
    lane: watch::Sender<Lane>,
    bytes: AtomicU64,
}

impl Shared {
    fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn left(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<u64, watch::Sender<Option<End>>>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    /// Starts a relay on a free port of loopback, with no fault yet.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(target: SocketAddr) -> Result<Self> {
        Self::with(target, script::Script::default())
    }

    /// Starts a relay that shows `judge` every WebSocket frame behind the upgrade, of both directions, in the order of arrival.
    ///
    /// # Errors
    /// When no port is free.
    pub fn scripted(
        target: SocketAddr,
        judge: impl FnMut(&Frame) -> Verdict + Send + 'static,
    ) -> Result<Self> {
        Self::with(target, script::Script::new(judge))
    }

    fn with(target: SocketAddr, script: script::Script) -> Result<Self> {
        let host = Host::start("relay", None)?;
        let listener = host.call(async { Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?) })?;
        let address = listener.local_addr().context("the relay has no address")?;
        let (to_server, to_client) = (Way::default(), Way::default());
        let shared = Arc::new(Shared {
            target,
            to_server,
            to_client,
            ends: Mutex::default(),
            left: Mutex::default(),
            script,
        });
        let serving = Arc::clone(&shared);
        host.spawn(async move {
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                number += 1;
                tokio::spawn(carry(Arc::clone(&serving), number, client));
            }
        });
        Ok(Self { _host: host, address, shared })
    }

    /// Address and port to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a `ws://` URL.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The open connections, numbered from 1 in the order of their arrival.
    pub fn connections(&self) -> Vec<u64> {
        self.shared.ends().keys().copied().collect()
    }

    /// The connections that whoever made them has ended, the frozen ones too, whose end does not arrive.
    pub fn left(&self) -> BTreeSet<u64> {
        self.shared.left().clone()
    }

    /// Bytes that arrived, of all connections.
    pub fn arrived(&self, direction: Direction) -> u64 {
        self.shared.way(direction).bytes.load(Ordering::Relaxed)
    }

    /// Replaces the faults of a direction, of open connections too.
    pub fn set(&self, direction: Direction, faults: Faults) {
        self.change(direction, |lane| lane.faults = faults);
    }

    /// Nothing arrives any more; the senders' buffers fill.
    pub fn freeze(&self, direction: Direction) {
        self.change(direction, |lane| lane.frozen = true);
    }

    /// Freezes a direction by itself after so many further bytes: in the middle of a frame.
    pub fn freeze_after(&self, direction: Direction, bytes: u64) {
        self.change(direction, |lane| (lane.budget, lane.frozen) = (Some(bytes), bytes == 0));
    }

    /// Lets a frozen direction flow again.
    pub fn thaw(&self, direction: Direction) {
        self.change(direction, |lane| (lane.budget, lane.frozen) = (None, false));
    }

    /// Ends one direction of every open connection: its receiver reads the end, the other direction goes on.
    pub fn half_close(&self, direction: Direction) {
        self.change(direction, |lane| lane.closes += 1);
    }

    /// Ends every open connection, towards both sides.
    pub fn cut(&self, cut: Cut) {
        self.end(End::Cut(cut));
    }

    /// Leaves every open connection half open: its peers have their sockets still and never hear of each other again, not even
    /// of an end. New connections are carried as ever.
    pub fn abandon(&self) {
        self.end(End::Abandoned);
    }

    fn end(&self, end: End) {
        for connection in self.shared.ends().values() {
            connection.send_replace(Some(end));
        }
    }

    fn change(&self, direction: Direction, change: impl FnOnce(&mut Lane)) {
        self.shared.way(direction).lane.send_modify(change);
    }
}

/// One connection from its arrival to its end. Orders reach it from the first moment on, also while the target is still being connected.
async fn carry(shared: Arc<Shared>, number: u64, client: TcpStream) {
    let (end, mut ordered) = watch::channel(None);
    shared.ends().insert(number, end.clone());
    let up = Pump::new(Arc::clone(&shared), number, Direction::ToServer, end.clone());
    let down = Pump::new(Arc::clone(&shared), number, Direction::ToClient, end);
    let mut sockets = Vec::new();
    let order = tokio::select! {
        () = traffic(&mut sockets, shared.target, client, up, down) => None,
        _ = ordered.changed() => *ordered.borrow(),
    };
    shared.ends().remove(&number);
    match order {
        None | Some(End::Cut(Cut::Fin)) => {}
        Some(End::Cut(Cut::Rst)) => {
            for socket in &sockets {
                // Without it the test would see a FIN where it asked for a reset, and fail on that.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
        }
        // As long as this holds the sockets, neither peer is told.
        Some(End::Abandoned) => std::future::pending().await,
    }
}

/// Carries both directions to their ends; a target that cannot be reached is an end at once. `sockets` gets a second hold on each socket, so that
/// a cut decides how it closes.
async fn traffic(sockets: &mut Vec<Socket>, target: SocketAddr, client: TcpStream, up: Pump, down: Pump) {
    let Ok(outgoing) = (if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }) else {
        return;
    };
    sockets.extend(
        [SockRef::from(&client).try_clone(), SockRef::from(&outgoing).try_clone()].into_iter().flatten(),
    );
    let Ok(server) = outgoing.connect(target).await else { return };
    // Otherwise single bytes are put together again.
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    tokio::join!(up.run(from_client, to_server), down.run(from_server, to_client));
}
