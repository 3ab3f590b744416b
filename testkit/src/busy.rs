//! Owns load on every core, for the promises that hold under it. Refuses to outlive its test: the spinners end when dropped, and by
//! themselves after [`LONGEST`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// After this, a forgotten spinner ends.
const LONGEST: Duration = Duration::from_secs(600);

/// Threads that never rest, two on each core: whoever else wants a core has to wait for it.
#[derive(Debug)]
pub struct Spinners {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Spinners {
    /// Keeps every core busy until dropped.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn all_cores() -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut spinners = Self { stop: Arc::default(), threads: Vec::new() };
        for _ in 0..cores * 2 {
            let stop = Arc::clone(&spinners.stop);
            let thread = std::thread::Builder::new().name("spinner".to_owned()).spawn(move || spin(&stop));
            spinners.threads.push(thread.context("cannot start a spinner")?);
        }
        Ok(spinners)
    }
}

fn spin(stop: &AtomicBool) {
    let end = Instant::now() + LONGEST;
    while !stop.load(Ordering::Relaxed) && Instant::now() < end {
        for _ in 0..10_000 {
            std::hint::spin_loop();
        }
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A spinner does not panic.
            let _ = thread.join();
        }
    }
}
