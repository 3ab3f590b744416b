//! Owns a company's HTTP proxy: CONNECT tunnels, recorded and refused at will. Refuses any other method, and to look into a tunnel.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::host::Host;
use crate::log::Log;

/// A longer head is no CONNECT.
const HEAD: usize = 16 * 1024;

/// What a client asked the proxy for.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Host and port, as the client wrote them.
    pub target: String,
    /// The Proxy-Authorization header.
    pub authorization: Option<String>,
    /// The status it was answered with.
    pub status: u16,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { target, authorization, status } = self;
        let authorized = authorization.is_some();
        f.debug_struct("Connect")
            .field("target", target)
            .field("status", status)
            .field("authorized", &authorized)
            .finish()
    }
}

/// A running proxy on loopback. Its tunnels close when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    _host: Host,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    seen: Log<Connect>,
    route: Option<SocketAddr>,
    refusal: Mutex<Option<u16>>,
}

impl Proxy {
    /// Starts a proxy on a free port. With `route` every tunnel leads there, whatever its target: a name that only the proxy knows.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(route: Option<SocketAddr>) -> Result<Self> {
        let host = Host::start("proxy", None)?;
        let listener = host.call(async { Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?) })?;
        let address = listener.local_addr().context("the proxy has no address")?;
        let shared = Arc::new(Shared { seen: Log::new(1), route, refusal: Mutex::default() });
        let serving = Arc::clone(&shared);
        host.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A tunnel that fails is seen by the client.
                tokio::spawn(async move { tunnel(&shared, client).await.ok() });
            }
        });
        Ok(Self { _host: host, address, shared })
    }

    /// What a client takes as HTTPS_PROXY.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Connect> {
        self.shared.seen.entries(0)
    }

    /// Waits for the first request.
    ///
    /// # Errors
    /// When none came in `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<Connect> {
        let first = self.shared.seen.wait(0, timeout, |connect| Some(connect.clone()));
        first.with_context(|| format!("nobody asked the proxy for anything in {timeout:?}"))
    }

    /// Answers with this HTTP status from now on.
    pub fn refuse(&self, status: u16) {
        self.set(Some(status));
    }

    /// Opens tunnels again.
    pub fn accept(&self) {
        self.set(None);
    }

    fn set(&self, refusal: Option<u16>) {
        *self.shared.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }
}

async fn tunnel(shared: &Shared, mut client: TcpStream) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    // Clients of version 1.0 ask for tunnels too, such as Python's.
    let target = lines.next().and_then(|line| line.strip_prefix("CONNECT ")?.split_once(" HTTP/1."));
    let target = target.map(|(target, _)| target);
    let target = target.unwrap_or_default().to_owned();
    let authorization = lines
        .filter_map(|line| line.split_once(": "))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned()));
    let refusal = *shared.refusal.lock().unwrap_or_else(PoisonError::into_inner);
    let refusal = if target.is_empty() { Some(400) } else { refusal };
    let (status, server) = match (refusal, shared.route) {
        (Some(status), _) => (status, None),
        (None, route) => {
            let connected = match route {
                Some(address) => TcpStream::connect(address).await,
                None => TcpStream::connect(&target).await,
            };
            (if connected.is_ok() { 200 } else { 502 }, connected.ok())
        }
    };
    shared.seen.push(Connect { target, authorization, status });
    let length = if status == 200 { "" } else { "Content-Length: 0\r\n" };
    client.write_all(format!("HTTP/1.1 {status} Proxy\r\n{length}\r\n").as_bytes()).await?;
    if let Some(mut server) = server {
        copy_bidirectional(&mut client, &mut server).await?;
    }
    Ok(())
}
