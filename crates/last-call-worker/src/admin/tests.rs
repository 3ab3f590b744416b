//! The socket file through its life, and each verb in each phase.

use std::os::unix::net::UnixListener as Plain;

use last_call_proto::Load;
use serde_json::Value;
use tokio::net::UnixStream;

use super::*;
use crate::http::tests::{Fixture, Reply, exchange};

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("admin.sock");
    (dir, path)
}

/// Serves a fixture on a fresh socket, with a link that does what the core would.
fn served(fixture: Fixture, path: &Path) -> Arc<tokio::sync::watch::Sender<Snapshot>> {
    let Fixture { ops, shown, mut asked } = fixture;
    tokio::spawn(serve(AdminSocket::bind(path).expect("bound"), ops));
    let shown = Arc::new(shown);
    let link = Arc::clone(&shown);
    tokio::spawn(async move {
        while let Some(verb) = asked.recv().await {
            link.send_modify(|snapshot| {
                snapshot.phase = match (verb, snapshot.phase) {
                    (_, Phase::Draining | Phase::Drained) => snapshot.phase,
                    (Verb::Drain, _) => Phase::Draining,
                    (Verb::Quiet, _) => Phase::Quiet,
                    (Verb::Unquiet, _) => Phase::Serving,
                };
            });
        }
    });
    shown
}

async fn ask(path: &Path, request: &str) -> Reply {
    let io = UnixStream::connect(path).await.expect("connected");
    exchange(io, &format!("{request} HTTP/1.1\r\nhost: worker\r\n")).await
}

#[tokio::test]
async fn verbs_move_the_phase_and_a_drain_stays() {
    let (_dir, path) = place();
    let _shown = served(Fixture::new(), &path);
    for (request, code, word) in [
        ("DELETE /quiet", 202, "serving"),
        ("POST /quiet", 202, "quiet"),
        ("POST /quiet", 202, "quiet"),
        ("DELETE /quiet", 202, "serving"),
        ("POST /quiet", 202, "quiet"),
        ("POST /drain", 202, "draining"),
        ("POST /drain", 202, "draining"),
        ("POST /quiet", 202, "draining"),
    ] {
        let reply = ask(&path, request).await;
        assert_eq!((reply.code, reply.body.as_str()), (code, word), "{request}");
    }
    let reply = ask(&path, "DELETE /quiet").await;
    assert!(reply.code == 409 && reply.body.contains("cannot be undone"), "{reply:?}");
    assert_eq!(ask(&path, "GET /status").await.code, 200);
    for (request, code) in [
        ("DELETE /drain", 405),
        ("GET /quiet", 405),
        ("POST /status", 405),
        ("GET /metrics", 404),
        ("GET /", 404),
    ] {
        assert_eq!(ask(&path, request).await.code, code, "{request}");
    }
}

