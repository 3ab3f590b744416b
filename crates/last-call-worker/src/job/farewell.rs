//! What a job does once its end has been reported: an agent leaves its room then and not before, or the server would take
//! the job for failed (JOB-3).
//!
//! Owns what waits for that moment, and what another crate keeps with the job until then. Refuses to run anything
//! itself.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::BoxFuture;

/// What is done and dropped when the job's end has been reported.
#[derive(Default)]
pub(crate) struct Farewell(Mutex<Held>);

#[derive(Default)]
struct Held {
    kept: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    farewells: Vec<BoxFuture<()>>,
}

impl Farewell {
    /// The job's own `T`, made when it is asked for the first time.
    pub(super) fn keep<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut held = self.lock();
        let kept = held.kept.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default())).clone();
        drop(held);
        // By its own type, it is one.
        kept.downcast().unwrap_or_default()
    }

    pub(super) fn add(&self, farewell: BoxFuture<()>) {
        self.lock().farewells.push(farewell);
    }

    /// All of it, once.
    pub(crate) fn take(&self) -> Vec<BoxFuture<()>> {
        let mut held = self.lock();
        let (kept, farewells) = (std::mem::take(&mut held.kept), std::mem::take(&mut held.farewells));
        drop(held);
        drop(kept);
        farewells
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
