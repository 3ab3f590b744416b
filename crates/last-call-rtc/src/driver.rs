//! The one place with sockets, a clock and tokio: it dials the signalling, moves datagrams and packets, keeps the time,
//! and asks the engine what to do. Refuses to decide anything.

mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_channel::mpsc::UnboundedReceiver;
use futures_core::Stream;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{ReconnectReason, SessionDescription};
use livekit_signaling::{SignalClient, SignalError, SignalEvent, SignalEvents, SignalOptions};
use str0m::Candidate;
use str0m::net::Protocol;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use url::Url;

use self::socket::Ways;
use crate::engine::{Command, Dial, Engine, EngineInput, EngineOutput, Failure, Heard};
use crate::ladder::Generation;
use crate::session::Which;

/// A burst of video or of many voices fits; the default of Linux drops packets on a busy machine (rtc.md, G6).
const RECEIVE_BUFFER: usize = 2 << 20;
/// How many datagrams are taken at once, before anything else gets its turn.
const BATCH: usize = 64;
/// Larger than any datagram of WebRTC's.
const DATAGRAM: usize = 2048;

/// How long the server may take to hear that a participant leaves.
const HANG_UP_WITHIN: Duration = Duration::from_millis(800);

/// The threads that rooms live on: one a core, started at the first room, for the whole life of the process. User code
/// runs on none of them, so it can block without a gap in a call's audio.
pub(crate) fn spawn(room: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    static THREADS: OnceLock<Vec<Handle>> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if THREADS.get().is_none() {
        // Two that begin at once: the threads of one of them stay without rooms, and sleep.
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = (0..count).map(start_thread).collect::<io::Result<Vec<_>>>()?;
        let _ = THREADS.set(threads);
    }
    let threads = THREADS.get().ok_or_else(|| io::Error::other("no thread for rooms"))?;
    let next = NEXT.fetch_add(1, Ordering::Relaxed) % threads.len().max(1);
    let handle = threads.get(next).ok_or_else(|| io::Error::other("no thread for rooms"))?;
    handle.spawn(room);
    Ok(())
}

fn start_thread(index: usize) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name(format!("room-{index}"))
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// What the engine says, on its way to the signalling.
enum Said {
    Join(Generation, Dial, Option<SessionDescription>),
    Send(Box<Request>),
    Resume(Generation, ReconnectReason),
    /// What is under way is not waited for.
    Abandon,
    Reconnected,
    HangUp,
}

/// Runs one room until the engine is finished.
pub(crate) async fn run(mut engine: Engine, mut commands: UnboundedReceiver<Command>) {
    let (said, to_say) = mpsc::unbounded_channel();
    let (to_hear, mut heard) = mpsc::unbounded_channel();
    let signalling = tokio::spawn(signalling(to_say, to_hear));
    let mut sockets = Sockets::default();
    let (mut ways, mut from_ways) = Ways::new();
    loop {
        let mut deadline = None;
        while let Some(output) = engine.poll() {
            match output {
                EngineOutput::Bind { url, peers } => {
                    sockets = Sockets::bind(&url, &peers).await;
                    sockets.candidates().for_each(|(which, own)| engine.add_local_candidate(which, own));
                    engine.input(Instant::now(), EngineInput::Bound);
                }
                EngineOutput::Join { generation, dial, offer } => {
                    say(&said, Said::Join(generation, dial, offer))
                }
                EngineOutput::Signal(request) => say(&said, Said::Send(Box::new(request))),
                EngineOutput::Resume(generation, reason) => say(&said, Said::Resume(generation, reason)),
                EngineOutput::Abandon => say(&said, Said::Abandon),
                EngineOutput::Resumed => say(&said, Said::Reconnected),
                EngineOutput::Transmit(which, transmit) => {
                    sockets.send(which, transmit.destination, &transmit.contents)
                }
                EngineOutput::Socket(id, action) => ways.act(id, action),
                EngineOutput::Timeout(at) => {
                    deadline = Some(at);
                    break;
                }
                EngineOutput::Finished(waiting) => {
                    say(&said, Said::HangUp);
                    // A socket that is stuck tells nobody anything.
                    let _ = tokio::time::timeout(HANG_UP_WITHIN, signalling).await;
                    for left in waiting {
                        // Who waited may have given up.
                        let _ = left.send(());
                    }
                    return;
                }
            }
        }
        let deadline = deadline.unwrap_or_else(Instant::now);
        tokio::select! {
            () = tokio::time::sleep_until(deadline.into()) => engine.input(Instant::now(), EngineInput::Timeout),
            () = std::future::poll_fn(|context| engine.poll_captured(context)) => {
                engine.input(Instant::now(), EngineInput::Timeout);
            }
            ready = sockets.readable() => sockets.receive(ready, &mut engine),
            Some((generation, heard)) = heard.recv() => {
                engine.input(Instant::now(), EngineInput::Heard(generation, heard));
            }
            Some((id, news)) = from_ways.recv() => {
                engine.input(Instant::now(), EngineInput::Route(id, news));
            }
            command = next(&mut commands) => match command {
                Some(command) => engine.input(Instant::now(), EngineInput::Command(command)),
                // The last handle is gone.
                None => engine.input(Instant::now(), EngineInput::Abandoned),
            },
        }
    }
}

