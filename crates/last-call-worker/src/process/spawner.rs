//! The one thread that starts children.
//!
//! Owns the thread `last-call-supervisor`, which lives as long as the process: the kernel ends a child that asked to
//! die with its parent when the *thread* that started it ends. Refuses everything else, user code above all.

use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError, mpsc};

use nix::sys::signal::SigmaskHow;

use tokio::sync::oneshot;

struct Order {
    command: Command,
    /// It starts with the worker's signals blocked.
    deaf: bool,
    done: Box<dyn FnOnce(io::Result<Child>) + Send>,
}

static ORDERS: Mutex<Option<mpsc::Sender<Order>>> = Mutex::new(None);

/// Starts `command` on that thread and gives the child to `take` there, so that nobody who stops waiting leaves it
/// without an owner.
pub(super) async fn spawn<T: Send + 'static>(
    command: Command,
    deaf: bool,
    take: impl FnOnce(Child) -> T + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    // What nobody waits for any more is dropped here, and ends by that.
    let done = move |spawned: io::Result<Child>| drop(tell.send(spawned.map(take)));
    orders()?.send(Order { command, deaf, done: Box::new(done) }).map_err(|_| ended())?;
    told.await.map_err(|_| ended())?
}

fn ended() -> io::Error {
    io::Error::other("the supervisor thread has ended")
}

fn orders() -> io::Result<mpsc::Sender<Order>> {
    let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(orders) = &*orders {
        return Ok(orders.clone());
    }
    let (sender, taken) = mpsc::channel::<Order>();
    let work = move || taken.into_iter().for_each(|order| (order.done)(start(order.command, order.deaf)));
    std::thread::Builder::new().name("last-call-supervisor".to_owned()).spawn(work)?;
    Ok(orders.insert(sender).clone())
}

fn start(mut command: Command, deaf: bool) -> io::Result<Child> {
    if !deaf {
        return command.spawn();
    }
    // A child inherits the mask.
    let before = crate::signal::ours().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}
