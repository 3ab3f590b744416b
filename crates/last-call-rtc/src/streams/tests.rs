//! Streams of one and of many senders, in every cut and every disorder, and everything that keeps one from its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use livekit_protocol::data_stream::header::ContentHeader;
use livekit_protocol::data_stream::{ByteHeader, Chunk, Header, TextHeader, Trailer};
use proptest::prelude::*;

use super::{
    CHUNK, Decoder, Kind, OPEN, OPEN_EACH, Opened, Origin, Piece, StreamError, Streams, UNREAD, UNREAD_EACH,
    pieces,
};

const ALICE: Origin<'_> = Origin { sid: "PA_a", identity: "alice", encrypted: false };
const BOB: Origin<'_> = Origin { sid: "PA_b", identity: "bob", encrypted: false };

fn header(id: &str, size: Option<u64>) -> Header {
    Header {
        stream_id: id.to_owned(),
        topic: "files".to_owned(),
        total_length: size,
        content_header: Some(ContentHeader::ByteHeader(ByteHeader::default())),
        ..Header::default()
    }
}

fn chunk(id: &str, chunk_index: u64, content: &[u8]) -> Chunk {
    Chunk { stream_id: id.to_owned(), chunk_index, content: content.to_vec(), ..Chunk::default() }
}

fn trailer(id: &str, reason: &str) -> Trailer {
    let attributes = HashMap::from([("end".to_owned(), "yes".to_owned())]);
    Trailer { stream_id: id.to_owned(), reason: reason.to_owned(), attributes }
}

fn open(streams: &mut Streams, origin: Origin<'_>, id: &str, size: Option<u64>) -> Option<Opened> {
    streams.open(origin, header(id, size), |_, _| true)
}

/// What the reader has by now: bytes, and how it ended.
fn read(opened: &Opened) -> (Vec<u8>, Option<Result<(), StreamError>>) {
    let mut all = Vec::new();
    loop {
        match opened.tap.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(Piece::Chunk(bytes)) => all.extend(bytes),
            Poll::Ready(Piece::End(_)) => return (all, Some(Ok(()))),
            Poll::Ready(Piece::Failed(error)) => return (all, Some(Err(error))),
            Poll::Pending => return (all, None),
        }
    }
}

fn failed(opened: &Opened) -> Option<StreamError> {
    read(opened).1.and_then(Result::err)
}

