//! Owns a scripted LiveKit server as a worker sees it: the dispatcher's side of `/agent`, with every fault a test asks for and a record
//! of all that came. Refuses to judge the worker, and to share a thread with it.

mod connection;
mod event;
mod job;
mod server;
mod shared;
mod storm;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use livekit_protocol as proto;
use livekit_protocol::server_message::Message as ToWorker;
use livekit_protocol::worker_message::Message as FromWorker;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

pub use self::event::{Event, Upgrade, What};
pub use self::job::Job;
use self::server::{Port, Transport};
pub use self::shared::{Answer, Offer};
use self::shared::{Out, Policy, Script, Shared};
pub use self::storm::{Storm, Tally};
use crate::certificate::Certificate;
use crate::cut::Cut;
use crate::host::{Host, PROMPT};
use crate::wire;

/// What a stub is and does by itself. The default accepts upgrades and answers pings, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The address to listen on; 127.0.0.1 by default. The port is free choice of the system.
    pub bind: Option<IpAddr>,
    /// The network namespace to listen in; by default that of the test.
    pub netns: Option<String>,
    /// Serves `wss` with this certificate, instead of `ws`.
    pub certificate: Option<Certificate>,
    /// API key and secret: an upgrade without a token signed by them and granting `agent` is refused with 401. By default any is taken.
    pub keys: Option<(String, String)>,
    /// Answers every registration.
    pub register: bool,
    /// Follows every acceptance with its assignment, after this delay.
    pub assign: Option<Duration>,
    /// Size of the sockets' receive buffer in bytes: small, a freeze reaches the worker soon.
    pub receive_buffer: Option<u32>,
}

impl Options {
    /// As the real server: registrations are answered and acceptances assigned, at once.
    pub fn auto() -> Self {
        Self { register: true, assign: Some(Duration::ZERO), ..Self::default() }
    }
}

/// A running stub. Its port and connections close when it is dropped.
#[derive(Debug)]
pub struct Stub {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
    host: Host,
    orders: mpsc::UnboundedSender<Port>,
}

impl Stub {
    /// Starts a stub on a free port.
    ///
    /// # Errors
    /// When address, namespace or certificate cannot be used.
    pub fn start(options: Options) -> Result<Self> {
        let script = Script {
            upgrade: Policy::Accept,
            register: options.register,
            assign: options.assign,
            pong: true,
        };
        let shared = Arc::new(Shared::new(script, options.keys));
        let ip = options.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let tls = options.certificate.as_ref().map(Certificate::server).transpose()?.map(TlsAcceptor::from);
        let scheme = if tls.is_some() { "wss" } else { "ws" };
        let transport =
            Transport { address: SocketAddr::new(ip, 0), tls, receive_buffer: options.receive_buffer };
        let host = Host::start("stub", options.netns.as_deref())?;
        let (orders, received) = mpsc::unbounded_channel();
        host.spawn(server::listen(Arc::clone(&shared), transport, received));
        let mut stub = Self { shared, address: SocketAddr::new(ip, 0), scheme, host, orders };
        stub.address = stub.port(true)?;
        Ok(stub)
    }

    /// Starts a stub that behaves as the real server does.
    ///
    /// # Errors
    /// When no port is free.
    pub fn auto() -> Result<Self> {
        Self::start(Options::auto())
    }

    /// What a worker takes as LIVEKIT_URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The open connections, oldest first.
    pub fn connections(&self) -> Vec<u64> {
        self.shared.handles().keys().copied().collect()
    }

    /// The newest open connection on which a worker has registered.
    pub fn registered(&self) -> Option<u64> {
        self.shared.newest_registered()
    }

