//! Several workers, found in a directory.

use std::io::Write;
use std::os::unix::net::UnixListener;

use crate::rig::{Rig, SOON, asked, last_call, text};

#[test]
fn workers_of_one_environment_have_sockets_of_their_own_and_are_all_found() {
    let rig = Rig::new();
    let here = rig.directory.path();
    let workers = [rig.worker(here, &[]), rig.worker(here, &[])];
    let sockets = workers.each_ref().map(|worker| rig.at(&format!("{}.sock", worker.pid())));
    assert!(sockets.iter().all(|socket| socket.exists()), "{sockets:?}");
    let seen = last_call(&["ps"], Some(here));
    assert_eq!(seen.code, Some(0), "{seen:?}");
    assert!(sockets.iter().all(|socket| seen.out.contains(text(socket))), "{seen:?}");

    for order in ["quiet", "drain", "unquiet"] {
        let refused = last_call(&[order], Some(here));
        assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""), "{refused:?}");
        let listed = sockets.iter().all(|socket| refused.err.contains(text(socket)));
        assert!(listed && refused.err.contains("--all"), "{refused:?}");
        assert!(refused.err.matches("last-call-demo, serving").count() == 2, "{refused:?}");
    }

    let named = last_call(&["quiet", text(&sockets[1])], Some(here));
    assert_eq!((named.code, named.out), (Some(0), format!("{}: quiet\n", sockets[1].display())));
    let seen = last_call(&["ps", text(&sockets[0]), text(&sockets[1])], None);
    let phases: Vec<&str> =
        seen.out.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(phases, ["serving", "quiet"], "only the one that was named: {seen:?}");

    let all = last_call(&["drain", "--all"], Some(here));
    assert_eq!((all.code, all.out.lines().count()), (Some(0), 2), "{all:?}");
    for worker in workers {
        assert_eq!(worker.wait(SOON).expect("it leaves").code, Some(0));
    }
    let nobody = last_call(&["drain", "--all"], Some(here));
    assert!(nobody.code == Some(1) && nobody.err.contains("no worker is found"), "{nobody:?}");
    assert_eq!(last_call(&["ps"], Some(here)).code, Some(0), "all that there are have answered");
}

#[test]
fn a_socket_that_a_killed_worker_left_is_shown_and_ordered_nothing() {
    let rig = Rig::new();
    let here = rig.directory.path();
    drop(UnixListener::bind(rig.at("dead.sock")).expect("bound"));
    let worker = rig.worker(&rig.at("living.sock"), &[]);
    let seen = last_call(&["ps"], Some(here));
    assert_eq!(seen.code, Some(1), "{seen:?}");
    assert!(seen.out.contains("gone") && seen.out.contains("serving"), "{seen:?}");
    assert!(seen.err.contains("dead.sock: no process listens there"), "{seen:?}");
    let done = last_call(&["drain"], Some(here));
    assert_eq!(done.code, Some(0), "one is alive, and it is meant: {done:?}");
    assert_eq!(worker.wait(SOON).expect("it leaves").code, Some(0));
    let named = last_call(&["drain", text(&rig.at("dead.sock"))], None);
    assert!(named.code == Some(1) && named.err.contains("no process listens there"), "{named:?}");
}

#[test]
fn a_name_of_a_file_commands_no_terminal() {
    let rig = Rig::new();
    let here = rig.at("\u{1b}[2J\u{9b}");
    std::fs::create_dir(&here).expect("a directory");
    let empty = last_call(&["ps", text(&here)], None);
    // Two that obey, and say of themselves nothing that makes sense.
    for name in ["a\n.sock", "b\u{7}.sock"] {
        let listener = UnixListener::bind(here.join(name)).expect("bound");
        std::thread::spawn(move || {
            for _ in 0..5 {
                let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\n\r\nquiet";
                let _ = asked(&listener).write_all(answer);
            }
        });
    }
    drop(UnixListener::bind(here.join("dead.sock")).expect("bound"));
    let many = ["ps", "drain", "quiet"].map(|order| last_call(&[order, text(&here)], None));
    let all = last_call(&["quiet", "--all", text(&here)], None);
    assert!(all.out.matches(": quiet\n").count() == 2 && all.err.contains("dead.sock: "), "{all:?}");
    let [seen, drain, quiet] = &many;
    assert_eq!((seen.code, drain.code, quiet.code), (Some(1), Some(2), Some(2)), "{many:?}");
    for said in many.iter().chain([&empty, &all]) {
        let raw = |c: char| c.is_control() && c != '\n';
        assert!(said.err.contains("[2J") && !said.err.contains(raw) && !said.out.contains(raw), "{said:?}");
    }
    for said in [drain, quiet] {
        assert_eq!(said.err.matches("\n    ").count(), 2, "a line for each: {said:?}");
        assert_eq!(said.err.lines().count(), 4, "{said:?}");
    }
}
