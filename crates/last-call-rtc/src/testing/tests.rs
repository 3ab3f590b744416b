//! What an agent sees of a stage, and a stage of an agent.

use super::*;
use crate::{AudioStreamOptions, DataOptions, PublishOptions, RoomError, Who};

fn stage() -> (Room, Stage) {
    Stage::open("lobby", "agent").expect("a thread")
}

#[tokio::test]
async fn guests_come_and_go_as_an_agent_sees_it() {
    let (room, stage) = stage();
    assert_eq!((room.info().name(), room.local().identity()), ("lobby", "agent"));
    let mut events = room.events();
    stage.enter(Guest { kind: ParticipantKind::Agent, ..Guest::new("another") });
    stage.enter(Guest { name: "Ann".to_owned(), ..Guest::new("ann") });
    let caller = room.wait_for_participant().await.expect("Ann");
    assert_eq!((caller.identity(), caller.name(), caller.kind()), ("ann", "Ann", ParticipantKind::Standard));
    let who = Who::identity("ann");
    assert_eq!(room.wait_for(|one| who.fits(one)).await.expect("Ann").sid(), caller.sid());
    stage.enter(Guest::new("ann"));
    assert_ne!(room.participant("ann").expect("Ann").sid(), caller.sid(), "another session");
    stage.leave("ann");
    stage.leave("nobody");
    room.left("ann").await;
    stage.end(DisconnectReason::RoomDeleted);
    assert_eq!(room.closed().await, DisconnectReason::RoomDeleted);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(event.name());
    }
    let (comes, goes) = (["ParticipantConnected", "ParticipantActive"], ["ParticipantDisconnected"]);
    let all = [&comes[..], &comes, &goes, &comes, &goes, &["Disconnected"]].concat();
    assert_eq!(seen, all);
    assert!(matches!(room.publish_data(Vec::new(), DataOptions::default()).await, Err(RoomError::Closed)));
}

#[tokio::test]
async fn data_goes_both_ways_and_what_is_shown_is_shown() {
    let (room, mut stage) = stage();
    stage.enter(Guest::new("ann"));
    let mut events = room.events();
    stage.send("ann", "ping", "hello");
    let Some(RoomEvent::DataReceived { payload, topic, participant, reliable }) = events.next().await else {
        panic!("no data");
    };
    assert_eq!((payload.as_slice(), topic.as_deref(), reliable), (&b"hello"[..], Some("ping"), true));
    assert_eq!(participant.expect("Ann").identity(), "ann");
    let to_ann = DataOptions { reliable: false, topic: "pong".into(), destinations: vec!["ann".into()] };
    room.publish_data(b"bye".to_vec(), to_ann).await.expect("sent");
    let Some(Deed::Sent { payload, topic, destinations, reliable }) = stage.next().await else {
        panic!("nothing sent");
    };
    assert_eq!((payload.as_slice(), topic.as_str(), reliable), (&b"bye"[..], "pong", false));
    assert_eq!(destinations, ["ann"]);
    room.set_name("Bot").await.expect("shown");
    room.set_attributes([("mood".to_owned(), "good".to_owned())].into()).await.expect("shown");
    assert!(matches!((stage.next().await, stage.next().await), (Some(Deed::Shown), Some(Deed::Shown))));
    assert_eq!((room.local().name(), room.local().attributes()["mood"].as_str()), ("Bot", "good"));
    drop((room, events));
    assert!(matches!(stage.next().await, Some(Deed::Left)));
    assert!(stage.next().await.is_none());
}

#[tokio::test]
async fn procedures_go_both_ways() {
    let (room, mut stage) = stage();
    stage.enter(Guest::new("ann"));
    let agent = async {
        let mut method = room.rpc_method("add");
        let call = method.next().await.expect("a call");
        assert_eq!((call.caller(), call.payload()), ("ann", "1 2"));
        call.answer(Ok("3".to_owned()));
        let within = Duration::from_secs(1);
        let nobody = room.perform_rpc("bob", "greet", "", within).await.expect_err("nobody");
        assert_eq!(nobody.code, RpcError::RECIPIENT_NOT_FOUND);
        room.perform_rpc("ann", "greet", "me", within).await
    };
    let test = async {
        // Before the agent offers it.
        assert_eq!(stage.call("ann", "add", "1 2").await.as_deref(), Ok("3"));
        let Some(Deed::Called(called)) = stage.next().await else { panic!("no call") };
        assert_eq!(
            (called.to.as_str(), called.method.as_str(), called.payload.as_str()),
            ("ann", "greet", "me")
        );
        called.answer(Ok("hello".to_owned()));
    };
    let (said, ()) = tokio::join!(agent, test);
    assert_eq!(said.as_deref(), Ok("hello"));
    let call = async { stage.call("ann", "nothing", "").await.expect_err("the room ends").code };
    let end = async { stage.end(DisconnectReason::ParticipantRemoved) };
    assert_eq!(tokio::join!(call, end).0, RpcError::RECIPIENT_DISCONNECTED);
}

/// An agent that repeats what it hears.
#[tokio::test]
async fn sound_goes_both_ways() {
    let (room, mut stage) = stage();
    let agent = async {
        let voice = AudioSource::new(8_000, 1);
        room.publish_audio(&voice, PublishOptions::default()).await.expect("published");
        let caller = room.wait_for(|one| !one.publications().is_empty()).await.expect("a caller");
        let options = AudioStreamOptions { sample_rate: 8_000, ..AudioStreamOptions::default() };
        let mut stream = room.audio_stream(caller.publications()[0].sid(), &options).expect("a stream");
        while let Some(frame) = stream.next().await {
            voice.capture(&frame).await.expect("a frame of the same format");
            voice.wait_for_playout().await;
        }
    };
    let test = async {
        let Some(Deed::Published(voice)) = stage.next().await else { panic!("nothing published") };
        assert_eq!(voice.publication().name(), "audio");
        stage.enter(Guest::new("ann"));
        let track = stage.publish("ann").expect("Ann is there");
        assert!(stage.publish("bob").is_none());
        for block in 0..100 {
            let said = vec![block; 160];
            stage.speak(&track, &said).await;
            assert_eq!(voice.hear().await.samples, said);
        }
        stage.leave("ann");
    };
    tokio::join!(agent, test);
    tokio::select! {
        () = stage.speak("TR_nobody", &[0]) => panic!("nobody listens"),
        () = async { tokio::task::yield_now().await } => {}
    }
}
