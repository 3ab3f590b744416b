//! Whoever may listen at a path: bounded in time and size, named in the error, and never a panic.

use std::os::unix::net::UnixListener;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::runtime::Builder;

use super::*;

/// What is made of a server that takes the request, writes this and hangs up.
async fn answer_of(bytes: Vec<u8>) -> Result<(StatusCode, Bytes), Unreached> {
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    tokio::spawn(async move {
        let mut theirs = asked(theirs).await;
        theirs.write_all(&bytes).await.expect("room for it");
    });
    bounded(exchange(ours, &Method::GET, "/status")).await
}

/// The server's end, once the request is read.
async fn asked(theirs: DuplexStream) -> DuplexStream {
    let mut reader = BufReader::new(theirs);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).await.expect("a line of the request");
    }
    reader.into_inner()
}

fn http(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[tokio::test]
async fn garbage_is_no_worker() {
    for (bytes, said) in [
        (b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), "does not speak HTTP"),
        (b"\0\xff\xfe garbage \x1b[2J\r\n\r\n".to_vec(), "does not speak HTTP"),
        (b"HTTP/1.1 999999 \r\n\r\n".to_vec(), "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\n".to_vec(), "does not speak HTTP"),
        (Vec::new(), "no whole answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort".to_vec(), "no whole answer"),
        (http("200 OK", &vec![b'x'; LARGEST + 1]), "larger than 64 KiB"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nx".to_vec(), "no whole answer"),
    ] {
        let error = answer_of(bytes.clone()).await.expect_err("no answer").to_string();
        assert!(error.contains(said), "{}: {error}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(answer_of(http("200 OK", b"{}")).await.expect("an answer").1.as_ref(), b"{}");
}

#[tokio::test]
async fn one_that_speaks_first_is_no_worker() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    theirs.write_all(b"220 mail.example ESMTP\r\n").await.expect("room for it");
    let error = bounded(exchange(ours, &Method::GET, "/status")).await.expect_err("no answer").to_string();
    assert!(error.contains("unexpected message"), "{error}");
}

/// Writes one piece again and again, as fast as it is taken or once a second.
async fn writes_on(theirs: DuplexStream, first: &str, piece: &[u8], slowly: bool) {
    let mut theirs = asked(theirs).await;
    theirs.write_all(first.as_bytes()).await.expect("taken");
    while theirs.write_all(piece).await.is_ok() {
        if slowly {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_answer_has_an_end() {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    for (first, piece, slowly, said) in [
        (OK, "x: ", false, "does not speak HTTP"),
        (OK, "x: y\r\n", false, "does not speak HTTP"),
        (OK, "x", true, "no answer within 5s"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", true, "no answer within 5s"),
        ("HTTP/1.1 200 OK\r\n\r\n", "xxxxxxxx", false, "larger than 64 KiB"),
        ("HTTP/1.1 200 OK\r\n\r\n", "x", true, "no answer within 5s"),
        ("", "", true, "no answer within 5s"),
    ] {
        let (ours, theirs) = tokio::io::duplex(1024);
        tokio::spawn(writes_on(theirs, first, piece.as_bytes(), slowly));
        let error =
            bounded(exchange(ours, &Method::POST, "/drain")).await.expect_err("no answer").to_string();
        assert!(error.contains(said), "{first:?} {piece:?}: {error}");
    }
}

#[test]
fn nothing_that_a_worker_says_reaches_the_terminal_as_it_is() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    bolero::check!().with_type::<(u16, Vec<u8>, bool)>().for_each(|(code, body, whole)| {
        let bytes = if *whole { body.clone() } else { http(&format!("{} .", code % 1000), body) };
        if let Ok((code, body)) = runtime.block_on(answer_of(bytes)) {
            let text = Answer { pid: None, code, body }.text();
            assert!(!text.contains(char::is_control) && text.chars().count() <= shown::LINE + 1, "{text:?}");
        }
    });
}

#[test]
fn an_answer_is_taken_for_what_it_means_to_the_order() {
    for (verb, code, expected) in [
        (Verb::Drain, 202, "word"),
        (Verb::Drain, 503, "word"),
        (Verb::Quiet, 503, "refused: word"),
        (Verb::Unquiet, 409, "refused: word"),
        (Verb::Drain, 404, "whoever listens there is no worker of Last Call: it answers 404 Not Found"),
        (Verb::Quiet, 200, "whoever listens there is no worker of Last Call: it answers 200 OK"),
    ] {
        let code = StatusCode::from_u16(code).expect("a code");
        let answer = Answer { pid: Some(7), code, body: Bytes::from_static(b"word") };
        let said = match taken(verb, &answer) {
            Ok((word, pid)) => {
                assert_eq!(pid, Some(7));
                word
            }
            Err(why) => why.to_string(),
        };
        assert_eq!(said, expected, "{verb:?} {code}");
    }
}

#[test]
fn no_time_of_a_drain_is_too_strange() {
    for (time_left, seconds) in
        [(-1.0, 0), (f64::NAN, 0), (59.9, 59), (1e300, 366 * 24 * 3600), (f64::INFINITY, 366 * 24 * 3600)]
    {
        let drain = Progress { started: 0.0, time_left, jobs_at_start: 0, jobs_finished: 0 };
        assert_eq!(drain.time_left(), Duration::from_secs(seconds), "{time_left}");
    }
}

#[tokio::test]
async fn a_path_that_is_no_living_socket_is_said_to_be_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    drop(UnixListener::bind(at("dead")).expect("bound"));
    std::fs::write(at("file"), "").expect("a file");
    for (path, said) in [
        (at("none"), "no such file"),
        (at("none/below"), "no such file"),
        (at("dead"), "was killed"),
        (at("file"), "no socket"),
        (at(&"x".repeat(200)), "cannot be asked"),
    ] {
        let error = status(&path).await.expect_err("no worker").to_string();
        assert!(error.contains(said), "{}: {error}", path.display());
    }
}

#[test]
fn a_closed_door_says_whose_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    let _living = UnixListener::bind(&path).expect("bound");
    let owner = std::fs::metadata(&path).expect("a file").uid();
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let said = closed_door(&path, &denied).to_string();
    assert!(said.contains(&format!("of user {owner}")) && said.contains("sudo -u"), "{said}");
    let said = closed_door(Path::new("/proc/none"), &denied).to_string();
    assert!(said.contains("may not enter its directory"), "{said}");
}
