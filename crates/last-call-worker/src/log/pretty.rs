//! Fields of a line of text: the event's own, then those that its job was given.
//!
//! Owns that order. Refuses everything else about the line, which is the subscriber's usual one.

use std::fmt;

use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};

use crate::job::JobContext;

/// The usual fields and the job's.
#[derive(Debug, Default)]
pub(super) struct WithJob(DefaultFields);

impl<'w> FormatFields<'w> for WithJob {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        self.0.format_fields(writer.by_ref(), fields)?;
        for (key, value) in JobContext::current().map(|job| job.log_fields()).unwrap_or_default() {
            write!(writer, " {key}={value}")?;
        }
        Ok(())
    }
}
