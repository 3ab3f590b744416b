//! ICE server URLs of relays (RFC 7065): `turn:host:port?transport=udp|tcp` and `turns:host:port?transport=tcp`.
//! Refuses `stun:` and DTLS (`turns:` over UDP), each with an error for people; resolves no names.

use std::net::Ipv6Addr;

/// The port of `turn:` where none is named.
const PORT: u16 = 3478;

/// The port of `turns:` where none is named.
const TLS_PORT: u16 = 5349;

/// How the TURN server is reached; the allocation is UDP in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// A relay's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// A name or an address, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) transport: Transport,
}

/// What is wrong with an ICE server URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    /// Neither `turn:` nor `turns:`.
    #[error("{0:?} is no relay: its URL starts with turn: or turns:")]
    Scheme(String),
    /// No host, or one with characters that no host has.
    #[error("{0:?} names no host: write turn:host:port")]
    Host(String),
    /// Not a port.
    #[error("{0:?} has no valid port: it is a number from 1 to 65535 after the host")]
    Port(String),
    /// Neither UDP nor TCP, or UDP with TLS.
    #[error("{0:?} asks for a transport that is not supported: turn: has udp and tcp, turns: has tcp")]
    Transport(String),
}

impl Endpoint {
    /// Reads a URL. `turn:` goes over UDP where no transport is named, `turns:` over TLS.
    pub(crate) fn parse(url: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = url.split_once(':').ok_or_else(|| EndpointError::Scheme(shown(url)))?;
        let tls = if scheme.eq_ignore_ascii_case("turns") {
            true
        } else if scheme.eq_ignore_ascii_case("turn") {
            false
        } else {
            return Err(EndpointError::Scheme(shown(url)));
        };
        let (address, query) =
            rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
        let transport = transport(tls, query).ok_or_else(|| EndpointError::Transport(shown(url)))?;
        let (host, port) = split(address).ok_or_else(|| EndpointError::Host(shown(url)))?;
        let default = if tls { TLS_PORT } else { PORT };
        let port = port.map_or(Some(default), number).ok_or_else(|| EndpointError::Port(shown(url)))?;
        Ok(Self { host: host.to_owned(), port, transport })
    }
}

fn transport(tls: bool, query: Option<&str>) -> Option<Transport> {
    let named = match query {
        None => None,
        Some(query) => Some(query.strip_prefix("transport=")?.to_ascii_lowercase()),
    };
    match (tls, named.as_deref()) {
        (false, None | Some("udp")) => Some(Transport::Udp),
        (false, Some("tcp")) => Some(Transport::Tcp),
        (true, None | Some("tcp")) => Some(Transport::Tls),
        (_, Some(_)) => None,
    }
}

/// The host, checked, and what stands behind its colon.
fn split(address: &str) -> Option<(&str, Option<&str>)> {
    if let Some(bracketed) = address.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return if rest.is_empty() {
            Some((host, None))
        } else {
            Some((host, Some(rest.strip_prefix(':')?)))
        };
    }
    let (host, port) = address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port)));
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.len() <= 253 && host.chars().all(known)).then_some((host, port))
}

fn number(port: &str) -> Option<u16> {
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    port.parse().ok().filter(|port| *port > 0)
}

/// As much of a URL as an error shows.
fn shown(url: &str) -> String {
    url.chars().take(100).collect()
}