proptest! {
    /// However it is cut, and whatever comes twice or from others in between: all of it arrives, in order, once.
    #[test]
    fn what_is_sent_arrives(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        promised in any::<bool>(),
        eager in any::<bool>(),
    ) {
        let content: Vec<u8> = chunks.concat();
        let mut streams = Streams::default();
        let size = promised.then_some(content.len() as u64);
        let opened = open(&mut streams, ALICE, "1", size).expect("opened");
        prop_assert!(open(&mut streams, ALICE, "1", size).is_none(), "opened twice");
        let mut had = Vec::new();
        for (index, bytes) in chunks.iter().enumerate() {
            streams.chunk(BOB, chunk("1", index as u64, b"not mine"));
            streams.chunk(ALICE, chunk("1", index as u64, bytes));
            for again in again.iter().map(|again| again.index(index + 1)) {
                streams.chunk(ALICE, chunk("1", again as u64, b"again"));
            }
            if eager {
                had.extend(read(&opened).0);
            }
        }
        streams.trailer(BOB, trailer("1", "not mine"));
        streams.trailer(ALICE, trailer("1", ""));
        let (rest, end) = read(&opened);
        had.extend(rest);
        prop_assert_eq!(had, content);
        prop_assert_eq!(end, Some(Ok(())));
        prop_assert_eq!(streams.count(), 0);
        drop(opened);
        prop_assert_eq!(streams.budget.held(), 0);
    }

    /// In whatever order the chunks come: a reader gets a beginning of what was sent, and success only for all of it.
    #[test]
    fn what_is_out_of_order_is_never_success(
        order in Just((0..6_u8).collect::<Vec<_>>()).prop_shuffle(),
        lost in 0..=6_usize,
    ) {
        let mut streams = Streams::default();
        let opened = open(&mut streams, ALICE, "1", Some(6)).expect("opened");
        let sent = &order[..lost];
        for index in sent {
            streams.chunk(ALICE, chunk("1", u64::from(*index), &[*index]));
        }
        streams.trailer(ALICE, trailer("1", ""));
        let (bytes, end) = read(&opened);
        let whole: Vec<u8> = (0..6).collect();
        prop_assert!(whole.starts_with(&bytes));
        let sound = sent.iter().copied().eq(0..6);
        prop_assert_eq!(end == Some(Ok(())), sound);
        if !sound {
            let in_order = sent.iter().copied().eq(0..u8::try_from(lost).expect("small"));
            let expected = if in_order {
                StreamError::Incomplete { had: lost as u64, size: 6 }
            } else {
                StreamError::Missed
            };
            prop_assert_eq!(end, Some(Err(expected)));
        }
    }

    /// Whatever anybody sends: nothing is held above the bounds, and nothing once the readers are gone.
    #[test]
    fn nothing_grows(
        acts in prop::collection::vec((0..5_u8, 0..3_usize, 0..4_u8, 0..4_u64, 0..3_000_000_usize), 0..60),
    ) {
        let senders = [ALICE, BOB, Origin { sid: "", identity: "old", encrypted: true }];
        let mut streams = Streams::default();
        let mut readers = Vec::new();
        for (act, who, id, index, size) in acts {
            let (origin, id) = (senders[who], id.to_string());
            match act {
                0 => readers.extend(open(&mut streams, origin, &id, (size % 2 == 0).then_some(size as u64))),
                1 | 2 => streams.chunk(origin, chunk(&id, index, &vec![0; size])),
                3 => streams.trailer(origin, trailer(&id, "")),
                _ => streams.left(origin.sid, origin.identity),
            }
            prop_assert!(streams.budget.held() <= UNREAD);
        }
        streams.interrupted();
        prop_assert!(readers.iter().all(|reader| read(reader).1.is_some()), "a reader that waits for ever");
        readers.clear();
        prop_assert_eq!(streams.budget.held(), 0);
    }

    /// Text is cut between its characters, and put together from any cut.
    #[test]
    fn text_is_cut_and_put_together(text in "(a|é|€|🦀){0,60}", copies in 1..400_usize, cut in 1..7_usize) {
        let text = text.repeat(copies);
        let cuts: Vec<&str> = pieces(&text).collect();
        prop_assert_eq!(cuts.concat(), &*text);
        prop_assert!(cuts.iter().all(|piece| !piece.is_empty() && piece.len() <= CHUNK));
        prop_assert!(cuts.iter().rev().skip(1).all(|piece| piece.len() > CHUNK - 4), "as few as can be");
        let mut decoder = Decoder::default();
        let parts = text.as_bytes().chunks(cut).map(|part| decoder.push(part.to_vec()));
        let whole: Result<String, StreamError> = parts.collect();
        prop_assert_eq!(whole, Ok(text));
        prop_assert!(decoder.is_whole());
    }

    #[test]
    fn what_is_no_text_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..12), cut in 1..5_usize) {
        let mut decoder = Decoder::default();
        let parts = bytes.chunks(cut).map(|part| decoder.push(part.to_vec()));
        let whole: Result<String, StreamError> = parts.collect();
        let text = whole.ok().filter(|_| decoder.is_whole());
        prop_assert_eq!(text, String::from_utf8(bytes).ok());
    }
}

#[test]
fn an_opening_is_told_as_it_is() {
    let mut streams = Streams::default();
    let text = TextHeader {
        reply_to_stream_id: "0".to_owned(),
        attached_stream_ids: vec!["2".to_owned()],
        generated: true,
        ..TextHeader::default()
    };
    let header = Header {
        mime_type: "text/plain".to_owned(),
        timestamp: 7,
        attributes: HashMap::from([("secret".to_owned(), "value".to_owned())]),
        content_header: Some(ContentHeader::TextHeader(text)),
        ..header("1", Some(3))
    };
    let Opened { kind, info, tap: _tap } =
        streams.open(ALICE, header, |kind, topic| (kind, topic) == (Kind::Text, "files")).expect("opened");
    assert_eq!((kind, &*info.id, &*info.topic, &*info.sender), (Kind::Text, "1", "files", "alice"));
    assert_eq!((info.timestamp, &*info.mime_type, info.size), (7, "text/plain", Some(3)));
    assert_eq!((&*info.reply_to, &*info.attached, info.generated), ("0", &["2".to_owned()][..], true));
    assert!(!format!("{info:?}").contains("secret"), "{info:?}");
}

