//! Opening a connection: URL, name, proxy, TCP, TLS, upgrade.
//!
//! Owns the way to an open [`Socket`]. Refuses to try twice: the core says when.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};
use tower_service::Service;
use url::{Host, Url};

use super::proxy::Proxies;
use super::{FRAME_LIMIT, Socket, Transport, tls};
use crate::error::{DialError, UrlError};
use crate::exchange::said;
use crate::token::bearer;

/// Frees a write that no one acknowledges; finding a dead connection is the keepalive's part. The kernel counts a peer
/// that does not read as one that does not acknowledge, so it is for the worker's own connection, where nothing waits.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

/// For all addresses of a host together, so that TLS and the upgrade have time within the core's own limit.
const CONNECT_WITHIN: Duration = Duration::from_secs(6);

/// What this worker calls itself at the upgrade.
pub(crate) const AGENT_NAME: &str = concat!("last-call/", env!("CARGO_PKG_VERSION"));
/// Where workers connect.
pub(crate) const AGENT: &str = "/agent";

/// Where a LiveKit server is: a checked `ws`, `wss`, `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Checks a LiveKit URL. Plain `ws://` is for loopback only, unless `insecure`: the token that goes
    /// over it opens every room.
    ///
    /// # Errors
    /// When it cannot be used: why, without its query.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, UrlError> {
        let shown = shown(text);
        let mut url = Url::parse(text).map_err(|error| UrlError::Malformed { url: shown.clone(), error })?;
        let scheme = match url.scheme() {
            "ws" | "http" => "ws",
            "wss" | "https" => "wss",
            other => return Err(UrlError::Scheme { url: shown.clone(), scheme: other.to_owned() }),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials);
        }
        if url.host().is_none() || url.set_scheme(scheme).is_err() {
            return Err(UrlError::NoHost { url: shown });
        }
        url.set_fragment(None);
        let endpoint = Self(url);
        if scheme == "ws" && !insecure && !endpoint.is_loopback() {
            return Err(UrlError::Insecure { url: shown });
        }
        Ok(endpoint)
    }

    /// The URL as a room client takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// The host and port, for messages; never the query, which may hold a token.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.0.host_str().unwrap_or_default(), self.port())
    }

    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == "wss"
    }

    pub(super) fn host(&self) -> String {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()
    }

    pub(super) fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(if self.is_tls() { 443 } else { 80 })
    }

    pub(super) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => is_localhost(name),
            Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
            Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
            None => false,
        }
    }

    /// What is at `path`, which begins with a slash, behind the URL's own path; its query is kept.
    ///
    /// # Errors
    /// When `path` fits no URL.
    pub fn at(&self, path: &str) -> Result<Uri, UrlError> {
        let mut url = self.0.clone();
        let whole = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&whole);
        url.as_str().parse().map_err(|_| UrlError::Path { path: path.to_owned() })
    }
}

/// A URL that may make no sense, without what may be secret in it: its query, and a user with a password.
fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => text.to_owned(),
    }
}

/// Opens connections to one server.
#[derive(Clone)]
pub struct Dialler {
    endpoint: Endpoint,
    tls: tls::Config,
    proxies: Arc<Proxies>,
}

