//! Owns the stub's port and the way of a connection from TCP over TLS to its WebSocket. Refuses nothing of itself: script and keys do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};

use super::connection::{Stream, Upgraded, serve};
use super::event::{Upgrade, What};
use super::shared::{Policy, Shared};

/// What the test asks of the port; each is acknowledged with the port's address or the reason why not.
pub(crate) struct Port {
    pub(crate) open: bool,
    pub(crate) done: std::sync::mpsc::Sender<Result<SocketAddr>>,
}

/// The stub's settings below HTTP.
pub(crate) struct Transport {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) receive_buffer: Option<u32>,
}

impl Transport {
    fn bind(&self) -> Result<TcpListener> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.context("cannot make a socket")?;
        socket.set_reuseaddr(true).context("cannot reuse an address")?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).context("cannot size the receive buffer")?;
        }
        socket.bind(self.address).with_context(|| format!("cannot bind {}", self.address))?;
        socket.listen(1024).with_context(|| format!("cannot listen on {}", self.address))
    }
}

/// Accepts connections until the test lets go of `orders`.
pub(crate) async fn listen(
    shared: Arc<Shared>,
    mut transport: Transport,
    mut orders: mpsc::UnboundedReceiver<Port>,
) {
    let mut listener: Option<TcpListener> = None;
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => {
                let Some(Port { open, done }) = order else { return };
                listener = None;
                let answer = if open {
                    transport.bind().and_then(|bound| {
                        transport.address = bound.local_addr()?;
                        listener = Some(bound);
                        Ok(transport.address)
                    })
                } else {
                    Ok(transport.address)
                };
                // The test may have given up waiting.
                let _ = done.send(answer);
            }
            Ok((stream, _)) = accepted => {
                let number = shared.next.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(welcome(Arc::clone(&shared), number, stream, transport.tls.clone()));
            }
        }
    }
}

async fn welcome(shared: Arc<Shared>, number: u64, stream: TcpStream, tls: Option<TlsAcceptor>) {
    match upgrade(&shared, number, stream, tls).await {
        Ok(Some(upgraded)) => serve(shared, upgraded).await,
        Ok(None) => shared.record(number, What::Ended("refused".to_owned())),
        Err(error) => shared.record(number, What::Ended(format!("{error:#}"))),
    }
}

/// Answers the upgrade; `None` when it was refused.
async fn upgrade(
    shared: &Shared,
    number: u64,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
) -> Result<Option<Upgraded>> {
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    let socket = SockRef::from(&stream).try_clone().context("cannot share the socket")?;
    let mut stream: Box<dyn Stream> = match tls {
        Some(tls) => Box::new(tls.accept(stream).await.context("TLS handshake")?),
        None => Box::new(stream),
    };
    let (mut rest, mut reads) = (BytesMut::with_capacity(16 * 1024), 0);
    let request = loop {
        if stream.read_buf(&mut rest).await.context("reading the upgrade")? == 0 {
            bail!("the worker closed the socket before its upgrade");
        }
        reads += 1;
        if let Some((size, request)) = Request::try_parse(&rest).context("not an upgrade")? {
            rest.advance(size);
            break request;
        }
    };
    let seen = describe(&request);
    let policy = shared.script().upgrade;
    let refusal = match policy {
        Policy::Hang => {
            shared.record(number, What::Hung(seen));
            // Until the test's stub is dropped, or the worker has lost its patience.
            while stream.read_buf(&mut rest).await.context("reading behind a hung upgrade")? > 0 {
                rest.clear();
            }
            bail!("the worker gave up its hung upgrade");
        }
        Policy::Refuse(status) => Some(status),
        Policy::Accept if !shared.allows(seen.token()) => Some(401),
        Policy::Accept => None,
    };
    let Some(status) = refusal else {
        let mut response = Vec::new();
        write_response(&mut response, &create_response(&request).context("not an upgrade")?)?;
        // Recorded first: the worker's first frame must not come before it in the log.
        shared.record(number, What::Connected(seen));
        stream.write_all(&response).await.context("answering the upgrade")?;
        stream.flush().await.context("answering the upgrade")?;
        return Ok(Some(Upgraded { number, stream, socket, rest, reads }));
    };
    shared.record(number, What::Refused(seen, status));
    let body = "refused by the stub";
    let length = body.len();
    let response =
        format!("HTTP/1.1 {status} Refused\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(response.as_bytes()).await.context("refusing the upgrade")?;
    stream.shutdown().await.context("refusing the upgrade")?;
    Ok(None)
}

fn describe(request: &Request) -> Upgrade {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
    Upgrade { target: request.uri().to_string(), headers: headers.collect() }
}
