//! Owns the sockets of the ways beside plain UDP: a task each, that connects, reads and writes until its room drops it.
//! Refuses to know what goes through.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::routes::{RouteId, RouteNews, SocketAction};
use crate::turn::{Endpoint, Transport};

/// How long a server may take to be connected to, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Packets that wait to be written; what comes on top is lost, as it is on a network.
const WAITING: usize = 256;
/// What is read at once, in bytes. Larger than any datagram of WebRTC's.
const READ: usize = 16 * 1024;

/// The sockets of one room.
pub(super) struct Ways {
    news: mpsc::UnboundedSender<(RouteId, RouteNews)>,
    open: HashMap<RouteId, mpsc::Sender<Vec<u8>>>,
}

impl Ways {
    /// And where their news come.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<(RouteId, RouteNews)>) {
        let (news, from_ways) = mpsc::unbounded_channel();
        (Self { news, open: HashMap::new() }, from_ways)
    }

    pub(super) fn act(&mut self, id: RouteId, action: SocketAction) {
        match action {
            SocketAction::Open(endpoint) => {
                self.open.insert(id, open(id, endpoint, self.news.clone()));
            }
            SocketAction::Write(bytes) => {
                if let Some(way) = self.open.get(&id) {
                    // A way that takes no more loses it.
                    let _ = way.try_send(bytes);
                }
            }
            SocketAction::Close => drop(self.open.remove(&id)),
        }
    }
}

/// Starts the socket; it lasts until what is returned is dropped, or it breaks.
fn open(
    id: RouteId,
    endpoint: Endpoint,
    news: mpsc::UnboundedSender<(RouteId, RouteNews)>,
) -> mpsc::Sender<Vec<u8>> {
    let (outgoing, to_write) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        // Nobody hears it when the room is over.
        let tell = |what| drop(news.send((id, what)));
        if let Err(error) = run(&endpoint, to_write, tell).await {
            tracing::debug!(%error, host = endpoint.host, port = endpoint.port, "a way to the server fails");
        }
        tell(RouteNews::Closed);
    });
    outgoing
}

async fn run(
    Endpoint { host, port, transport }: &Endpoint,
    to_write: mpsc::Receiver<Vec<u8>>,
    tell: impl Fn(RouteNews),
) -> io::Result<()> {
    match transport {
        Transport::Udp => {
            let socket = within(udp(host, *port)).await?;
            tell(RouteNews::Opened { local: socket.local_addr()?, remote: socket.peer_addr()? });
            datagrams(&socket, to_write, tell).await
        }
        Transport::Tcp => {
            let stream = within(tcp(host, *port)).await?;
            tell(RouteNews::Opened { local: stream.local_addr()?, remote: stream.peer_addr()? });
            bytes(stream, to_write, tell).await
        }
        Transport::Tls => {
            let (local, remote, stream) = within(async {
                let stream = tcp(host, *port).await?;
                let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                Ok((local, remote, TlsConnector::from(trust()?).connect(name, stream).await?))
            })
            .await?;
            tell(RouteNews::Opened { local, remote });
            bytes(stream, to_write, tell).await
        }
    }
}

async fn within<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(CONNECT_WITHIN, what).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A socket of its own towards the first address that there is a route to.
async fn udp(host: &str, port: u16) -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in tokio::net::lookup_host((host, port)).await? {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The system's roots, read once; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
fn trust() -> io::Result<Arc<ClientConfig>> {
    static TRUST: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = TRUST.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(TRUST.get_or_init(|| Arc::new(config))))
}

async fn datagrams(
    socket: &UdpSocket,
    mut to_write: mpsc::Receiver<Vec<u8>>,
    tell: impl Fn(RouteNews),
) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        tokio::select! {
            message = to_write.recv() => match message {
                // What the network does not take is lost, as on its way.
                Some(message) => drop(socket.send(&message).await),
                None => return Ok(()),
            },
            // An error is the network's word on what was sent before.
            length = socket.recv(&mut buffer) => if let Ok(length) = length {
                tell(RouteNews::Received(buffer.get(..length).unwrap_or_default().to_vec()));
            },
        }
    }
}

async fn bytes(
    stream: impl AsyncRead + AsyncWrite,
    mut to_write: mpsc::Receiver<Vec<u8>>,
    tell: impl Fn(RouteNews),
) -> io::Result<()> {
    let (reading, writing) = tokio::io::split(stream);
    let (mut reading, mut writing) = (pin!(reading), pin!(writing));
    let read = async {
        let mut buffer = vec![0; READ];
        loop {
            let length = reading.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            tell(RouteNews::Received(buffer.get(..length).unwrap_or_default().to_vec()));
        }
    };
    let write = async {
        while let Some(message) = to_write.recv().await {
            writing.write_all(&message).await?;
            writing.flush().await?;
        }
        writing.shutdown().await
    };
    tokio::select! {
        outcome = read => outcome,
        outcome = write => outcome,
    }
}