impl Dialler {
    /// Reads the trusted roots and the proxy variables, once.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        let tls = tls::Config::new();
        Self { endpoint, tls, proxies: Arc::new(Proxies::from_env()) }
    }

    /// The server.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Opens one connection, with `token` as the bearer. Cancel safe: dropped, it leaves nothing behind.
    pub(crate) async fn dial(&self, token: &str) -> Result<Socket, DialError> {
        self.dial_as(token, "").await
    }

    /// As [`Dialler::dial`], with a query behind the URL's own.
    pub(crate) async fn dial_as(&self, token: &str, query: &str) -> Result<Socket, DialError> {
        self.upgrade(self.open(Some(TCP_USER_TIMEOUT)).await?, token, query).await
    }

    /// Opens a byte stream to the server, through proxy and TLS where there are some; nothing is sent on it yet.
    /// Cancel safe: dropped, it leaves nothing behind. TCP has 6 s, the rest as long as the caller waits.
    ///
    /// # Errors
    /// When the server, or the proxy, is not reached or not trusted.
    pub async fn stream(&self) -> Result<Box<dyn Transport>, DialError> {
        self.open(None).await
    }

    async fn open(&self, user_timeout: Option<Duration>) -> Result<Box<dyn Transport>, DialError> {
        let (host, port) = (self.endpoint.host(), self.endpoint.port());
        let tcp = match self.proxies.for_endpoint(&self.endpoint)? {
            Some(proxy) => proxy.connect(&host, port, user_timeout).await?,
            None => connect(&host, port, user_timeout).await?,
        };
        Ok(if self.endpoint.is_tls() { Box::new(self.tls.wrap(tcp, &host).await?) } else { Box::new(tcp) })
    }

    async fn upgrade(
        &self,
        stream: Box<dyn Transport>,
        token: &str,
        query: &str,
    ) -> Result<Socket, DialError> {
        let uri = with_query(self.endpoint.at(AGENT).map_err(|_| DialError::Uri)?, query)?;
        let failed = |error: tungstenite::Error| DialError::Upgrade(error.to_string());
        let mut request = uri.into_client_request().map_err(failed)?;
        let bearer = bearer(token).ok_or_else(|| DialError::Token("not a header value".into()))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT_NAME));
        let limits =
            WebSocketConfig::default().max_message_size(Some(FRAME_LIMIT)).max_frame_size(Some(FRAME_LIMIT));
        match tokio_tungstenite::client_async_with_config(request, stream, Some(limits)).await {
            Ok((stream, _)) => Ok(Socket::new(stream)),
            Err(tungstenite::Error::Http(response)) => {
                Err(answered(response.status(), response.body().as_deref()))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn with_query(uri: Uri, more: &str) -> Result<Uri, DialError> {
    if more.is_empty() {
        return Ok(uri);
    }
    let joint = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{joint}{more}").parse().map_err(|_| DialError::Uri)
}

/// What a server that answered something else than an upgrade means by it.
fn answered(status: StatusCode, body: Option<&[u8]>) -> DialError {
    let said = said(body.unwrap_or_default());
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_client_error() && !passing.contains(&status) {
        DialError::Refused { status: status.as_u16(), said }
    } else {
        DialError::Unavailable { status: status.as_u16(), said }
    }
}

/// Whether this name means loopback. It is asked of nobody (RFC 6761): an image may lack /etc/hosts, and a DNS server
/// that says otherwise would be sent the token in the clear.
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// A TCP connection to the host: IPv6 and IPv4 race (RFC 8305), and of several addresses of a kind each has
/// its share of the time, so that a dead one costs no more than that.
pub(super) async fn connect(
    host: &str,
    port: u16,
    user_timeout: Option<Duration>,
) -> Result<TcpStream, DialError> {
    if !is_localhost(host) {
        return connect_to(host, host, port, user_timeout).await;
    }
    match connect_to(host, "127.0.0.1", port, user_timeout).await {
        Ok(stream) => Ok(stream),
        // Where there is no IPv6 the first error says more.
        Err(error) => connect_to(host, "::1", port, user_timeout).await.map_err(|_| error),
    }
}

async fn connect_to(
    host: &str,
    address: &str,
    port: u16,
    user_timeout: Option<Duration>,
) -> Result<TcpStream, DialError> {
    let literal = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let uri: Uri = format!("http://{literal}:{port}").parse().map_err(|_| DialError::Uri)?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_WITHIN));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    connector.set_tcp_user_timeout(user_timeout);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = user_timeout;
    let failed =
        |error| DialError::Tcp { host: host.to_owned(), port, error: crate::error::whole_text(&error) };
    connector.call(uri).await.map(TokioIo::into_inner).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_prefix_and_query_are_kept() {
        for (given, dialled) in [
            ("ws://localhost:7880", "ws://localhost:7880/agent"),
            ("http://127.0.0.1:7880/", "ws://127.0.0.1:7880/agent"),
            ("wss://a.example/livekit/", "wss://a.example/livekit/agent"),
            ("https://a.example/x?worker_token=1", "wss://a.example/x/agent?worker_token=1"),
            ("ws://[::1]:7880", "ws://[::1]:7880/agent"),
        ] {
            let endpoint = Endpoint::parse(given, false).expect(given);
            assert_eq!(endpoint.at(AGENT).expect(given), dialled, "{given}");
        }
    }

    #[test]
    fn a_url_that_cannot_work_is_refused_with_its_reason() {
        let refused = |url: &str| Endpoint::parse(url, false).expect_err(url).to_string();
        assert!(refused("livekit.example").contains("livekit.example"));
        assert!(refused("ftp://livekit.example").contains("ftp"));
        assert!(refused("ws://livekit.example").contains("--insecure-ws"));
        assert!(refused("wss://key:sesame@livekit.example").contains("LIVEKIT_API_KEY"));
        assert!(!refused("wss://key:sesame@livekit.example").contains("sesame"));
        for url in ["ws://livekit.example/?token=sesame", "ftp://key:sesame@a", "wss://key:sesame@a:99999"] {
            assert!(!refused(url).contains("sesame"), "{url}");
        }
        assert!(Endpoint::parse("ws://livekit.example", true).is_ok());
    }

    #[test]
    fn wire_1_no_url_panics() {
        bolero::check!().with_type::<String>().for_each(|text| {
            if let Ok(endpoint) = Endpoint::parse(text, true) {
                let _ = endpoint.at(AGENT);
            }
        });
    }
}
