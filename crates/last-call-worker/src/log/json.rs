//! One line of JSON for each event, flat: what collectors index without rules of their own.
//!
//! Owns the keys. Refuses nesting: the fields of every span around the event, and those that the job was
//! given, stand beside the event's own. On a clash the inner one wins, and `timestamp`, `level` and `target` are never overwritten.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::job::JobContext;

/// The flat format. It reads what [`JsonFields`] has written for spans and events.
#[derive(Debug)]
pub(super) struct Flat;

impl<S> FormatEvent<S, JsonFields> for Flat
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        for span in ctx.event_scope().into_iter().flat_map(Scope::from_root) {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                merge(&mut line, &fields.fields);
            }
        }
        for (key, value) in JobContext::current().map(|job| job.log_fields()).unwrap_or_default() {
            line.insert(key, value.into());
        }
        let mut own = String::new();
        ctx.field_format().format_fields(Writer::new(&mut own), event)?;
        merge(&mut line, &own);
        // Where a library was compiled is nobody's business.
        line.retain(|key, _| !key.starts_with("log."));

        // Events of the `log` crate carry their true level and target apart.
        let normalized = event.normalized_metadata();
        let meta = normalized.as_ref().unwrap_or_else(|| event.metadata());
        write_line(&mut writer, &now()?, &meta.level().to_string(), meta.target(), line)
    }
}

/// A line about the log itself, outside any event.
pub(super) fn notice(level: &str, message: &str) -> String {
    let mut text = String::new();
    let fields = Map::from_iter([("message".to_owned(), message.into())]);
    // A String takes everything; a clock that cannot be written leaves the time empty.
    let _ = write_line(&mut text, &now().unwrap_or_default(), level, module_path!(), fields);
    text
}

fn now() -> Result<String, fmt::Error> {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    Ok(time)
}

fn merge(line: &mut Map<String, Value>, fields: &str) {
    if let Ok(Value::Object(fields)) = serde_json::from_str(fields) {
        line.extend(fields);
    }
}

/// Fixed keys first, in an order that reads well raw.
fn write_line(
    writer: &mut impl fmt::Write,
    time: &str,
    level: &str,
    target: &str,
    mut fields: Map<String, Value>,
) -> fmt::Result {
    let message = fields.remove("message").unwrap_or_else(|| "".into());
    let fixed = [
        ("timestamp", time.into()),
        ("level", level.into()),
        ("message", message),
        ("target", target.into()),
    ];
    for (at, (key, value)) in fixed.iter().enumerate() {
        let open = if at == 0 { '{' } else { ',' };
        write!(writer, "{open}\"{key}\":{value}")?;
        fields.remove(*key);
    }
    for (key, value) in fields {
        write!(writer, ",{}:{value}", Value::from(key))?;
    }
    writer.write_str("}\n")
}
