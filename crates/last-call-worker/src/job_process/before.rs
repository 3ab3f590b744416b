//! What `main` did before `run`, which each job's process will do again.
//!
//! Owns the warning. Refuses to forbid it: a thread of a profiler is right in every process.

use std::fs;

/// The threads of this process beside the one that asks.
pub(crate) fn other_threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, |threads| threads.count().saturating_sub(1))
}

/// Says it in the log where `threads` ran, or sockets listen, before the worker has any of its own.
pub(crate) fn warn(threads: usize) {
    let listening = listening();
    if threads > 0 || listening > 0 {
        tracing::warn!(
            threads,
            listening,
            "main has started threads or opened ports before run; with --runner process each job's process does \
             that again: do it in prewarm, or behind run"
        );
    }
}

/// Sockets of this process that listen on TCP.
pub(crate) fn listening() -> usize {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(fs::read_to_string);
    let tables: String = tables.into_iter().flatten().collect();
    let inodes: Vec<&str> = tables.lines().filter_map(listener).collect();
    let files = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    links
        .filter(|link| {
            let text = link.to_string_lossy();
            let inode = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.contains(&inode))
        })
        .count()
}

/// The inode of a line about a socket in the state LISTEN.
fn listener(line: &str) -> Option<&str> {
    let mut fields = line.split_whitespace();
    let state = fields.nth(3)?;
    (state == "0A").then(|| fields.nth(5)).flatten()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_counted_while_it_is_open() {
        let before = listening();
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        assert_eq!(listening(), before + listeners.len());
    }
}
