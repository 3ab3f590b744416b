//! The two threads of supervision, which live as long as the process.
//!
//! Owns `last-call-supervisor`, which starts children: the kernel ends a child that asked to die with its parent when
//! the *thread* that started it ends; and `last-call-errands`, which reads `/proc`, where that may take long. Refuses a
//! pool of threads: where the system gives no more of them, a job that runs must not notice.

use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError, mpsc};

use nix::sys::signal::SigmaskHow;
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does one thing after the other.
#[derive(Debug)]
pub(super) struct Desk {
    name: &'static str,
    sender: Mutex<Option<mpsc::Sender<Work>>>,
}

/// Starts children.
pub(super) static SUPERVISOR: Desk = Desk::new("last-call-supervisor");
/// Reads `/proc`.
pub(super) static ERRANDS: Desk = Desk::new("last-call-errands");

impl Desk {
    const fn new(name: &'static str) -> Self {
        Self { name, sender: Mutex::new(None) }
    }

    /// Does `work` there. Cancel safe: what nobody waits for any more is dropped there.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let ended = |_| io::Error::other(format!("the thread {} has ended", self.name));
        let (tell, told) = oneshot::channel();
        let work: Work = Box::new(move || drop(tell.send(work())));
        self.start()?.send(work).map_err(|_| ended(()))?;
        told.await.map_err(|_| ended(()))
    }

    /// Starts the thread, unless it is there.
    pub(super) fn start(&self) -> io::Result<mpsc::Sender<Work>> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*sender {
            return Ok(sender.clone());
        }
        let (orders, taken) = mpsc::channel::<Work>();
        let body = move || taken.into_iter().for_each(|work| work());
        std::thread::Builder::new().name(self.name.to_owned()).spawn(body)?;
        Ok(sender.insert(orders).clone())
    }
}

/// Starts a child; `deaf`, with the worker's signals blocked, as it inherits the mask of this thread.
pub(super) fn start(mut command: Command, deaf: bool) -> io::Result<Child> {
    if !deaf {
        return command.spawn();
    }
    let before = crate::signal::ours().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}