    /// Everything that happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.shared.log.entries(0)
    }

    /// What happened after a [`Stub::mark`].
    pub fn events_after(&self, mark: usize) -> Vec<Event> {
        self.shared.log.entries(mark)
    }

    /// The number of events so far, from where [`Stub::wait_for_after`] looks on.
    pub fn mark(&self) -> usize {
        self.shared.log.len()
    }

    /// Shows `seek` every event, once and in order, those that are there already and those that come, until it returns something.
    /// `seek` must not call the stub: the log stands still meanwhile.
    ///
    /// # Errors
    /// When it returned nothing in `timeout`: with the last events.
    pub fn wait_for<R>(&self, seek: impl FnMut(&Event) -> Option<R>, timeout: Duration) -> Result<R> {
        self.wait_for_after(0, seek, timeout)
    }

    /// As [`Stub::wait_for`], passing over the first `mark` events.
    ///
    /// # Errors
    /// As [`Stub::wait_for`].
    pub fn wait_for_after<R>(
        &self,
        mark: usize,
        seek: impl FnMut(&Event) -> Option<R>,
        timeout: Duration,
    ) -> Result<R> {
        self.shared.log.wait(mark, timeout, seek).ok_or_else(|| {
            let events = self.events();
            let last: Vec<String> =
                events.iter().rev().take(20).rev().map(|event| format!("{event:?}")).collect();
            anyhow!("the stub did not see the awaited in {timeout:?}; its last events:\n{}", last.join("\n"))
        })
    }

    /// Waits for a registration behind the first `mark` events; its connection.
    ///
    /// # Errors
    /// When none came in `timeout`.
    pub fn wait_registered(&self, mark: usize, timeout: Duration) -> Result<u64> {
        let registration = |event: &Event| matches!(event.message(), Some(FromWorker::Register(_)));
        self.wait_for_after(mark, |event| registration(event).then_some(event.connection), timeout)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection is not open; so with every method below that names a connection.
    pub fn send(&self, connection: u64, message: ToWorker) -> Result<()> {
        self.shared.send(connection, message)
    }

    /// Sends bytes as they are, whether they are a frame or not.
    ///
    /// # Errors
    /// When the connection is not open.
    pub fn send_raw(&self, connection: u64, bytes: impl Into<Vec<u8>>) -> Result<()> {
        // A connection that ends meanwhile says so in the log.
        self.shared.with(connection, |handle| drop(handle.out.send(Out::Bytes(bytes.into().into()))))
    }

    /// Sends a binary frame with this payload, which need not be a message.
    ///
    /// # Errors
    /// When the connection is not open.
    pub fn send_binary(&self, connection: u64, payload: impl Into<Vec<u8>>) -> Result<()> {
        self.send_raw(connection, wire::frame(OpCode::Data(Data::Binary), payload.into()))
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// When the connection is not open.
    pub fn send_text(&self, connection: u64, text: &str) -> Result<()> {
        self.send_raw(connection, wire::frame(OpCode::Data(Data::Text), text.to_owned()))
    }

    /// Offers a job on the newest registered connection.
    ///
    /// # Errors
    /// When no worker is registered.
    pub fn offer(&self, job: Job) -> Result<()> {
        let connection = self.registered().context("no worker is registered with the stub")?;
        self.offer_on(connection, job)
    }

    /// Offers a job on one connection.
    ///
    /// # Errors
    /// When the connection is not open.
    pub fn offer_on(&self, connection: u64, job: Job) -> Result<()> {
        let job = Some(job.into_message());
        self.send(connection, ToWorker::Availability(proto::AvailabilityRequest { job, resuming: false }))
    }

    /// Assigns an offered job, whether it was accepted or not, on the connection of its offer. Without a token, one for the job's room is made.
    ///
    /// # Errors
    /// When the job was never offered, or its connection is gone.
    pub fn assign(&self, job_id: &str, token: Option<String>, url: Option<String>) -> Result<()> {
        self.shared.assign(job_id, token, url)
    }

    /// Terminates an offered job, on the connection of its offer.
    ///
    /// # Errors
    /// When the job was never offered, or its connection is gone.
    pub fn terminate(&self, job_id: &str) -> Result<()> {
        let connection = self.shared.offers().get(job_id).map(|offer| offer.connection);
        let connection = connection.with_context(|| format!("job {job_id} was never offered"))?;
        self.send(connection, ToWorker::Termination(proto::JobTermination { job_id: job_id.to_owned() }))
    }

    /// Asks the worker to register elsewhere.
    ///
    /// # Errors
    /// When the connection is not open.
    pub fn go_away(&self, connection: u64, reason: &str) -> Result<()> {
        self.send(connection, ToWorker::GoAway(proto::agent_http::GoAway { reason: reason.to_owned() }))
    }

    /// Offers `total` jobs at `rate` a second.
    pub fn storm(&self, rate: u32, total: u64) -> Storm {
        Storm::start(&self.shared, &self.host, rate, total)
    }

    /// Every offer so far and its answer, in no order.
    pub fn offers(&self) -> Vec<Offer> {
        self.shared.offers().values().cloned().collect()
    }

    /// Ends a connection.
    ///
    /// # Errors
    /// When the connection is not open.
    pub fn drop_connection(&self, connection: u64, cut: Cut) -> Result<()> {
        self.shared.with(connection, |handle| {
            handle.cut.send_replace(Some(cut));
        })
    }

    /// Stops reading from a connection: buffers fill, and the worker's writes stand still.
    ///
    /// # Errors
    /// When the connection is not open.
    pub fn freeze(&self, connection: u64) -> Result<()> {
        self.set_frozen(connection, true)
    }

    /// Reads on.
    ///
    /// # Errors
    /// When the connection is not open.
    pub fn thaw(&self, connection: u64) -> Result<()> {
        self.set_frozen(connection, false)
    }

    fn set_frozen(&self, connection: u64, frozen: bool) -> Result<()> {
        self.shared.with(connection, |handle| {
            handle.frozen.send_replace(frozen);
        })
    }

    /// Leaves WebSocket pings unanswered from now on: to the worker, the connection is half open.
    pub fn stop_pongs(&self) {
        self.shared.script().pong = false;
    }

    /// Answers WebSocket pings again.
    pub fn resume_pongs(&self) {
        self.shared.script().pong = true;
    }

    /// Whether registrations are answered from now on.
    pub fn set_register(&self, answer: bool) {
        self.shared.script().register = answer;
    }

    /// Whether, and how long after it, an acceptance is followed by its assignment from now on.
    pub fn set_assign(&self, after: Option<Duration>) {
        self.shared.script().assign = after;
    }

    /// Refuses upgrades with this HTTP status from now on.
    pub fn refuse(&self, status: u16) {
        self.shared.script().upgrade = Policy::Refuse(status);
    }

    /// Leaves upgrades without an answer from now on.
    pub fn hang_upgrade(&self) {
        self.shared.script().upgrade = Policy::Hang;
    }

    /// Accepts upgrades again.
    pub fn accept(&self) {
        self.shared.script().upgrade = Policy::Accept;
    }

    /// Closes the port: connecting is refused, open connections stay.
    ///
    /// # Errors
    /// When the stub's thread is gone.
    pub fn close_port(&self) -> Result<()> {
        self.port(false).map(drop)
    }

    /// Opens the same port again.
    ///
    /// # Errors
    /// When another program has taken it.
    pub fn reopen(&self) -> Result<()> {
        self.port(true).map(drop)
    }

    fn port(&self, open: bool) -> Result<SocketAddr> {
        let (done, answer) = std::sync::mpsc::channel();
        self.orders.send(Port { open, done }).ok().context("the stub's thread has ended")?;
        answer.recv_timeout(PROMPT).context("the stub's thread does not answer")?
    }
}
