//! Owns what every case needs: a server, participants in a room of its own, and deadlines.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use last_call_rtc::{DataOptions, Events, Room, RoomEvent, RoomOptions};
use last_call_testkit::LiveKit;

/// Generous: a test that waits for longer hangs.
const SOON: Duration = Duration::from_secs(30);

/// Which kind of session a participant has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    /// One peer connection (`/rtc/v1`).
    Single,
    /// Two (`/rtc`).
    Dual,
}

pub(crate) const MODES: [Mode; 2] = [Mode::Single, Mode::Dual];

impl Mode {
    pub(crate) fn options(self) -> RoomOptions {
        RoomOptions { single_peer_connection: self == Self::Single, ..RoomOptions::default() }
    }
}

/// `identity` in `room`.
pub(crate) async fn join(server: &LiveKit, room: &str, identity: &str, options: RoomOptions) -> Result<Room> {
    let token = server.token(room, identity)?;
    let joined = soon(Room::connect(&server.url(), &token, options)).await?;
    joined.with_context(|| format!("{identity} does not get into {room}"))
}

/// Two participants of the same room, who hear each other.
pub(crate) async fn pair(server: &LiveKit, mode: Mode) -> Result<(Room, Room)> {
    let room = format!("pair-{mode:?}-{:x}", fastrand::u32(..));
    let alice = join(server, &room, "alice", mode.options()).await?;
    let bob = join(server, &room, "bob", mode.options()).await?;
    let mut heard = bob.events();
    // The server sends data to who has a channel, which may be a moment after the connection stands.
    let mut last = 0_u8;
    loop {
        last += 1;
        alice.publish_data(vec![last], DataOptions::default()).await?;
        if let Ok(first) = tokio::time::timeout(Duration::from_secs(1), data(&mut heard)).await {
            let mut first = first?;
            while first.as_slice() < [last].as_slice() {
                first = data(&mut heard).await?;
            }
            return Ok((alice, bob));
        }
    }
}

/// Its outcome, which must come soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(SOON, what).await.context("not within half a minute")
}

/// The first event that fits.
pub(crate) async fn event<T>(events: &mut Events, fits: impl Fn(&RoomEvent) -> Option<T>) -> Result<T> {
    soon(async {
        loop {
            let event = events.next().await.context("the room ended")?;
            if let Some(found) = fits(&event) {
                return Ok(found);
            }
        }
    })
    .await?
}

/// The next packet of data.
pub(crate) async fn data(events: &mut Events) -> Result<Vec<u8>> {
    event(events, |event| match event {
        RoomEvent::DataReceived { payload, .. } => Some(payload.clone()),
        _ => None,
    })
    .await
    .context("no data")
}
