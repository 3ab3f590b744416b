//! One HTTP exchange over TCP or a unix socket.
//!
//! Owns the request and the reading of its answer. Refuses redirects, chunks and keep-alive, which the
//! worker does not use.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};

use crate::rig::SOON;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) body: String,
}

pub(crate) fn tcp(address: &str, method: &str, path: &str) -> Result<Page> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(SOON))?;
    exchange(stream, method, path)
}

pub(crate) fn unix(socket: &Path, method: &str, path: &str) -> Result<Page> {
    let stream =
        UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(SOON))?;
    exchange(stream, method, path)
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str) -> Result<Page> {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).context("asking")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading the answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Page { status: status.context("an answer without a status")?, body: body.to_owned() })
}
