//! Workers as a table, as a list, and as JSON.
//!
//! Owns the columns. Refuses to break or cut a line for a narrow terminal: where the table does not fit, each field
//! has a line of its own.

use std::path::{Path, PathBuf};

use comfy_table::Table;
use serde_json::{Map, Value};

use super::ask::{Seen, Unreached};
use super::wait::progress;
use crate::shown;

const HEADER: [&str; 9] =
    ["AGENT", "PHASE", "REGISTERED", "JOBS", "LOAD", "WORKER", "PID", "DRAIN", "SOCKET"];
/// Between two columns.
const GAP: u16 = 2;

/// The workers, for a terminal of this width or for no terminal.
pub(super) fn text(workers: &[(PathBuf, Result<Seen, Unreached>)], width: Option<u16>) -> String {
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(workers.iter().map(|(socket, seen)| row(socket, seen.as_ref())));
    let drains = rows[1..].iter().any(|row| row[7] != NOTHING);
    let cells =
        |row: [String; 9]| row.into_iter().zip(HEADER).filter(move |(_, name)| drains || *name != "DRAIN");
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.add_rows(rows.iter().cloned().map(|row| cells(row).map(|(cell, _)| cell)));
    let needed: u16 = table.column_max_content_widths().iter().map(|width| width + GAP).sum();
    if width.is_some_and(|width| needed - GAP > width) {
        let fields = |row| cells(row).map(|(cell, name)| format!("{name:<10}  {cell}\n")).collect();
        let blocks: Vec<String> = rows.into_iter().skip(1).map(fields).collect();
        return blocks.join("\n").trim_end().to_owned();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.trim_fmt()
}

const NOTHING: &str = "-";

fn row(socket: &Path, seen: Result<&Seen, &Unreached>) -> [String; 9] {
    let nothing = || NOTHING.to_owned();
    let at = shown::path(socket);
    let Seen { status, pid, .. } = match seen {
        Ok(seen) => seen,
        Err(why) => {
            let phase =
                if matches!(why, Unreached::Dead | Unreached::Missing) { "gone" } else { "unreachable" };
            let mut row = std::array::from_fn(|_| nothing());
            (row[1], row[8]) = (phase.to_owned(), at);
            return row;
        }
    };
    let agent = if status.agent_name.is_empty() { "(every room)" } else { &status.agent_name };
    let wedged = if status.wedged { ", wedged" } else { "" };
    let accepted = Some(status.accepted_jobs).filter(|jobs| *jobs > 0);
    [
        shown::line(agent),
        shown::line(&status.phase) + wedged,
        if status.registered { "yes" } else { "no" }.to_owned(),
        accepted.map_or_else(
            || status.active_jobs.to_string(),
            |accepted| format!("{}+{accepted}", status.active_jobs),
        ),
        format!("{:.2}", status.load),
        status.worker_id.as_deref().map_or_else(nothing, shown::line),
        pid.map_or_else(nothing, |pid| pid.to_string()),
        status.drain.as_ref().map_or_else(nothing, progress),
        at,
    ]
}

/// One worker: its status page with `socket` and `pid`, or `socket` and `error`.
pub(super) fn json(socket: &Path, seen: Result<&Seen, &Unreached>) -> Value {
    let mut object = seen.map_or_else(|_| Map::new(), |seen| seen.page.clone());
    object.insert("socket".to_owned(), socket.to_string_lossy().into());
    match seen {
        Ok(seen) => object.insert("pid".to_owned(), seen.pid.into()),
        Err(why) => object.insert("error".to_owned(), why.to_string().into()),
    };
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::super::ask::Status;
    use super::*;

    fn seen(page: Value) -> Seen {
        let Value::Object(page) = page else { panic!("an object") };
        let status: Status = serde_json::from_value(Value::Object(page.clone())).expect("a status");
        Seen { pid: Some(4711), status, page }
    }

    fn serving() -> Value {
        serde_json::json!({
            "phase": "serving", "registered": true, "wedged": false, "worker_id": "AW_1", "agent_name": "concierge",
            "active_jobs": 3, "accepted_jobs": 0, "load": 0.417, "drain": null,
        })
    }

    fn draining() -> Value {
        let mut page = serving();
        page["phase"] = "draining".into();
        page["accepted_jobs"] = 1.into();
        page["drain"] =
            serde_json::json!({"started": 1.0, "time_left": 3250.4, "jobs_at_start": 4, "jobs_finished": 1});
        page
    }

    #[test]
    fn without_a_terminal_a_worker_is_a_line() {
        let workers = [
            ("/run/a.sock".into(), Ok(seen(serving()))),
            ("/run/b.sock".into(), Ok(seen(draining()))),
            ("/run/c.sock".into(), Err(Unreached::Dead)),
        ];
        let expected = "\
AGENT      PHASE     REGISTERED  JOBS  LOAD  WORKER  PID   DRAIN                            SOCKET
concierge  serving   yes         3     0.42  AW_1    4711  -                                /run/a.sock
concierge  draining  yes         3+1   0.42  AW_1    4711  1 of 4 jobs ended, 54m 10s left  /run/b.sock
-          gone      -           -     -     -       -     -                                /run/c.sock";
        assert_eq!(text(&workers, None), expected);
        assert!(!text(&workers[..1], None).contains("DRAIN"));
    }

    #[test]
    fn where_the_table_does_not_fit_a_field_is_a_line() {
        let workers =
            [("/run/a.sock".into(), Ok(seen(serving()))), ("/run/b.sock".into(), Err(Unreached::Dead))];
        let whole = text(&workers, None);
        let needed =
            u16::try_from(whole.lines().next().expect("a header").chars().count()).expect("short") + 5;
        assert_eq!(text(&workers, Some(needed)), whole, "{whole}");
        let expected = "\
AGENT       concierge
PHASE       serving
REGISTERED  yes
JOBS        3
LOAD        0.42
WORKER      AW_1
PID         4711
SOCKET      /run/a.sock

AGENT       -
PHASE       gone
REGISTERED  -
JOBS        -
LOAD        -
WORKER      -
PID         -
SOCKET      /run/b.sock";
        assert_eq!(text(&workers, Some(needed - 1)), expected);
    }

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        let mut page = serving();
        for field in ["phase", "agent_name", "worker_id"] {
            page[field] = "a\u{1b}[2Jb\u{9b}c\n".into();
        }
        let text = text(&[("/run/\u{7}.sock".into(), Ok(seen(page)))], None);
        assert!(text.contains("[2Jb") && text.lines().count() == 2, "{text}");
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{7}']), "{text:?}");
    }

    #[test]
    fn json_has_the_whole_page() {
        let mut page = serving();
        page["of_a_later_version"] = true.into();
        let worker = json(Path::new("/run/a.sock"), Ok(&seen(page)));
        assert_eq!((&worker["of_a_later_version"], &worker["pid"]), (&true.into(), &4711.into()));
        assert_eq!(worker["socket"], "/run/a.sock");
        let gone = json(Path::new("/run/a.sock"), Err(&Unreached::Dead));
        assert_eq!((&gone["socket"], gone.as_object().map(Map::len)), (&"/run/a.sock".into(), Some(2)));
    }
}
