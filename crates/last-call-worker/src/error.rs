//! What can go wrong outside user code, in words for people.
//!
//! Owns the texts. Refuses exit codes, which are in [`crate::exit`].

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a worker did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// An option is missing or makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The server's URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A secret's file cannot be read.
    #[error("cannot read the API secret from {path}: {error}; is the path right and readable by this user?")]
    SecretFile {
        /// The file as given.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The configuration file cannot be read.
    #[error(
        "cannot read the configuration file {path}: {error}; is the path right and readable by this user?"
    )]
    ConfigFile {
        /// The file as given.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The port for probes and metrics cannot be had.
    #[error(
        "cannot listen on {address} for probes and metrics: {error}; choose another with --http (off with --http off)"
    )]
    Http {
        /// The address as given.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The admin socket cannot be had.
    #[error("{0}")]
    Admin(String),
    /// The state directory cannot be had.
    #[error("{0}")]
    State(String),
    /// A thread, a runtime or a signal handler cannot be had.
    #[error("the system gives no {what}: {error}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// `run` was called from async code.
    #[error(
        "run was called inside an async runtime; call it from a main that is not async, or use Worker::serve"
    )]
    InsideRuntime,
    /// The program is built so that one call's panic ends all.
    #[error(
        "this program is built with panic=abort: one panicking call would end every other; remove it from the profile"
    )]
    PanicAborts,
    /// The thread that drives the worker died.
    #[error("the link thread died: a fault of Last Call")]
    LinkDied,
    /// Prewarming failed.
    #[error("prewarm failed: {0}")]
    Prewarm(String),
}

/// Why a server's URL cannot be used. Never shows the query, which may hold a token.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// No URL at all.
    #[error("the server URL {url:?} makes no sense ({error}); it looks like wss://my-project.livekit.cloud")]
    Malformed {
        /// The URL without its query.
        url: String,
        /// What the parser said.
        error: url::ParseError,
    },
    /// Neither `ws` nor `wss`.
    #[error("the server URL {url:?} begins with {scheme}://; use ws:// or wss://")]
    Scheme {
        /// The URL without its query.
        url: String,
        /// What it begins with.
        scheme: String,
    },
    /// Credentials in the URL.
    #[error("the server URL holds a user or password; use LIVEKIT_API_KEY and LIVEKIT_API_SECRET")]
    Credentials,
    /// No host.
    #[error("the server URL {url:?} names no host")]
    NoHost {
        /// The URL without its query.
        url: String,
    },
    /// No part of a URL.
    #[error("{path:?} fits no URL of the server")]
    Path {
        /// What was to stand behind the server's URL.
        path: String,
    },
    /// Plain text to another machine.
    #[error(
        "{url} is not encrypted, and tokens would cross the network in the clear; use wss://, or allow it with --insecure-ws"
    )]
    Insecure {
        /// The URL without its query.
        url: String,
    },
}

/// Why a connection did not open. Never shows a token.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the texts say it")]
#[non_exhaustive]
pub enum DialError {
    #[error("cannot reach {host}:{port}: {error}")]
    Tcp { host: String, port: u16, error: String },
    #[error("TLS with {host} failed: {error}")]
    Tls { host: String, error: io::Error },
    #[error("no connection within {0:?}")]
    TimedOut(std::time::Duration),
    #[error("the URL cannot be dialled")]
    Uri,
    #[error("cannot make a token: {0}")]
    Token(String),
    #[error(
        "the server refused the worker with HTTP {status} {said:?}; check LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
    )]
    Refused { status: u16, said: String },
    #[error("the server answered HTTP {status} {said:?} instead of an upgrade")]
    Unavailable { status: u16, said: String },
    #[error("the WebSocket upgrade failed: {0}")]
    Upgrade(String),
    #[error("the proxy did not open a tunnel: {0:?}")]
    Proxy(String),
    #[error("a {0} proxy is not supported; use an http:// one")]
    ProxyScheme(String),
}

/// The text of an error and of everything under it.
pub(crate) fn whole_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let under = error.to_string();
        if !text.contains(&under) {
            text.push_str(": ");
            text.push_str(&under);
        }
        source = error.source();
    }
    text
}