#[tokio::test]
async fn the_status_page() {
    let (_dir, path) = place();
    let shown = served(Fixture::new(), &path);
    let page =
        async || -> Value { serde_json::from_str(&ask(&path, "GET /status").await.body).expect("JSON") };
    let expected = serde_json::json!({
        "phase": "serving", "registered": false, "wedged": false, "worker_id": null,
        "agent_name": "concierge", "version": "1.2.3", "active_jobs": 0, "accepted_jobs": 0, "load": 0.0,
        "drain": null,
    });
    assert_eq!(page().await, expected);
    shown.send_modify(|snapshot| {
        snapshot.phase = Phase::Draining;
        snapshot.worker_id = Some("AW_1".into());
        snapshot.load = Load::from_thousandths(700);
        snapshot.drain = Some(DrainProgress {
            started: SystemTime::now() - Duration::from_secs(10_000),
            budget: Duration::from_secs(900),
            jobs_at_start: 4,
            jobs_finished: 1,
            declined: 29,
        });
    });
    let page = page().await;
    assert_eq!((&page["phase"], &page["worker_id"]), (&"draining".into(), &"AW_1".into()));
    let drain = &page["drain"];
    assert!(drain["started"].as_f64().is_some_and(|at| at > 1e9), "{drain}");
    assert_eq!((&drain["budget"], &drain["time_left"]), (&900.0.into(), &0.0.into()));
    assert_eq!((&drain["jobs_at_start"], &drain["jobs_finished"]), (&4.into(), &1.into()));
    assert_eq!(drain["declined"], 29);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_slow_or_gone() {
    let Fixture { ops, shown, asked } = Fixture::new();
    let (code, text) = ask_verb(&ops, Verb::Drain).await;
    assert!(code == StatusCode::ACCEPTED && text.starts_with("asked"), "{text}");
    drop(shown);
    assert_eq!(ask_verb(&ops, Verb::Drain).await.0, StatusCode::SERVICE_UNAVAILABLE, "nothing will be shown");
    drop(asked);
    assert_eq!(ask_verb(&ops, Verb::Quiet).await.0, StatusCode::SERVICE_UNAVAILABLE, "nobody to ask");
}

async fn ask_verb(ops: &Ops, verb: Verb) -> Answer {
    super::ask(ops, verb, |phase| phase == Phase::Draining).await
}

#[test]
fn only_the_user_may_open_it_and_it_goes_at_the_end() {
    let (dir, path) = place();
    let socket = AdminSocket::bind(&path).expect("bound");
    let meta = fs::symlink_metadata(&path).expect("a file");
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let names = || fs::read_dir(dir.path()).expect("a directory").count();
    assert_eq!(names(), 1, "the hidden directory is gone");
    drop(socket);
    assert_eq!(names(), 0);
}

#[test]
fn in_a_directory_it_has_the_number_of_the_process() {
    let (dir, _) = place();
    let socket = AdminSocket::bind(dir.path()).expect("bound");
    let path = dir.path().join(format!("{}.sock", process::id()));
    assert!(fs::symlink_metadata(&path).expect("a file").file_type().is_socket());
    // As process 1 of another container would be.
    let namesake = AdminSocket::bind(dir.path()).expect("bound");
    let beside = dir.path().join(format!("{}-2.sock", process::id()));
    assert!(knock(&path).is_ok() && knock(&beside).is_ok());
    drop(socket);
    assert!(!path.exists() && beside.exists());
    drop(namesake);
    assert!(!beside.exists() && dir.path().exists());
}

#[test]
fn a_living_socket_is_not_replaced_and_a_dead_one_is() {
    let (_dir, path) = place();
    let living = Plain::bind(&path).expect("bound");
    let error = AdminSocket::bind(&path).expect_err("taken");
    assert!(matches!(error, AdminError::Taken(_)), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()));
    drop(living);
    assert!(path.exists(), "left behind");
    drop(AdminSocket::bind(&path).expect("replaced"));
    assert!(!path.exists());
}

#[test]
fn a_successor_keeps_its_file() {
    let (_dir, path) = place();
    let first = AdminSocket::bind(&path).expect("bound");
    fs::remove_file(&path).expect("removed by hand");
    let second = AdminSocket::bind(&path).expect("bound anew");
    drop(first);
    assert!(path.exists());
    drop(second);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let (dir, path) = place();
    fs::write(&path, "precious").expect("a file");
    assert!(matches!(AdminSocket::bind(&path), Err(AdminError::NoSocket(_))));
    assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    for unusable in [dir.path().join("missing/admin.sock"), dir.path().join("x".repeat(300))] {
        let error = AdminSocket::bind(&unusable).expect_err("no such place");
        assert!(matches!(error, AdminError::Io { .. }), "{error}");
    }
}

#[tokio::test]
async fn dropping_the_service_removes_the_file() {
    let (_dir, path) = place();
    let fixture = Fixture::new();
    let service = tokio::spawn(serve(AdminSocket::bind(&path).expect("bound"), fixture.ops));
    assert_eq!(ask(&path, "GET /status").await.code, 200);
    service.abort();
    assert!(service.await.is_err_and(|end| end.is_cancelled()));
    assert!(!path.exists());
}
