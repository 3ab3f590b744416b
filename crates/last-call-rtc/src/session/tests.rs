//! What a trickled candidate is, and which tracks are bound when the server says which section carries which.

use proptest::prelude::*;

use super::*;

/// What the server's word of the sections brings: each track, and whether its packets come.
fn bound(session: &mut Session, tracks: &[(&str, &str)]) -> Vec<(String, bool)> {
    session.bind(&tracks.iter().map(|(mid, sid)| ((*mid).to_owned(), (*sid).to_owned())).collect());
    let each = |output: SessionOutput| {
        if let SessionOutput::Bound(sid) = output {
            (sid.to_string(), true)
        } else if let SessionOutput::Unbound(sid) = output {
            (sid.to_string(), false)
        } else {
            panic!("{output:?}")
        }
    };
    session.outputs.drain(..).map(each).collect()
}

fn session() -> Session {
    Session::new(Instant::now(), false, true)
}

#[test]
fn a_track_is_bound_once_and_unbound_when_it_is_not_named_any_more() {
    let mut session = session();
    assert_eq!(bound(&mut session, &[("1", "TR_a")]), [("TR_a".to_owned(), true)]);
    assert_eq!(bound(&mut session, &[("1", "TR_a")]), []);
    assert_eq!(bound(&mut session, &[("1", "TR_a"), ("2", "TR_b")]), [("TR_b".to_owned(), true)]);
    assert_eq!(bound(&mut session, &[("2", "TR_b")]), [("TR_a".to_owned(), false)]);
}

#[test]
fn a_section_s_old_track_is_unbound_before_the_new_one_is_bound() {
    let mut session = session();
    bound(&mut session, &[("1", "TR_a")]);
    assert_eq!(
        bound(&mut session, &[("1", "TR_b")]),
        [("TR_a".to_owned(), false), ("TR_b".to_owned(), true)]
    );
}

#[test]
fn a_track_that_changes_its_section_is_bound_at_the_end() {
    let mut session = session();
    bound(&mut session, &[("1", "TR_a")]);
    assert_eq!(
        bound(&mut session, &[("2", "TR_a")]),
        [("TR_a".to_owned(), false), ("TR_a".to_owned(), true)]
    );
}

#[test]
fn a_candidate_is_read_and_the_end_of_candidates_is_none() {
    let init =
        r#"{"candidate":"candidate:1 1 udp 1 192.0.2.1 7882 typ host","sdpMid":"0","sdpMLineIndex":0}"#;
    assert_eq!(candidate_of(init).as_deref(), Some("candidate:1 1 udp 1 192.0.2.1 7882 typ host"));
    for none in [r#"{"candidate":""}"#, r#"{"candidate":null}"#, r#"{"sdpMid":"0"}"#, "", "[", "candidate:1"]
    {
        assert_eq!(candidate_of(none), None, "{none}");
    }
}

proptest! {
    #[test]
    fn any_candidate_and_any_section_is_taken_without_panic(init in ".{0,60}", mid in ".{0,40}") {
        let mut session = session();
        let quoted = serde_json::json!({ "candidate": init.clone() }).to_string();
        for candidate_init in [init, quoted] {
            session.on_trickle(&TrickleRequest { candidate_init, ..TrickleRequest::default() });
        }
        prop_assert_eq!(bound(&mut session, &[(&mid, "TR_a")]), [("TR_a".to_owned(), true)]);
    }
}