async fn next(commands: &mut UnboundedReceiver<Command>) -> Option<Command> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *commands).poll_next(context)).await
}

fn say(said: &mpsc::UnboundedSender<Said>, what: Said) {
    // The signalling's task ends with this one.
    let _ = said.send(what);
}

/// One client, and the number of the socket that it has.
struct Signalling {
    connection: Option<(SignalClient, SignalEvents)>,
    generation: Generation,
    heard: mpsc::UnboundedSender<(Generation, Heard)>,
}

/// Sends in order, and restarts: on a task of its own, so that a stuck socket holds no media.
async fn signalling(
    mut said: mpsc::UnboundedReceiver<Said>,
    heard: mpsc::UnboundedSender<(Generation, Heard)>,
) {
    let mut signalling = Signalling { connection: None, generation: 0, heard };
    // What was said while a join or a resume was under way.
    let mut next = VecDeque::new();
    loop {
        let what = match next.pop_front() {
            Some(what) => Some(what),
            None => tokio::select! {
                what = said.recv() => what,
                event = signalling.next_event() => {
                    signalling.on_event(event);
                    continue;
                }
            },
        };
        match what {
            Some(Said::Join(generation, dial, offer)) => {
                signalling.hang_up().await;
                signalling.generation = generation;
                next = unless_abandoned(&mut said, signalling.join(&dial, offer)).await;
                // What was asked of the session before is nothing to this one, which is told everything anew.
                next.retain(|what| !matches!(what, Said::Send(_)));
            }
            Some(Said::Resume(generation, reason)) => {
                signalling.generation = generation;
                next = unless_abandoned(&mut said, signalling.resume(reason)).await;
            }
            Some(Said::Send(request)) => {
                if let Some((client, _)) = &signalling.connection {
                    client.send(*request).await;
                }
            }
            Some(Said::Reconnected) => {
                if let Some((client, _)) = &signalling.connection {
                    client.set_reconnected().await;
                }
            }
            // It was done already.
            Some(Said::Abandon) => {}
            Some(Said::HangUp) | None => return signalling.hang_up().await,
        }
    }
}

/// Does `what` until it is done, or something ends it; and what was said meanwhile.
async fn unless_abandoned(
    said: &mut mpsc::UnboundedReceiver<Said>,
    what: impl Future<Output = ()>,
) -> VecDeque<Said> {
    tokio::pin!(what);
    let mut meanwhile = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            () = &mut what => return meanwhile,
            order = said.recv() => match order.unwrap_or(Said::HangUp) {
                order @ (Said::Send(_) | Said::Reconnected) => meanwhile.push_back(order),
                Said::Abandon => return meanwhile,
                order @ (Said::HangUp | Said::Join(..) | Said::Resume(..)) => {
                    meanwhile.push_back(order);
                    return meanwhile;
                }
            },
        }
    }
}

impl Signalling {
    fn hear(&self, what: Heard) {
        // The engine is gone when nobody hears.
        let _ = self.heard.send((self.generation, what));
    }

    async fn next_event(&mut self) -> Option<SignalEvent> {
        match &mut self.connection {
            Some((_, events)) => events.recv().await,
            None => std::future::pending().await,
        }
    }

    fn on_event(&mut self, event: Option<SignalEvent>) {
        match event {
            Some(SignalEvent::Message(message)) => self.hear(Heard::Message(message)),
            Some(SignalEvent::Close(reason)) => self.hear(Heard::Closed(reason.into_owned())),
            None => self.connection = None,
        }
    }

    async fn hang_up(&mut self) {
        if let Some((client, _)) = self.connection.take() {
            client.close().await;
        }
    }

    async fn join(&mut self, dial: &Dial, offer: Option<SessionDescription>) {
        match SignalClient::connect(&dial.url, &dial.token, options(dial), offer).await {
            Ok((client, join, events)) => {
                let single = client.is_single_pc_mode_active();
                self.hear(Heard::Joined { join: Box::new(join), single });
                self.connection = Some((client, events));
            }
            Err(error) => self.hear(failed(&error)),
        }
    }

