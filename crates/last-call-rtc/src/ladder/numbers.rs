//! The ladder's numbers, and where they come from. Refuses state: each is a constant or a function of its arguments.

use std::time::Duration;

/// All attempts after a loss, or of the first connect, end after this. rust-sdks tries ten times, five seconds apart
/// (50 s and what the attempts take); client-sdk-js waits 57 s between its ten, half more or less by the dice. A minute
/// is no shorter, and outlives both half a minute without network and the 20 s (`departure_timeout`) that a server
/// keeps who is lost.
pub(crate) const BUDGET: Duration = Duration::from_secs(60);

/// The longest wait for `JoinResponse` or `ReconnectResponse`: livekit-signaling gives the socket 5 s and the answer 5.
pub(crate) const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// The longest wait for ICE and DTLS: 15 s in rust-sdks and in client-sdk-js.
pub(crate) const MEDIA_LIMIT: Duration = Duration::from_secs(15);

/// How long signalling that stands may take to say why media does not: both come from the same server, over two
/// sockets.
pub(crate) const DOUBT: Duration = Duration::from_millis(500);

/// A connection that stood this long is steady: after its loss the first attempt is made at once again.
pub(crate) const STEADY: Duration = Duration::from_secs(10);

/// So many times signalling answers and media does not come, then the session is held to be lost: with
/// [`MEDIA_LIMIT`] that is 45 s, which leaves a new session time within [`BUDGET`].
pub(crate) const MUTE_TRIES: u8 = 3;

/// Attempts beyond this are counted as this one: the back-off has reached [`LONGEST_BACKOFF`].
pub(crate) const ATTEMPT_TOP: u8 = 5;

/// client-sdk-js waits 7 s, rust-sdks 5: the shorter one finds a network that is back sooner.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Times the square of the attempt: three attempts fall into the first 2 s, in which a blip or a restart ends.
const BACKOFF_UNIT: Duration = Duration::from_millis(300);

/// The wait before this attempt (0 for the first), lengthened by up to a quarter: when a server restarts, its clients
/// come back scattered. `roll` is uniform over all of `u32`.
pub(crate) fn backoff(attempt: u8, roll: u32) -> Duration {
    let nominal = (BACKOFF_UNIT * u32::from(attempt) * u32::from(attempt)).min(LONGEST_BACKOFF);
    let quarter = u64::try_from(nominal.as_millis() / 4).unwrap_or(0);
    nominal + Duration::from_millis((quarter * u64::from(roll)) >> 32)
}
