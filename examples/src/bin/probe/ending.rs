//! How a job of probe ends once its work is done.
//!
//! Owns the last line of its diary, and the end that its orders want. Refuses to be skipped: a job that is cut off writes
//! its line too.

use std::error::Error;

use crate::diary::{Diary, Entry};
use crate::orders::Orders;

/// Writes down how the job ended, however it did.
pub(crate) struct Ending {
    diary: Diary,
    entry: Entry,
}

impl Ending {
    /// Of a job that works: until more is known it is cancelled.
    pub(crate) fn new(diary: Diary) -> Self {
        Self { diary, entry: Entry::Cancelled }
    }

    /// The work is done: ends as told, the whole process with it where that is the order.
    pub(crate) fn end_as_told(mut self, orders: &Orders) -> Result<(), Box<dyn Error + Send + Sync>> {
        if let Some(code) = orders.exit {
            std::process::exit(code);
        }
        if orders.abort {
            std::process::abort();
        }
        if orders.raise || orders.panic {
            self.entry = Entry::Raised;
            assert!(!orders.panic, "told to panic");
            return Err("told to raise".into());
        }
        self.entry = Entry::Finished;
        Ok(())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.diary.write(self.entry);
    }
}