    /// A new socket for the same session. The close of the old one is no news any more (rtc.md, G11).
    async fn resume(&mut self, reason: ReconnectReason) {
        let Some((client, events)) = &mut self.connection else {
            return self.hear(failed(&SignalError::Closed));
        };
        let resumed = client.restart(reason).await;
        let mut messages = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let SignalEvent::Message(message) = event {
                messages.push(message);
            }
        }
        let is_up = client.is_connected().await;
        match resumed {
            Ok(response) => {
                self.hear(Heard::Resumed(response));
                messages.into_iter().for_each(|message| self.hear(Heard::Message(message)));
                if !is_up {
                    self.hear(Heard::Closed("closed as soon as it was resumed".to_owned()));
                }
            }
            Err(error) => self.hear(failed(&error)),
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else went wrong may pass")]
fn failed(error: &SignalError) -> Heard {
    let failure = match error {
        SignalError::Client(status, _) if matches!(status.as_u16(), 401 | 403 | 404) => Failure::Permanent,
        SignalError::UrlParse(_) | SignalError::TokenFormat => Failure::Permanent,
        SignalError::LeaveRequest { .. } => Failure::Gone,
        _ => Failure::Passing,
    };
    Heard::Failed { failure, error: error.to_string() }
}

fn options(dial: &Dial) -> SignalOptions {
    let mut options = SignalOptions::default();
    options.auto_subscribe = dial.auto_subscribe;
    options.single_peer_connection = dial.single;
    // From 18 on the server makes the data channels with fixed ids, in an offer that is older than its answer (G7).
    options.protocol_version = 16;
    // Nothing that a server or another client would send and this one not understand (G8).
    options.client_capabilities = Vec::new();
    options.client_protocol = 0;
    options.sdk_options.sdk_version = Some(env!("CARGO_PKG_VERSION").to_owned());
    options
}

/// One UDP socket a connection.
#[derive(Default)]
struct Sockets {
    sockets: Vec<(Which, UdpSocket, SocketAddr)>,
}

impl Sockets {
    /// As many as there can be: without one, ICE has TCP and relays.
    async fn bind(url: &str, peers: &[Which]) -> Self {
        let ip = local_ip(url).await;
        let bound = peers.iter().filter_map(|which| match bind_udp(ip) {
            Ok((socket, port)) => Some((*which, socket, SocketAddr::new(ip, port))),
            Err(error) => {
                tracing::warn!(%error, "no UDP socket for a room");
                None
            }
        });
        Self { sockets: bound.collect() }
    }

    fn candidates(&self) -> impl Iterator<Item = (Which, Candidate)> {
        self.sockets
            .iter()
            .filter_map(|(which, _, own)| Some((*which, Candidate::host(*own, Protocol::Udp).ok()?)))
    }

    fn send(&self, which: Which, destination: SocketAddr, datagram: &[u8]) {
        if let Some((_, socket, _)) = self.sockets.iter().find(|(of, ..)| *of == which) {
            // What the network does not take is lost, as on its way.
            let _ = socket.try_send_to(datagram, destination);
        }
    }

    /// Which socket has something to read.
    async fn readable(&self) -> usize {
        let one = |index: usize| async move {
            match self.sockets.get(index) {
                Some((_, socket, _)) => {
                    // An error is read off by the receive that follows.
                    let _ = socket.readable().await;
                    index
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            index = one(0) => index,
            index = one(1) => index,
        }
    }

    fn receive(&self, ready: usize, engine: &mut Engine) {
        let Some((which, socket, own)) = self.sockets.get(ready) else { return };
        let mut buffer = [0; DATAGRAM];
        for _ in 0..BATCH {
            let Ok((length, source)) = socket.try_recv_from(&mut buffer) else { return };
            engine.datagram(Instant::now(), *which, Protocol::Udp, source, *own, &buffer[..length]);
        }
    }
}

fn bind_udp(ip: IpAddr) -> io::Result<(UdpSocket, u16)> {
    let (domain, any): (_, IpAddr) = match ip {
        IpAddr::V4(_) => (socket2::Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => (socket2::Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    // The kernel caps it where it must.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    // Bound to every address: the route may change, and the server learns of the new one by ICE.
    socket.bind(&SocketAddr::new(if ip.is_loopback() { ip } else { any }, 0).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

/// The address that packets to the server leave from. Nothing is sent to find out but the name's lookup.
async fn local_ip(url: &str) -> IpAddr {
    let route = |address: SocketAddr| -> io::Result<IpAddr> {
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        Ok(socket.local_addr()?.ip())
    };
    let url = Url::parse(url).ok();
    let found = match url.as_ref().and_then(Url::host_str) {
        // With the brackets of an address of version 6. The route is the same for every port.
        Some(host) => tokio::net::lookup_host(format!("{host}:443")).await.ok(),
        None => None,
    };
    // An address for documentation: whatever the default route is.
    let elsewhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    let mut addresses = found.into_iter().flatten().chain([elsewhere]);
    addresses.find_map(|address| route(address).ok()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
