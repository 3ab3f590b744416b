//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`: a CONNECT tunnel where they ask for one.
//!
//! Owns the choice and the handshake of the tunnel. Refuses SOCKS, and a proxy for loopback.

use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::dial::{Endpoint, connect};
use crate::error::DialError;

/// A proxy's answer is a status line and some headers; more than this is none.
const ANSWER_LIMIT: usize = 16 << 10;

/// The proxy variables, read once.
pub(super) struct Proxies(Matcher);

impl Proxies {
    pub(super) fn from_env() -> Self {
        Self(Matcher::from_env())
    }

    /// The proxy to go through, if any. As `curl` and Go do, loopback is reached directly.
    pub(super) fn for_endpoint(&self, endpoint: &Endpoint) -> Result<Option<Proxy>, DialError> {
        if endpoint.is_loopback() {
            return Ok(None);
        }
        let scheme = if endpoint.is_tls() { "https" } else { "http" };
        let uri = format!("{scheme}://{}", endpoint.authority()).parse().map_err(|_| DialError::Uri)?;
        Ok(self.0.intercept(&uri).map(Proxy))
    }
}

/// One proxy.
pub(crate) struct Proxy(Intercept);

impl Proxy {
    /// The proxy that a variable's value names, if it is an `http://` one.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let all = Matcher::builder().http(value).build();
        let any = Uri::from_static("http://example.com");
        all.intercept(&any).filter(|proxy| proxy.uri().scheme_str() == Some("http")).map(Self)
    }

    fn host(&self) -> &str {
        self.0.uri().host().unwrap_or_default().trim_matches(['[', ']'])
    }

    fn port(&self) -> u16 {
        self.0.uri().port_u16().unwrap_or(80)
    }

    /// What it asks for in `Proxy-Authorization`, if its URL has a user.
    pub(crate) fn credentials(&self) -> Option<&HeaderValue> {
        self.0.basic_auth()
    }

    /// A connection to the proxy itself.
    pub(crate) async fn dial(&self, user_timeout: Option<Duration>) -> Result<TcpStream, DialError> {
        let scheme = self.0.uri().scheme_str().unwrap_or("http");
        if scheme != "http" {
            return Err(DialError::ProxyScheme(scheme.to_owned()));
        }
        connect(self.host(), self.port(), user_timeout).await
    }

    /// A tunnel to `host:port`.
    pub(super) async fn connect(
        &self,
        host: &str,
        port: u16,
        user_timeout: Option<Duration>,
    ) -> Result<TcpStream, DialError> {
        let mut tcp = self.dial(user_timeout).await?;
        let failed = |error: std::io::Error| DialError::Tcp {
            host: self.host().to_owned(),
            port: self.port(),
            error: error.to_string(),
        };
        tcp.write_all(&self.request(host, port)).await.map_err(failed)?;
        let mut answer = Vec::new();
        // Byte by byte, because what follows the empty line belongs to the tunnel.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == ANSWER_LIMIT {
                return Err(DialError::Proxy("sent no end of its answer".to_owned()));
            }
            answer.push(tcp.read_u8().await.map_err(failed)?);
        }
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        match (words.next(), words.next()) {
            (Some(version), Some(b"200")) if version.starts_with(b"HTTP/1.") => Ok(tcp),
            _ => {
                let said =
                    String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(100).collect();
                Err(DialError::Proxy(said))
            }
        }
    }

    fn request(&self, host: &str, port: u16) -> Vec<u8> {
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(credentials) = self.credentials() {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(credentials.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request
    }
}
