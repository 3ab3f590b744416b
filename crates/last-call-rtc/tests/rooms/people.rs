//! Who is in the room.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use last_call_rtc::{AudioSource, DataOptions, DisconnectReason, Room, RoomEvent};
use last_call_testkit::LiveKit;

use super::audio::{first_track, hears, no_dtx, sing};
use super::scene::{MODES, data, event, join, pair, soon};

#[tokio::test]
async fn a_participant_comes_is_changed_and_leaves() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let room = format!("people-{mode:?}");
        let alice = join(&server, &room, "alice", mode.options()).await?;
        let mut events = alice.events();
        let bob = join(&server, &room, "bob", mode.options()).await?;
        let found = soon(alice.wait_for_participant()).await??;
        assert_eq!(found.identity(), "bob");
        let attributes = HashMap::from([("mood".to_owned(), "fine".to_owned())]);
        match bob.set_attributes(attributes).await {
            Ok(()) => {
                event(&mut events, |event| match event {
                    RoomEvent::ParticipantAttributesChanged { participant, .. } => {
                        (participant.attributes().get("mood").map(String::as_str) == Some("fine"))
                            .then_some(())
                    }
                    _ => None,
                })
                .await?;
            }
            // The token does not allow it.
            Err(error) => assert!(error.to_string().contains("refuses"), "{error}"),
        }
        bob.leave().await;
        soon(alice.left("bob")).await?;
        assert_eq!(soon(bob.closed()).await?, DisconnectReason::ClientInitiated);
    }
    Ok(())
}

#[tokio::test]
async fn a_room_that_is_deleted_ends() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let (alice, bob) = pair(&server, mode).await?;
        server.api().delete_room(alice.info().name())?;
        assert_eq!(soon(alice.closed()).await?, DisconnectReason::RoomDeleted, "{mode:?}");
        assert_eq!(soon(bob.closed()).await?, DisconnectReason::RoomDeleted, "{mode:?}");
        assert!(alice.publish_data(vec![1], Default::default()).await.is_err());
    }
    Ok(())
}

/// Twenty who join one after the other, of both kinds: each sees all the others, hears the one who speaks, and hears of the
/// data that each sends.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_are_in_one_room() -> Result<()> {
    const COUNT: usize = 20;
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let mut rooms = Vec::new();
    for (index, mode) in (0..COUNT).zip(MODES.into_iter().cycle()) {
        rooms.push(join(&server, "twenty", &format!("guest-{index}"), mode.options()).await?);
    }
    let source = AudioSource::new(48_000, 1);
    let (speaker, others) = rooms.split_first().context("twenty")?;
    speaker.publish_audio(&source, no_dtx()).await?;
    let singer = sing(source, 440.0);
    for room in others {
        let track = first_track(room).await?;
        assert!(hears(room, &track, 440.0).await? > 0.95, "{}", room.local().identity());
        // The server tells of those who publish nothing now and then only.
        for other in rooms.iter().map(Room::local).filter(|other| other.identity() != room.local().identity())
        {
            soon(room.wait_for(|one| one.identity() == other.identity())).await??;
        }
        assert_eq!(room.participants().len(), COUNT - 1);
    }
    let mut heard: Vec<_> = rooms.iter().map(Room::events).collect();
    for room in &rooms {
        room.publish_data(room.local().identity().into(), DataOptions::default()).await?;
    }
    for (events, room) in heard.iter_mut().zip(&rooms) {
        let mut from = BTreeSet::new();
        while from.len() < COUNT - 1 {
            from.insert(data(events).await?);
        }
        assert!(!from.contains(room.local().identity().as_bytes()), "its own");
    }
    singer.abort();
    Ok(())
}
