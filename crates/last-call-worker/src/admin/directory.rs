//! Sockets in a directory: each worker's has a name of its own there, and those of the dead go.
//!
//! Owns the names, which are made of process numbers. Refuses to remove what another user, another program or a living
//! worker has put there.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::knock;

/// Process 1 of so many containers may share a directory.
const NAMESAKES: u32 = 1_000;

/// Gives the socket `newborn` a name in `dir` that no other has: that of process `own`, and
/// where it is taken, as by process 1 of another container, one with a number behind it.
pub(super) fn settle(dir: &Path, newborn: &Path, own: u32) -> io::Result<PathBuf> {
    clear(dir, fs::symlink_metadata(newborn)?.uid());
    let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 1..=NAMESAKES {
        let path = dir.join(if number == 1 { format!("{own}.sock") } else { format!("{own}-{number}.sock") });
        // Unlike a renaming it replaces nothing, so that two who begin at once do not meet.
        match fs::hard_link(newborn, &path) {
            Ok(()) => return Ok(path),
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => error = taken,
            Err(error) => return Err(error),
        }
    }
    Err(error)
}

/// Removes the sockets of workers that were killed. What cannot be seen or removed stays.
fn clear(dir: &Path, user: u32) {
    // One at a time: between the look at a socket and its removal another could give the name away. Who comes second
    // has nothing to wait for.
    let alone = File::open(dir).map(|dir| Flock::lock(dir, FlockArg::LockExclusiveNonblock));
    let Ok(Ok(_alone)) = alone else { return };
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let ours = |meta: &Metadata| meta.file_type().is_socket() && meta.uid() == user;
        if is_a_workers(&path) && fs::symlink_metadata(&path).is_ok_and(|meta| ours(&meta)) && is_dead(&path)
        {
            let _ = fs::remove_file(&path);
        }
    }
}

fn is_dead(path: &Path) -> bool {
    knock(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether it is called as [`settle`] calls sockets.
fn is_a_workers(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".sock"));
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name.is_some_and(|name| {
        let (process, rest) = name.split_once('-').unwrap_or((name, "2"));
        number(process) && number(rest)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::sync::Barrier;
    use std::thread;

    use super::super::AdminSocket;
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a directory");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn sockets_of_the_killed_go_and_everything_else_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for dead in ["1.sock", "1-2.sock", "4711.sock", "another.sock", "1-.sock", "4711"] {
            drop(UnixListener::bind(at(dead)).expect("bound"));
        }
        let _living = UnixListener::bind(at("2.sock")).expect("bound");
        let _datagrams = UnixDatagram::bind(at("3.sock")).expect("bound");
        fs::write(at("5.sock"), "precious").expect("a file");
        symlink(at("another.sock"), at("6.sock")).expect("a link");
        let socket = AdminSocket::bind(dir.path()).expect("bound");
        let own = format!("{}.sock", std::process::id());
        let mut left = vec!["1-.sock", "2.sock", "3.sock", "4711", "5.sock", "6.sock", "another.sock", &own];
        left.sort_unstable();
        assert_eq!(names(dir.path()), left);
        drop(socket);
        assert!(!at(&own).exists());
    }

    #[test]
    fn processes_of_one_number_have_a_socket_each_though_all_find_a_dead_one_at_once() {
        const TOGETHER: usize = 8;
        for _ in 0..200 {
            let dir = tempfile::tempdir().expect("a directory");
            drop(UnixListener::bind(dir.path().join(format!("{}.sock", std::process::id()))).expect("bound"));
            let ready = Barrier::new(TOGETHER);
            let begin = || {
                ready.wait();
                AdminSocket::bind(dir.path()).expect("bound")
            };
            let sockets: Vec<_> = thread::scope(|threads| {
                let workers: Vec<_> = (0..TOGETHER).map(|_| threads.spawn(begin)).collect();
                workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
            });
            let found = names(dir.path());
            let living = found.iter().filter(|name| knock(&dir.path().join(name)).is_ok()).count();
            assert_eq!(living, TOGETHER, "{found:?}");
            drop(sockets);
            drop(AdminSocket::bind(dir.path()).expect("bound"));
            assert!(names(dir.path()).is_empty(), "{found:?}");
        }
    }
}
