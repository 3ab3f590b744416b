//! The server: bound, watched, run.
//!
//! Owns the order of start and end. Refuses signals: whoever runs it says when it ends.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::agent::Agents;
use crate::config::{BindError, Config};
use crate::event::Event;
use crate::http;
use crate::hub::{Hub, Outlets};
use crate::journal::{Journal, Notes};
use crate::page::Page;
use crate::shared::Shared;
use crate::webhook::Receiver;

/// What workers and webhooks are given at the end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// A server that has its port, and answers once it is [run](Server::run).
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    journal: Journal,
    config: Config,
}

impl Server {
    /// Takes the port; connections wait until the server runs.
    ///
    /// # Errors
    /// When the port cannot be had, or an option makes no sense.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        config.check()?;
        let address = config.address;
        let refused = |error| BindError::Listen { address, error };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, journal: Journal::new(config.has_page()), config })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What workers take as LIVEKIT_URL: on this machine, where it listens on every address.
    #[must_use]
    pub fn url(&self) -> String {
        let mut reached = self.address;
        match reached.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => reached.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => reached.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        format!("ws://{reached}")
    }

    /// Everything that happens from now on. One who is more than 1,024 events late misses some, and is told.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.journal.follow()
    }

    /// The way to put a remark among the events. It may be used from any thread, before and while the server runs.
    #[must_use]
    pub fn notes(&self) -> Notes {
        Notes::new(self.journal.clone())
    }

    /// Serves until `shutdown` is ready, then closes every socket and waits at most 2 s for the last words.
    /// Runs within a tokio runtime that has IO and time enabled. Dropped, it leaves workers' sockets open
    /// until the runtime ends.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, journal, config, .. } = self;
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the runtime takes no socket: nothing is served"),
        };
        let mut posts = JoinSet::new();
        let webhooks = config.webhooks.iter().map(|url| {
            let (queue, receiver) = Receiver::new(url.clone(), config.keys.clone());
            posts.spawn(receiver.serve());
            queue
        });
        let page = config.has_page().then(|| Page::new(journal.clone()));
        let outlets = Outlets { journal, webhooks: webhooks.collect() };
        let shared = Arc::new(Shared::new(Hub::new(&config, outlets), config.keys));
        let (alive, mut sockets) = mpsc::channel(1);
        let router = http::router(Arc::clone(&shared), Agents { shared: Arc::clone(&shared), alive }, page);
        tokio::select! {
            () = shutdown => {}
            () = http::serve(listener, router) => {}
            () = shared.keep_time() => {}
        }
        shared.hub(Hub::hang_up);
        // Nothing is sent here: it ends when no socket's task is left.
        let _ = timeout(GOODBYE_WITHIN, sockets.recv()).await;
        drop(shared);
        let _ = timeout(GOODBYE_WITHIN, async { while posts.join_next().await.is_some() {} }).await;
    }
}
