//! An engine in conversation with a server, on a clock of its own: hours in a moment.
//!
//! Owns what holds over a whole call, and the traps that rtc.md numbers. Refuses the real server, whose tests lie in
//! `tests/rooms`.

mod fuzz;
mod server;

use std::time::Duration;

use futures_channel::oneshot;
use livekit_protocol::data_packet::Value;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{DataPacket, MediaSectionsRequirement, UserPacket};
use prost::Message as _;

use self::server::Rig;
use super::Command;
use crate::audio::AudioSource;
use crate::e2ee::E2ee;
use crate::error::RoomError;
use crate::event::RoomEvent;
use crate::peer::Label;
use crate::room::{PublishOptions, RoomOptions};

const MINUTE: Duration = Duration::from_secs(60);

/// Sends this on the reliable channel; whether it was taken.
fn send(rig: &mut Rig, payload: Vec<u8>) -> Result<(), RoomError> {
    let (reply, mut taken) = oneshot::channel();
    let value = Value::User(UserPacket { payload, ..UserPacket::default() });
    let packet = Box::new(DataPacket { value: Some(value), ..DataPacket::default() });
    rig.command(Command::Send { packet, reliable: true, reply });
    taken.try_recv().expect("an answer").unwrap_or(Ok(()))
}

/// What the server has had on the reliable channel.
fn had(rig: &mut Rig) -> Vec<Vec<u8>> {
    let payload = |(label, bytes): (Label, Vec<u8>)| {
        assert_eq!(label, Label::Reliable);
        match DataPacket::decode(&*bytes).expect("a packet").value {
            Some(Value::User(user)) => user.payload,
            other => panic!("{other:?}"),
        }
    };
    rig.data.drain(..).map(payload).collect()
}

fn told(rig: &mut Rig) -> Vec<&'static str> {
    let mut told = Vec::new();
    while let Ok(event) = rig.events.try_recv() {
        if !matches!(event, RoomEvent::TokenRefreshed) {
            told.push(event.name());
        }
    }
    told
}

fn sections(audios: u32) -> Response {
    Response::MediaSectionsRequirement(MediaSectionsRequirement { num_audios: audios, num_videos: 0 })
}

/// Three hours, of which the first token is good for one. What the server says of the token is kept, and nothing else comes of
/// it: no resume, no second join, no event but its own.
#[test]
fn a_call_of_three_hours_joins_anew_with_its_newest_token() {
    let mut rig = Rig::joined(RoomOptions::default());
    told(&mut rig);
    send(&mut rig, b"at first".to_vec()).expect("room for it");
    for ten in 1..=18 {
        rig.run(MINUTE * 10);
        rig.say(Response::RefreshToken(format!("token {ten}")));
    }
    send(&mut rig, b"three hours later".to_vec()).expect("room for it");
    rig.run(MINUTE);
    assert_eq!(had(&mut rig), [b"at first".to_vec(), b"three hours later".to_vec()]);
    assert_eq!(rig.tokens, ["first"]);
    assert_eq!((rig.resumes, told(&mut rig)), (0, vec![]));

    rig.forget_session();
    rig.run(MINUTE);
    assert_eq!(rig.tokens, ["first", "token 18"]);
    send(&mut rig, b"in another session".to_vec()).expect("room for it");
    rig.run(MINUTE);
    assert_eq!(had(&mut rig), [b"in another session".to_vec()]);
    let told = told(&mut rig);
    assert_eq!((told.first(), told.last()), (Some(&"Reconnecting"), Some(&"Reconnected")), "{told:?}");
}

/// rtc.md, G1: a server that needs no more sections waits for an offer all the same.
#[test]
fn g1_every_word_of_sections_is_followed_by_an_offer() {
    let mut rig = Rig::joined(RoomOptions::default());
    rig.slow = true;
    for _ in 0..3 {
        rig.say(sections(0));
        assert_eq!(rig.offers.len(), 1);
        assert!(rig.offers[0].sdp.contains("a=recvonly"), "{}", rig.offers[0].sdp);
        rig.answer();
        assert!(rig.offers.is_empty());
    }
}

/// rtc.md, G3: who has no codecs of video is thrown out when another publishes video.
#[test]
fn g3_video_can_be_taken_by_who_never_asked_for_any() {
    let mut rig = Rig::joined(RoomOptions::default());
    rig.slow = true;
    rig.say(Response::MediaSectionsRequirement(MediaSectionsRequirement { num_audios: 0, num_videos: 1 }));
    for codec in ["VP8", "H264", "VP9", "AV1"] {
        assert!(rig.offers[0].sdp.contains(&format!(" {codec}/90000")), "{codec}: {}", rig.offers[0].sdp);
    }
}

/// rtc.md, G9: a server that was told of redundancy, and gets none, hands on nothing. Redundancy and end-to-end encryption
/// do not go together.
#[test]
fn g9_the_server_is_told_of_redundancy_as_it_is_sent() {
    let disabled = |options: RoomOptions| {
        let mut rig = Rig::joined(options);
        let source = AudioSource::new(48_000, 1);
        let (reply, _answer) = oneshot::channel();
        rig.command(Command::PublishAudio { source, options: PublishOptions::default(), reply });
        let asked = |request: &Request| {
            if let Request::AddTrack(asked) = request { Some(asked.disable_red) } else { None }
        };
        rig.asked.iter().find_map(asked).expect("a track is asked for")
    };
    let plain = RoomOptions { red: false, ..RoomOptions::default() };
    let secret = RoomOptions { e2ee: Some(E2ee::shared("secret")), ..RoomOptions::default() };
    assert_eq!([RoomOptions::default(), plain, secret].map(disabled), [false, true, true]);
}

/// rtc.md, G12: there is one offer at a time, and what is wanted meanwhile goes with the next.
#[test]
fn g12_what_is_wanted_while_an_offer_is_under_way_goes_with_the_next() {
    let mut rig = Rig::joined(RoomOptions::default());
    rig.slow = true;
    rig.say(sections(1));
    for _ in 0..5 {
        rig.say(sections(1));
    }
    assert_eq!(rig.offers.len(), 1);
    let first = rig.offers[0].sdp.matches("m=audio").count();
    rig.answer();
    assert_eq!(rig.offers.len(), 1, "one for all five");
    assert_eq!(rig.offers[0].sdp.matches("m=audio").count(), first + 5);
    // An answer that comes again is none.
    let mut stale = rig.offers[0].clone();
    stale.id = stale.id.wrapping_sub(1);
    rig.say(Response::Answer(stale));
    rig.answer();
    assert!(rig.offers.is_empty());
}

/// rtc.md, G13: a channel that is full takes nothing, and says so to nobody who does not ask.
#[test]
fn g13_what_a_full_channel_does_not_take_leaves_later_and_in_order() {
    let mut rig = Rig::joined(RoomOptions::default());
    let packet = |number: u8| vec![number; 50_000];
    for number in 0..100 {
        send(&mut rig, packet(number)).expect("room for it");
    }
    rig.run(MINUTE);
    assert!(had(&mut rig).into_iter().eq((0..100).map(packet)), "some is lost, or out of order");
}
