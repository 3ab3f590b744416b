//! What the tests of guard's proxies share: a server, and clients, that are sockets in the test's hands.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::secrets::Secrets;
use crate::secret::Secret;
use crate::socket::{Dialler, Endpoint};
use crate::token::Keys;

/// Only there to end a hang.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The real secret, which nobody may ever see.
pub(super) const SESAME: &str = "open-sesame-open-sesame-open-sesame";

pub(super) fn keys() -> Keys {
    Keys { key: "devkey".to_owned(), secret: Secret::from(SESAME.to_owned()) }
}

pub(super) fn pass() -> Secrets {
    Secrets::pass(keys())
}

/// A server that does what the test says.
pub(super) struct Server(TcpListener);

impl Server {
    pub(super) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    /// Dials it, at this path.
    pub(super) fn dialler(&self, path: &str) -> Dialler {
        let url = format!("ws://{}{path}", self.address());
        Dialler::new(Endpoint::parse(&url, false).expect("a URL"))
    }

    pub(super) async fn accept(&self) -> Peer {
        Peer(in_time(self.0.accept()).await.expect("a connection").0)
    }
}

/// One end of a connection.
pub(super) struct Peer(pub(super) TcpStream);

impl Peer {
    pub(super) async fn dial(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("connected"))
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        in_time(self.0.write_all(bytes.as_ref())).await.expect("sent");
    }

    /// The next head, and nothing behind it.
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(in_time(self.0.read_u8()).await.expect("more of a head"));
        }
        String::from_utf8(head).expect("text")
    }

    pub(super) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        in_time(self.0.read_exact(&mut bytes)).await.expect("as many");
        bytes
    }

    /// An answer with a counted body.
    pub(super) async fn answer(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = header(&head, "content-length").map_or(0, |length| length.parse().expect("a number"));
        let body = self.bytes(length).await;
        (head, String::from_utf8(body).expect("text"))
    }

    /// Whether the other side has closed, with nothing left to read.
    pub(super) async fn is_closed(&mut self) -> bool {
        in_time(self.0.read_u8()).await.is_err()
    }
}

/// The value of a header of a head, whatever the name's case.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// All that comes until the end.
pub(super) async fn rest(mut io: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    in_time(io.read_to_end(&mut all)).await.expect("the end");
    all
}

pub(super) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("no hang")
}