#[test]
fn what_nobody_reads_or_can_is_dropped() {
    let mut streams = Streams::default();
    assert!(streams.open(ALICE, header("1", None), |_, topic| topic == "others").is_none());
    assert!(streams.open(ALICE, header("1", None), |kind, _| kind == Kind::Text).is_none());
    let inline = Header { inline_content: Some(vec![1]), ..header("1", None) };
    let compressed = Header { compression: 1, ..header("1", None) };
    let neither = Header { content_header: None, ..header("1", None) };
    for header in [inline, compressed, neither] {
        assert!(streams.open(ALICE, header, |_, _| true).is_none());
    }
    assert_eq!((streams.count(), streams.budget.held()), (0, 0));
}

#[test]
fn each_end_that_is_no_end_is_said() {
    let secret = Origin { encrypted: true, ..ALICE };
    type Act = fn(&mut Streams);
    let cases: [(Act, StreamError); 9] = [
        (|streams| streams.chunk(ALICE, chunk("1", 0, b"12345")), StreamError::TooLong(4)),
        (|streams| streams.chunk(ALICE, chunk("1", 1, b"1")), StreamError::Missed),
        (|streams| streams.chunk(ALICE, chunk("1", u64::MAX, b"1")), StreamError::Missed),
        (|streams| streams.trailer(ALICE, trailer("1", "error")), StreamError::BrokenOff("error".to_owned())),
        (|streams| streams.trailer(ALICE, trailer("1", "")), StreamError::Incomplete { had: 0, size: 4 }),
        (|streams| streams.left("PA_a", "alice"), StreamError::SenderLeft),
        (|streams| streams.interrupted(), StreamError::Interrupted),
        (|streams| *streams = Streams::default(), StreamError::Closed),
        (
            |streams| {
                streams.trailer(ALICE, trailer("1", ""));
                streams.left("PA_a", "alice");
            },
            StreamError::Incomplete { had: 0, size: 4 },
        ),
    ];
    for (act, error) in cases {
        let mut streams = Streams::default();
        let opened = open(&mut streams, ALICE, "1", Some(4)).expect("opened");
        assert_eq!(failed(&opened), None);
        act(&mut streams);
        assert_eq!(failed(&opened), Some(error));
        assert_eq!(streams.count(), 0);
    }
    for encrypted in [true, false] {
        let (first, second) = if encrypted { (secret, ALICE) } else { (ALICE, secret) };
        let mut streams = Streams::default();
        let opened = open(&mut streams, first, "1", None).expect("opened");
        streams.chunk(second, chunk("1", 0, b"1"));
        assert_eq!(failed(&opened), Some(StreamError::PartlyEncrypted));
        let opened = open(&mut streams, first, "1", None).expect("opened");
        streams.trailer(second, trailer("1", ""));
        assert_eq!(failed(&opened), Some(StreamError::PartlyEncrypted));
    }
}

/// An agent's stream in another's name is the agent's: its chunks, which the server marks with it, and its leaving.
#[test]
fn in_anothers_name() {
    let named = Origin { identity: "caller", ..ALICE };
    let mut streams = Streams::default();
    let opened = open(&mut streams, named, "1", None).expect("opened");
    assert_eq!(opened.info.sender, "caller");
    streams.chunk(ALICE, chunk("1", 0, b"hello"));
    streams.left("PA_c", "caller");
    assert_eq!(read(&opened), (b"hello".to_vec(), None));
    streams.left("PA_a", "alice");
    assert_eq!(failed(&opened), Some(StreamError::SenderLeft));
}

