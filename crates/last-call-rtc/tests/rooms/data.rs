//! Data packets, reliable and lossy.

use anyhow::Result;
use last_call_rtc::{DataOptions, RoomEvent};
use last_call_testkit::LiveKit;

use super::scene::{MODES, event, pair};

#[tokio::test]
async fn packets_arrive_once_and_in_order() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    for mode in MODES {
        let (alice, bob) = pair(&server, mode).await?;
        let mut heard = bob.events();
        for index in 0..100_u32 {
            let options = DataOptions { topic: "count".to_owned(), ..DataOptions::default() };
            alice.publish_data(index.to_be_bytes().to_vec(), options).await?;
        }
        for index in 0..100_u32 {
            let (payload, topic, from) = event(&mut heard, |event| match event {
                RoomEvent::DataReceived { payload, topic, participant, .. } => {
                    Some((payload.clone(), topic.clone(), participant.clone()))
                }
                _ => None,
            })
            .await?;
            assert_eq!(payload, index.to_be_bytes(), "{mode:?}");
            assert_eq!(topic.as_deref(), Some("count"));
            assert_eq!(from.as_ref().map(last_call_rtc::Participant::identity), Some("alice"));
        }
    }
    Ok(())
}
