//! Whose connection it is: a look at a request's head, which stays in the socket for who serves it.
//!
//! Owns the look and its bounds, 8 KiB and 10 s. Refuses to understand HTTP: what is not plainly a worker's upgrade is
//! the relay's, which does.

use std::io;
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::socket::AGENT;

/// Bytes of a worker's head.
pub(super) const LIMIT: usize = 8 * 1024;
/// The patience with a client that sends the first head of a connection.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A worker that registers; its whole head is there.
    Worker,
    /// A worker whose head is over [`LIMIT`].
    LongWorker,
    /// Anyone else.
    Other,
}

/// Waits until it is plain whose the connection is, and takes nothing out of it. None where the client leaves before, or
/// takes longer than `within`.
pub(super) async fn caller(tcp: &TcpStream, prefix: &str, within: Duration) -> Option<Caller> {
    timeout(within, look(tcp, prefix)).await.ok()?.ok()
}

async fn look(tcp: &TcpStream, prefix: &str) -> io::Result<Caller> {
    let mut head = vec![0; LIMIT];
    let mut seen = 0;
    loop {
        let ready = tcp.ready(Interest::READABLE).await?;
        let more = tcp.try_io(Interest::READABLE, || {
            let (length, _) = rustix::net::recv(tcp, &mut head[..], RecvFlags::PEEK)?;
            // What was seen before tells nothing: only with more of it is the socket ready.
            if length == seen { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(length) }
        });
        match more {
            Ok(length) => seen = length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if ready.is_read_closed() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            Err(error) => return Err(error),
        }
        let head = &head[..seen];
        match (is_worker(head, prefix), is_whole(head)) {
            (true, true) => return Ok(Caller::Worker),
            (true, false) if seen == LIMIT => return Ok(Caller::LongWorker),
            (false, whole) if whole || seen == LIMIT => return Ok(Caller::Other),
            (true | false, _) => {}
        }
    }
}

/// Whether a head, as far as it is there, asks for the path of workers: behind the URL's own path, or without it, since
/// whoever loses that would by-pass guard.
fn is_worker(head: &[u8], prefix: &str) -> bool {
    let Some(target) = head.strip_prefix(b"GET ") else { return false };
    let end = target.iter().position(|byte| matches!(byte, b' ' | b'?'));
    let Some(path) = end.and_then(|end| str::from_utf8(&target[..end]).ok()) else { return false };
    is_agent(path, prefix)
}

/// Whether a path is that of workers.
pub(super) fn is_agent(path: &str, prefix: &str) -> bool {
    path == AGENT || path.strip_prefix(prefix) == Some(AGENT)
}

/// Whether nothing is worth waiting for: the empty line is there, or what cannot begin a request.
fn is_whole(head: &[u8]) -> bool {
    let end = |mark: &[u8]| head.windows(mark.len()).any(|window| window == mark);
    !head.first().is_some_and(u8::is_ascii_uppercase) || end(b"\n\r\n") || end(b"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_of_workers_is_a_worker() {
        for (line, prefix) in [
            ("GET /agent HTTP/1.1\r\n", ""),
            ("GET /agent?worker_token=a%20b HTTP/1.1\r\n", ""),
            ("GET /agent?", ""),
            ("GET /livekit/agent HTTP/1.1\r\n", "/livekit"),
            ("GET /agent HTTP/1.1\r\n", "/livekit"),
        ] {
            assert!(is_worker(line.as_bytes(), prefix), "{line}");
        }
        for (line, prefix) in [
            ("GET /agent", ""),
            ("GET /agents HTTP/1.1\r\n", ""),
            ("GET /agent/ HTTP/1.1\r\n", ""),
            ("POST /agent HTTP/1.1\r\n", ""),
            ("get /agent HTTP/1.1\r\n", ""),
            ("GET /livekit/agent HTTP/1.1\r\n", ""),
            ("GET /livekitagent HTTP/1.1\r\n", "/livekit"),
            ("GET /rtc?x=/agent HTTP/1.1\r\n", ""),
            ("GET http://127.0.0.1/agent HTTP/1.1\r\n", ""),
        ] {
            assert!(!is_worker(line.as_bytes(), prefix), "{line}");
        }
    }

    #[test]
    fn a_head_is_whole_with_its_empty_line_or_when_it_is_none() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n\r\nbody",
            "GET / HTTP/1.1\n\n",
            "\r\n",
            "\u{16}\u{3}",
        ] {
            assert!(is_whole(head.as_bytes()), "{head:?}");
        }
        for head in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA: b\r\n"] {
            assert!(!is_whole(head.as_bytes()), "{head:?}");
        }
    }

    #[test]
    fn wire_1_no_head_panics() {
        bolero::check!().with_type::<(Vec<u8>, String)>().for_each(|(head, prefix)| {
            let worker = is_worker(head, prefix);
            assert!(!worker || head.starts_with(b"GET "));
            // More of it never takes back what was plain.
            let more: Vec<u8> = head.iter().copied().chain(*b"x\r\n\r\n").collect();
            assert!(!worker || is_worker(&more, prefix));
            assert!(is_whole(&more));
        });
    }
}
