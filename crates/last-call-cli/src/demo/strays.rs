//! What a worker has started and left behind: its processes become the demo's when it ends.
//!
//! Owns the end of them, on Linux. Refuses processes that the demo has not brought about.

#[cfg(target_os = "linux")]
use nix::{
    sys::signal::{Signal, kill},
    sys::wait::waitpid,
    unistd::Pid,
};

/// From now on a process whose parent ends is this one's, if this one has brought it about.
pub(crate) fn adopt() {
    // Where the kernel refuses, they are left as everywhere else.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Kills whatever there is, and what that has started; whoever is killed hands its own over.
pub(crate) fn end() {
    #[cfg(target_os = "linux")]
    loop {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            // One that has just ended is only to be taken note of.
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
        }
    }
}

/// The children of all threads of this process.
#[cfg(target_os = "linux")]
fn children() -> Vec<Pid> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let numbers: Vec<String> =
        lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    numbers.iter().filter_map(|number| number.parse().ok().map(Pid::from_raw)).collect()
}
