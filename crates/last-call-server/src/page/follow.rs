//! One page that is open: what it is told, and how fast.
//!
//! Owns a follower's pace and its bounds. Refuses to wait for one that does not read: it is cut.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::Told;
use crate::event::{Event, since_1970};
use crate::journal::{Batch, Journal};

/// Pages open at once.
pub(super) const FOLLOWERS: usize = 32;
/// Between two messages; an eye takes less for at once.
const EVERY: Duration = Duration::from_millis(50);
/// After everything was told anew, which is more work.
const AFRESH_EVERY: Duration = Duration::from_millis(250);
/// Events in one message.
const AT_ONCE: usize = 500;
/// One answer lasts so long; the page then asks for the next, which takes up where it was. Where nothing happens a page
/// that is gone is not found otherwise.
const STAYS: Duration = Duration::from_secs(5 * 60);
/// The patience with a page that does not read.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// What a page waits before it connects again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Between two signs of life, so that nobody on the way takes the connection for dead.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// The answer to a page that saw the event `last` last, and what fills it: it ends when the page does not read, and
/// after five minutes.
pub(super) fn follow(
    journal: Journal,
    run: Arc<str>,
    last: &str,
) -> (Response, impl Future<Output = ()> + use<>) {
    // A page that knew another run, or none, is told everything.
    let seen = last.strip_prefix(&*run).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
    let (sender, mut receiver) = mpsc::channel::<sse::Event>(1);
    let messages =
        stream::poll_fn(move |context| receiver.poll_recv(context).map(|next| next.map(Ok::<_, Infallible>)));
    let response = Sse::new(messages).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response();
    (response, fill(journal, run, seen.unwrap_or_default(), sender))
}

/// Tells what is new.
async fn fill(journal: Journal, run: Arc<str>, mut seen: u64, sender: mpsc::Sender<sse::Event>) {
    let (mut first, until) = (true, Instant::now() + STAYS);
    while Instant::now() < until {
        let Some(batch) = journal.history().map(|history| history.after(seen)) else { return };
        if first || batch.latest != seen {
            for message in messages(&batch, &run) {
                if !matches!(timeout(READ_WITHIN, sender.send(message)).await, Ok(Ok(()))) {
                    return;
                }
            }
        }
        (first, seen) = (false, batch.latest);
        sleep(if batch.fresh { AFRESH_EVERY } else { EVERY }).await;
    }
}

/// A batch as messages of bearable size, each with the place from which to go on.
fn messages(batch: &Batch, run: &str) -> Vec<sse::Event> {
    let mut pieces: Vec<_> = batch.events.chunks(AT_ONCE).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let count = pieces.len();
    let message = |(index, piece): (usize, &[(u64, Arc<Event>)])| {
        let told = Told {
            fresh: batch.fresh && index == 0,
            now: u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX),
            tally: batch.tally,
            events: piece.iter().map(|(_, event)| &**event).collect(),
        };
        let reached = if index + 1 == count { None } else { piece.last() };
        let reached = reached.map_or(batch.latest, |(number, _)| *number);
        let message = sse::Event::default().retry(AGAIN_AFTER).id(format!("{run}-{reached}"));
        message.data(serde_json::to_string(&told).unwrap_or_default())
    };
    pieces.into_iter().enumerate().map(message).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_quiet_page_has_to_ask_again_and_is_told_nothing_twice() {
        let journal = Journal::new(true);
        let (response, follower) = follow(journal, "run".into(), "");
        let follower = tokio::spawn(follower);
        let told = async {
            let mut body = response.into_body().into_data_stream();
            let mut text = String::new();
            while let Some(Ok(piece)) = body.next().await {
                text.push_str(&String::from_utf8_lossy(&piece));
            }
            text
        };
        let told = timeout(10 * STAYS, told).await.expect("it ends by itself");
        follower.await.expect("its place is free");
        assert_eq!(told.matches("data: ").count(), 1, "{told}");
        assert!(told.contains("retry: 1000"), "{told}");
    }
}
