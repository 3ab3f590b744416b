//! The listener that the child dials in the server's place: workers go to the link, all else to the server.
//!
//! Owns the port, the thread `last-call-proxy` and what is bounded there: connections, by the descriptors that the
//! process may have. Refuses to look into what passes; what a request may ask for is [`Secrets`]'s.

mod head;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use self::head::{Caller, caller, is_agent};
use super::relay::{self, Answer, Hop, refusal};
use super::secrets::Secrets;
use crate::error::StartError;
use crate::socket::{AGENT, Dialler};
use crate::start::{current_thread, thread};

/// Before the next look where the system had no descriptor.
const SHORT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);
/// What is read after a refusal, so that the client reads that before it hears of a reset, and for how long.
const REST: u64 = 64 * 1024;
const REST_WITHIN: Duration = Duration::from_secs(1);

/// The running front. Dropped, it closes its port and its connections.
#[derive(Debug)]
pub(crate) struct Front {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The server's URL with this address in it, for the child; its query is added by whoever dials the server.
    pub(crate) url: String,
    /// Its thread's runtime.
    pub(crate) runtime: Handle,
    _until_dropped: oneshot::Sender<()>,
}

/// Starts it. Workers that dial arrive at the receiver, with nothing read from them yet.
///
/// # Errors
/// When the system has no port, thread or runtime.
pub(crate) fn start(
    dialler: Dialler,
    secrets: Arc<Secrets>,
) -> Result<(Front, mpsc::UnboundedReceiver<std::net::TcpStream>), StartError> {
    let failed = |error| StartError::System { what: "port on loopback for guard's child", error };
    let listener = listen().map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let server = dialler.endpoint().at("")?;
    let host = server.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    let host = host.ok_or_else(|| StartError::Usage("the server's URL has no host".to_owned()))?;
    let prefix = server.path().trim_end_matches('/').to_owned();
    let url = format!("ws://{address}{prefix}");
    let (workers, arrived) = mpsc::unbounded_channel();
    let passage = Arc::new(Passage {
        address,
        host,
        prefix,
        dialler,
        secrets,
        workers,
        relayed: Semaphore::new(connections()),
    });
    let proxy = current_thread("runtime for the proxy")?;
    let (until_dropped, dropped) = oneshot::channel();
    let front = Front { address, url, runtime: proxy.handle().clone(), _until_dropped: until_dropped };
    thread("last-call-proxy", move || {
        proxy.block_on(async {
            tokio::select! {
                _ = dropped => {}
                () = accept(listener, |tcp| Arc::clone(&passage).serve(tcp)) => {}
            }
        });
        // A name that is being looked up must not hold the exit.
        proxy.shutdown_background();
    })?;
    Ok((front, arrived))
}

/// A free port of loopback.
pub(super) fn listen() -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves every connection in a task of its own, as many at once as [`connections`] allows twice: as many may wait for
/// their first request as have made it.
pub(super) async fn accept<F>(listener: std::net::TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let most = 2 * connections();
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if served.len() < most => match accepted {
                Ok((tcp, _)) => drop(served.spawn(serve(tcp))),
                Err(error) => {
                    tracing::warn!(%error, "a connection of the child is not accepted");
                    tokio::time::sleep(SHORT_OF_DESCRIPTORS).await;
                }
            },
            Some(_) = served.join_next() => {}
        }
    }
}

/// Connections passed on at once: each has two descriptors, and three quarters are left to the rest of guard.
fn connections() -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    most.map_or(4096, |most| usize::try_from(most / 8).unwrap_or(4096)).clamp(16, 4096)
}

/// What every connection needs.
struct Passage {
    address: SocketAddr,
    host: HeaderValue,
    /// The path of the server's URL, without a slash at its end.
    prefix: String,
    dialler: Dialler,
    secrets: Arc<Secrets>,
    workers: mpsc::UnboundedSender<std::net::TcpStream>,
    relayed: Semaphore,
}

impl Passage {
    async fn serve(self: Arc<Self>, tcp: TcpStream) {
        match caller(&tcp, &self.prefix, head::WITHIN).await {
            // Where the link is gone, so is guard.
            Some(Caller::Worker) => drop(tcp.into_std().map(|tcp| self.workers.send(tcp))),
            Some(Caller::LongWorker) => too_long(tcp).await,
            Some(Caller::Other) => {
                let room = self.relayed.try_acquire();
                relay::serve(tcp, |request| self.route(request, room.is_ok())).await;
            }
            None => tracing::debug!("a connection of the child ended, or idled, before its first request"),
        }
    }

    fn route(&self, request: &mut Parts, room: bool) -> Result<Hop, Box<Answer>> {
        if !room {
            let text = format!("guard passes on {} connections at once, and has as many", connections());
            return Err(Box::new(refusal(request, StatusCode::SERVICE_UNAVAILABLE, &text)));
        }
        // A client that keeps its connections may register on one that has asked for something else before.
        if request.method == Method::GET && is_agent(request.uri.path(), &self.prefix) {
            request.uri = target(AGENT, request.uri.query());
            return Ok(Hop::Here(self.address));
        }
        request.uri = target(request.uri.path(), request.uri.query());
        if let Err(refused) = self.secrets.admit(request, &self.prefix) {
            tracing::warn!(path = request.uri.path(), reason = %refused, "refused what the child asked for");
            return Err(Box::new(refusal(request, refused.status(), &refused.to_string())));
        }
        request.headers.insert(HOST, self.host.clone());
        Ok(Hop::Server(self.dialler.clone()))
    }
}

/// What stands in a request line: the path and the query, without a host.
fn target(path: &str, query: Option<&str>) -> Uri {
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    // Both were in a URL before.
    target.parse().unwrap_or_default()
}

/// Refuses a worker that nothing is read of.
async fn too_long(mut tcp: TcpStream) {
    let text = format!("guard takes the head of a worker's request up to {} bytes\n", head::LIMIT);
    let head =
        "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Type: text/plain";
    let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let refused = async {
        tcp.write_all(answer.as_bytes()).await?;
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(REST), &mut tokio::io::sink()).await
    };
    // Whether it reads that is its affair.
    let _ = tokio::time::timeout(REST_WITHIN, refused).await;
}

#[cfg(test)]
mod tests;
