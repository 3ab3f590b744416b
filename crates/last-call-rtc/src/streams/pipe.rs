//! Owns what lies between a stream's packets and its reader: a queue of bounded size, and how it ends. Refuses to know
//! what a chunk means.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{StreamError, UNREAD, UNREAD_EACH};

/// What a chunk costs beside its bytes, and a stream beside its header.
const CHUNK_COST: usize = 64;
const STREAM_COST: usize = 1024;

/// What all streams of a room hold, in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    fn take(&self, bytes: usize) -> bool {
        let taken = |held: usize| held.checked_add(bytes).filter(|held| *held <= UNREAD);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a reader gets.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    Chunk(Vec<u8>),
    /// With the attributes of the end.
    End(HashMap<String, String>),
    Failed(StreamError),
}

#[derive(Debug)]
struct Queue {
    chunks: VecDeque<Vec<u8>>,
    /// What they cost.
    cost: usize,
    end: Option<Result<HashMap<String, String>, StreamError>>,
    wanted: bool,
    waiting: Option<Waker>,
}

impl Queue {
    fn clear(&mut self) -> usize {
        self.chunks = VecDeque::new();
        std::mem::take(&mut self.cost)
    }
}

/// The end that is filled. Dropped before the stream has ended, the reader hears that the room is over.
#[derive(Debug)]
pub(super) struct Feed {
    queue: Arc<Mutex<Queue>>,
    budget: Budget,
}

/// The end that is read.
#[derive(Debug)]
pub(crate) struct Tap {
    queue: Arc<Mutex<Queue>>,
    budget: Budget,
    /// What the stream itself costs.
    cost: usize,
}

/// A new queue; `None` where the budget has no room for it and its header.
pub(super) fn pipe(budget: &Budget, header: usize) -> Option<(Feed, Tap)> {
    let cost = header + STREAM_COST;
    if !budget.take(cost) {
        return None;
    }
    let queue = Queue { chunks: VecDeque::new(), cost: 0, end: None, wanted: true, waiting: None };
    let queue = Arc::new(Mutex::new(queue));
    let feed = Feed { queue: Arc::clone(&queue), budget: budget.clone() };
    Some((feed, Tap { queue, budget: budget.clone(), cost }))
}

impl Feed {
    /// Whether the reader is still there.
    pub(super) fn push(&self, chunk: Vec<u8>) -> Result<bool, StreamError> {
        let mut queue = lock(&self.queue);
        if !queue.wanted || chunk.is_empty() {
            return Ok(queue.wanted);
        }
        let cost = chunk.len() + CHUNK_COST;
        if queue.cost + cost > UNREAD_EACH || !self.budget.take(cost) {
            self.budget.give_back(queue.clear());
            return Err(StreamError::Unread);
        }
        queue.cost += cost;
        queue.chunks.push_back(chunk);
        wake(queue);
        Ok(true)
    }

    pub(super) fn end(self, end: Result<HashMap<String, String>, StreamError>) {
        lock(&self.queue).end = Some(end);
    }

    pub(super) fn is_wanted(&self) -> bool {
        lock(&self.queue).wanted
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.end.get_or_insert(Err(StreamError::Closed));
        wake(queue);
    }
}

impl Tap {
    /// The next piece, in order. After the last there is none.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Piece> {
        let mut queue = lock(&self.queue);
        if let Some(chunk) = queue.chunks.pop_front() {
            let cost = chunk.len() + CHUNK_COST;
            queue.cost -= cost;
            self.budget.give_back(cost);
            return Poll::Ready(Piece::Chunk(chunk));
        }
        match &mut queue.end {
            Some(Ok(attributes)) => Poll::Ready(Piece::End(std::mem::take(attributes))),
            Some(Err(error)) => Poll::Ready(Piece::Failed(error.clone())),
            None => {
                queue.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.wanted = false;
        self.budget.give_back(self.cost + queue.clear());
    }
}

/// Without the lock: a waker may run what reads.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waiting = queue.waiting.take();
    drop(queue);
    if let Some(waiting) = waiting {
        waiting.wake();
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // Every section is a few assignments: what a panicking holder leaves behind is whole.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