#[test]
fn the_attributes_of_the_end_come_with_it() {
    let mut streams = Streams::default();
    let opened = open(&mut streams, ALICE, "1", None).expect("opened");
    streams.trailer(ALICE, trailer("1", ""));
    let end = opened.tap.poll(&Context::from_waker(Waker::noop()));
    assert_eq!(end, Poll::Ready(Piece::End(trailer("1", "").attributes)));
}

/// A stream that is not read fails, gives back what it held, and leaves the others alone.
#[test]
fn what_is_not_read_fails() {
    let mut streams = Streams::default();
    let (slow, other) =
        (open(&mut streams, ALICE, "1", None), open(&mut streams, ALICE, "2", None).expect("opened"));
    let slow = slow.expect("opened");
    let begin = streams.budget.held();
    let full = (UNREAD_EACH / (CHUNK + 64)) as u64;
    for index in 0..full {
        streams.chunk(ALICE, chunk("1", index, &[0; CHUNK]));
    }
    assert!(streams.budget.held() > UNREAD_EACH - CHUNK);
    streams.chunk(ALICE, chunk("1", full, &[0; CHUNK]));
    assert_eq!(read(&slow), (Vec::new(), Some(Err(StreamError::Unread))));
    assert_eq!(streams.budget.held(), begin);
    streams.chunk(ALICE, chunk("2", 0, b"1"));
    assert_eq!(read(&other), (b"1".to_vec(), None));
}

/// All streams together are bounded too, whole ones that wait for their reader among them.
#[test]
fn all_that_is_not_read_is_bounded() {
    let mut streams = Streams::default();
    let mut readers = Vec::new();
    for id in 0..1_000 {
        let Some(opened) = open(&mut streams, ALICE, &id.to_string(), None) else { break };
        for index in 0..20 {
            streams.chunk(ALICE, chunk(&id.to_string(), index, &[0; CHUNK]));
        }
        streams.trailer(ALICE, trailer(&id.to_string(), ""));
        readers.push(opened);
    }
    assert!(streams.budget.held() > UNREAD - 20 * CHUNK);
    assert!(readers.len() < 1_000, "streams without end");
    drop(readers);
    assert!(open(&mut streams, ALICE, "next", None).is_some());
}

#[test]
fn only_so_many_are_open() {
    let mut streams = Streams::default();
    let mut readers = Vec::new();
    for sender in 0..=OPEN / OPEN_EACH {
        let sid = format!("PA_{sender}");
        let origin = Origin { sid: &sid, ..ALICE };
        let opened = (0..=OPEN_EACH).filter_map(|id| open(&mut streams, origin, &id.to_string(), None));
        let opened: Vec<Opened> = opened.collect();
        assert_eq!(opened.len(), if sender < OPEN / OPEN_EACH { OPEN_EACH } else { 0 });
        readers.extend(opened);
    }
    assert_eq!(streams.count(), OPEN);
    // Those that nobody reads any more make room.
    readers.truncate(OPEN - 1);
    let kept = open(&mut streams, BOB, "1", None);
    assert!(kept.is_some());
    assert!(open(&mut streams, BOB, "2", None).is_none());
}

#[test]
fn a_stream_whose_reader_is_gone_is_gone() {
    let mut streams = Streams::default();
    drop(open(&mut streams, ALICE, "1", None));
    streams.chunk(ALICE, chunk("1", 0, b"1"));
    assert_eq!((streams.count(), streams.budget.held()), (0, 0));
}

#[test]
fn a_reader_that_waits_is_woken() {
    struct Count(std::sync::atomic::AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    type Act = fn(&mut Streams);
    let acts: [Act; 4] = [
        |streams| streams.chunk(ALICE, chunk("1", 0, b"1")),
        |streams| streams.chunk(ALICE, chunk("1", 9, b"1")),
        |streams| streams.trailer(ALICE, trailer("1", "")),
        |streams| *streams = Streams::default(),
    ];
    for act in acts {
        let woken = Arc::new(Count(std::sync::atomic::AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut streams = Streams::default();
        let opened = open(&mut streams, ALICE, "1", None).expect("opened");
        assert_eq!(opened.tap.poll(&Context::from_waker(&waker)), Poll::Pending);
        act(&mut streams);
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(opened.tap.poll(&Context::from_waker(&waker)).is_ready());
    }
}
