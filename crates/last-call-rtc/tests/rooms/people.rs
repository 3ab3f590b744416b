//! Who is in the room.

use std::collections::HashMap;

use anyhow::Result;
use last_call_rtc::{DisconnectReason, RoomEvent};
use last_call_testkit::LiveKit;

use super::scene::{MODES, event, join, pair, soon};

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
