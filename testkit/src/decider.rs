//! Owns a service that is asked over HTTP whether a worker takes a job, as people run one behind `--accept-if`: every question, and each
//! answer as the test wants it. Refuses keep-alive: one connection, one question.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificate;
use crate::host::Host;
use crate::log::Log;

/// What happened at a [`Decider`].
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// A whole question.
    Question {
        /// The lines of its head, in small letters.
        head: Vec<String>,
        /// The job.
        job: Value,
    },
    /// Who asked has closed the connection, and got no answer.
    LetGo,
}

/// How a [`Decider`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// With this status, and a body.
    Status(u16),
    /// With these bytes and the end.
    Bytes(Vec<u8>),
    /// Not at all.
    Nothing,
}

/// A running service on loopback. It ends when it is dropped.
#[derive(Debug)]
pub struct Decider {
    _host: Host,
    address: SocketAddr,
    scheme: &'static str,
    asked: Arc<Log<Asked>>,
}

impl Decider {
    /// Starts one on a free port, which answers about each job as `decide` says; with a certificate over TLS.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(
        certificate: Option<&Certificate>,
        decide: impl Fn(&Value) -> Decided + Send + Sync + 'static,
    ) -> Result<Self> {
        let tls = certificate.map(Certificate::server).transpose()?.map(TlsAcceptor::from);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let host = Host::start("decider", None)?;
        let listener = host.call(async { Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?) })?;
        let address = listener.local_addr().context("the decider has no address")?;
        let asked = Arc::new(Log::new(1));
        let (log, decide) = (Arc::clone(&asked), Arc::new(decide));
        host.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (tls, log, decide) = (tls.clone(), Arc::clone(&log), Arc::clone(&decide));
                tokio::spawn(async move {
                    // What fails is seen by the client.
                    match tls {
                        Some(tls) => answer(tls.accept(client).await?, &log, &*decide).await,
                        None => answer(client, &log, &*decide).await,
                    }
                });
            }
        });
        Ok(Self { _host: host, address, scheme, asked })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a worker takes as `--accept-if`.
    pub fn url(&self) -> String {
        format!("{}://{}/offer?for=us", self.scheme, self.address)
    }

    /// Everything that has happened so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.entries(0)
    }

    /// Waits until something has happened for the `count`th time, from 1; what.
    ///
    /// # Errors
    /// When it has not in `timeout`.
    pub fn wait(&self, count: usize, timeout: Duration) -> Result<Asked> {
        let next = self.asked.wait(count - 1, timeout, |asked| Some(asked.clone()));
        next.with_context(|| format!("the decider was not asked {count} times in {timeout:?}"))
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    log: &Log<Asked>,
    decide: &(impl Fn(&Value) -> Decided + ?Sized),
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_lowercase());
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.context("a question without a length")?];
    stream.read_exact(&mut body).await?;
    let job = serde_json::from_slice(&body)?;
    let decided = decide(&job);
    log.push(Asked::Question { head, job });
    match decided {
        Decided::Status(status) => {
            let text = format!("HTTP/1.1 {status} so\r\ncontent-length: 2\r\nlocation: /yes\r\n\r\nno");
            stream.write_all(text.as_bytes()).await?;
        }
        Decided::Bytes(bytes) => stream.write_all(&bytes).await?,
        Decided::Nothing => {
            stream.read_to_end(&mut Vec::new()).await?;
            log.push(Asked::LetGo);
        }
    }
    Ok(stream.shutdown().await?)
}
