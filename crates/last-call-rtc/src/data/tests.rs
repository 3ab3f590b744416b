//! The numbers of reliable packets: what is sent again, what is dropped, and how much is kept.

use proptest::prelude::*;

use super::*;

fn packet(sender: &str, sequence: u32) -> DataPacket {
    DataPacket { participant_sid: sender.to_owned(), sequence, ..DataPacket::default() }
}

/// The next packet leaves.
fn send(outbox: &mut Outbox, packet: &mut DataPacket) -> Bytes {
    let message = outbox.stamp(packet);
    outbox.sent(message.clone());
    message
}

fn number(message: &Bytes) -> u32 {
    DataPacket::decode(message.clone()).expect("a packet").sequence
}

fn replayed(outbox: &mut Outbox, last: u32) -> Vec<u32> {
    outbox.replay(last).map(number).collect()
}

#[test]
fn numbers_begin_at_one_and_are_in_the_message() {
    let mut outbox = Outbox::default();
    for expected in 1..=3 {
        let mut packet = packet("", 0);
        assert_eq!(number(&outbox.stamp(&mut packet)), expected, "what does not leave uses no number up");
        let message = send(&mut outbox, &mut packet);
        assert_eq!((packet.sequence, number(&message)), (expected, expected));
    }
}

#[test]
fn what_the_server_has_not_had_is_sent_again_in_order_and_more_than_once() {
    let mut outbox = Outbox::default();
    (0..5).for_each(|_| drop(send(&mut outbox, &mut packet("", 0))));
    assert_eq!(replayed(&mut outbox, 2), [3, 4, 5]);
    assert_eq!(replayed(&mut outbox, 2), [3, 4, 5], "the resume may fail after it was said");
    assert_eq!(replayed(&mut outbox, 5), [0; 0]);
    assert_eq!(outbox.bytes, 0);
}

#[test]
fn no_more_is_kept_than_the_bound_and_the_newest_stay() {
    let mut outbox = Outbox::default();
    let big = "x".repeat(KEPT / 4);
    (0..10).for_each(|_| drop(send(&mut outbox, &mut packet(&big, 0))));
    let kept: usize = outbox.kept.iter().map(|(_, message)| message.len()).sum();
    assert_eq!(outbox.bytes, kept);
    assert!(kept <= KEPT);
    assert_eq!(replayed(&mut outbox, 0), [8, 9, 10]);
}

#[test]
fn what_comes_again_is_dropped_by_sender() {
    let mut inbox = Inbox::default();
    assert!(inbox.take(&packet("PA_a", 5)));
    assert!(!inbox.take(&packet("PA_a", 5)));
    assert!(!inbox.take(&packet("PA_a", 4)));
    assert!(inbox.take(&packet("PA_b", 4)), "another sender counts for itself");
    assert!(inbox.take(&packet("PA_a", 6)));
    let states =
        inbox.states().into_iter().map(|state| (state.publisher_sid, state.last_seq)).collect::<Vec<_>>();
    assert_eq!(states, [("PA_a".to_owned(), 6), ("PA_b".to_owned(), 4)]);
}

#[test]
fn senders_without_numbers_are_always_heard_and_not_kept() {
    let mut inbox = Inbox::default();
    for _ in 0..2 {
        assert!(inbox.take(&packet("PA_a", 0)));
        assert!(inbox.take(&packet("", 7)));
    }
    assert_eq!(inbox.states(), []);
}

#[test]
fn senders_beyond_the_bound_are_heard_and_not_kept() {
    let mut inbox = Inbox::default();
    assert!((0..=SENDERS).all(|sender| inbox.take(&packet(&format!("PA_{sender}"), 1))));
    assert_eq!(inbox.states().len(), SENDERS);
    assert!(!inbox.take(&packet("PA_0", 1)));
}

proptest! {
    #[test]
    fn a_sender_s_numbers_only_rise(numbers in proptest::collection::vec((0_u8..3, 1_u32..20), 0..60)) {
        let mut inbox = Inbox::default();
        let mut highest = BTreeMap::<String, u32>::new();
        for (sender, number) in numbers {
            let sender = format!("PA_{sender}");
            let known = highest.entry(sender.clone()).or_default();
            prop_assert_eq!(inbox.take(&packet(&sender, number)), number > *known);
            *known = number.max(*known);
        }
        let states = inbox.states().into_iter().map(|state| (state.publisher_sid, state.last_seq));
        prop_assert_eq!(states.collect::<BTreeMap<_, _>>(), highest);
    }
}
