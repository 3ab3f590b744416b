//! A whole conversation with the real server, which closes the socket on a message that it does not know.
//!
//! Owns the server's complaints. Refuses its thanks: what works is the other files' part.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use last_call_testkit::LiveKit;
use tempfile::TempDir;

use crate::scene::{dispatch, eventually, probe};
use crate::server_log::{self, CLOSING, GIVEN_UP, JOB_ENDED, REGISTERED};

/// Lines of the server about a worker that broke the protocol.
const COMPLAINTS: [&str; 2] = ["unable to handle worker signal", "error reading from websocket"];

fn verb(socket: &Path, request: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("no admin socket")?;
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 202"), "{request} was answered with {answer}");
    Ok(())
}

#[test]
fn wire_2_the_server_never_closes_the_conversation() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let directory = TempDir::new()?;
    let socket = directory.path().join("admin");
    let probe = probe(&server, "bar")?.with(|launch| launch.arg("--admin-socket").arg(&socket)).start()?;

    // Every kind of answer, report and status, over several rounds of load reports and pings.
    let long = &dispatch(&server, "bar", "long", 1, r#"{"sleep":600}"#)?[0];
    for round in 0..3 {
        for (kind, orders) in [
            ("well", "{}"),
            ("raises", r#"{"raise":true}"#),
            ("panics", r#"{"panic":true}"#),
            ("rejected", r#"{"reject":true}"#),
            ("slow", r#"{"sleep":2}"#),
        ] {
            dispatch(&server, "bar", &format!("{kind}-{round}"), 2, orders)?;
        }
        server_log::wait_for(&server, "bar", JOB_ENDED, (round + 1) * 8)?;
        server_log::wait_for(&server, "bar", GIVEN_UP, round * 3 + 2)?;
        verb(&socket, "POST /quiet")?;
        dispatch(&server, "bar", &format!("quiet-{round}"), 1, "{}")?;
        server_log::wait_for(&server, "bar", GIVEN_UP, (round + 1) * 3)?;
        verb(&socket, "DELETE /quiet")?;
    }
    // The server ends a call: it lists the job once its first, slow look for agents is over.
    let listed = || {
        Ok(server
            .api()
            .list_dispatch(long)?
            .into_iter()
            .find(|one| one.state.as_ref().is_some_and(|state| !state.jobs.is_empty())))
    };
    let long_dispatch = eventually("the long job is listed", listed)?;
    server.api().delete_dispatch(long, &long_dispatch.id)?;
    server_log::wait_for(&server, "bar", JOB_ENDED, 3 * 8 + 1)?;
    probe.drain()?;
    assert_eq!(probe.ended()?.code, Some(0));

    let closing = server_log::wait_for(&server, "bar", CLOSING, 1)?;
    assert_eq!((closing.len(), server_log::said_of(&server, "bar", REGISTERED).len()), (1, 1));
    for complaint in COMPLAINTS {
        assert_eq!(server_log::said(&server, complaint), [""; 0]);
    }
    assert_eq!(probe.count_said("connection lost"), 0);
    Ok(())
}
