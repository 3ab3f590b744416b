//! What this module promises, and that livekit-client understands it.
//!
//! The vectors are what livekit-client 2.23.0 itself made, under Node 20: its `dist/livekit-client.e2ee.worker.mjs` was
//! given the passphrase "last call" at index 5 (PBKDF2, default options) and one frame of each kind through
//! `encode`, SSRC 0x01020304, timestamp 960; the ratcheted ones after one and two `ratchetRequest`; the packet through
//! `encryptDataRequest`. Only the IVs are its own choice.

use super::frame::{Decrypted, Origin};
use bytes::Bytes;
use livekit_protocol as proto;
use proptest::prelude::*;
use proto::data_packet::Value;

use super::*;

const OPUS: &str = "7890a1b2c3d4e5f6";
const SEALED_OPUS: &str = "78e44940e70651e8311ceda2b50a37a6e6c985eaba353ba701020304000003c0ffff7e3a0c05";
const OPUS_RATCHETED_ONCE: &str =
    "78790804aba5c45e71170868b58c807ac02297864b508ac901020304000003c0ffff2daf0c05";
const OPUS_RATCHETED_TWICE: &str =
    "78f7c55aa58cd976e317d1f04c72ede696583df31020f2e501020304000003c0ffff0f930c05";
const KEY_FRAME: &str = "1002009d012a08000800004708858588";
const SEALED_KEY_FRAME: &str =
    "1002009d012a0800080086e7203f03f1f0965b7752cd6c4e0933a06b10f8b2e401020304000003c0ffff66060c05";
const DELTA_FRAME: &str = "11020009d0";
const SEALED_DELTA_FRAME: &str = "11020031e986689d61cc51dd811c294a36a66a6bc701020304000003c0ffff11720c05";
const DATA_IV: &str = "b56955190000052700000527";
const SEALED_DATA: &str = "bfe48212fc3f9f133a80fe7f64b7f6355c2561ab45958e43c4";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn keys() -> E2ee {
    keyed(E2eeOptions::default())
}

fn keyed(options: E2eeOptions) -> E2ee {
    let keys = E2ee::new(options);
    keys.set_shared_key(5, "last call").expect("within the ring");
    keys
}

fn ears(keys: &E2ee, media: Media) -> FrameDecryptor {
    FrameDecryptor::new(keys.clone(), "you", media, Bytes::from_static(b"trail"))
}

fn mouth(keys: &E2ee, media: Media) -> FrameEncryptor {
    FrameEncryptor::new(keys.clone(), "me", media, 0x0102_0304, 9)
}

fn data() -> Value {
    Value::User(proto::UserPacket { payload: b"order".to_vec(), ..Default::default() })
}

fn sealed_data() -> proto::EncryptedPacket {
    proto::EncryptedPacket {
        encryption_type: proto::encryption::Type::Gcm.into(),
        iv: bytes(DATA_IV),
        key_index: 5,
        encrypted_value: bytes(SEALED_DATA),
    }
}

#[test]
fn frames_of_the_browsers_sdk_open() {
    let keys = keys();
    for (media, sealed, plain) in [
        (Media::Audio, SEALED_OPUS, OPUS),
        (Media::Vp8, SEALED_KEY_FRAME, KEY_FRAME),
        (Media::Vp8, SEALED_DELTA_FRAME, DELTA_FRAME),
    ] {
        let opened = ears(&keys, media).decrypt(&bytes(sealed));
        let origin = Origin::Sender { index: 5, ratcheted: false };
        assert_eq!(opened, Ok(Decrypted { frame: bytes(plain), origin }));
    }
}

#[test]
fn frames_are_sealed_as_the_browsers_sdk_seals_them() {
    let keys = keys();
    for (media, sealed, plain) in [
        (Media::Audio, SEALED_OPUS, OPUS),
        (Media::Vp8, SEALED_KEY_FRAME, KEY_FRAME),
        (Media::Vp8, SEALED_DELTA_FRAME, DELTA_FRAME),
    ] {
        let sealed = bytes(sealed);
        // The last word of the IV is the timestamp less the count: it tells the count the SDK started with.
        let word = sealed[sealed.len() - 6..sealed.len() - 2].try_into().expect("four bytes");
        let first =
            u16::try_from(960_u32.wrapping_sub(u32::from_be_bytes(word))).expect("a count below 65,535");
        let mut mouth = FrameEncryptor::new(keys.clone(), "me", media, 0x0102_0304, first);
        assert_eq!(mouth.encrypt(960, &bytes(plain)), Ok(sealed));
    }
}

#[test]
fn a_packet_of_the_browsers_sdk_opens_and_is_sealed_alike() {
    let keys = keys();
    assert_eq!(keys.decrypt_data("you", &sealed_data()), Ok(data()));
    let iv = bytes(DATA_IV).try_into().expect("twelve bytes");
    assert_eq!(keys.encrypt_data("me", data(), iv), Ok(Value::EncryptedPacket(sealed_data())));
}

#[test]
fn a_sender_who_ratchets_is_followed() {
    let mut ears = ears(&keys(), Media::Audio);
    assert_eq!(ears.decrypt(&bytes(SEALED_OPUS)).map(|opened| opened.frame), Ok(bytes(OPUS)));
    // One key is derived for each frame: the second is there with the second frame.
    assert_eq!(ears.decrypt(&bytes(OPUS_RATCHETED_TWICE)), Err(E2eeError::Refused(5)));
    let opened = ears.decrypt(&bytes(OPUS_RATCHETED_TWICE));
    assert_eq!(
        opened,
        Ok(Decrypted { frame: bytes(OPUS), origin: Origin::Sender { index: 5, ratcheted: true } })
    );
    let late = ears.decrypt(&bytes(OPUS_RATCHETED_ONCE));
    assert_eq!(
        late,
        Ok(Decrypted { frame: bytes(OPUS), origin: Origin::Sender { index: 5, ratcheted: false } })
    );
}

#[test]
fn nobody_is_looked_for_past_the_window() {
    for (ratchet_window, expected) in [(0, false), (1, false), (2, true)] {
        let mut ears = ears(&keyed(E2eeOptions { ratchet_window, ..E2eeOptions::default() }), Media::Audio);
        let opened = (0..4).any(|_| ears.decrypt(&bytes(OPUS_RATCHETED_TWICE)).is_ok());
        assert_eq!(opened, expected, "a window of {ratchet_window}");
    }
}

#[test]
fn who_ratchets_here_is_heard_there_and_hears_who_did_not() {
    let (here, there) = (keys(), keys());
    here.ratchet_shared_key(5).expect("a key is set");
    let sealed = mouth(&here, Media::Audio).encrypt(960, &bytes(OPUS)).expect("a key is set");
    assert!(ears(&there, Media::Audio).decrypt(&sealed).is_ok());
    assert_eq!(ears(&keyed_unratcheting(), Media::Audio).decrypt(&sealed), Err(E2eeError::Refused(5)));
    assert!(ears(&here, Media::Audio).decrypt(&bytes(SEALED_OPUS)).is_ok());
    assert_eq!(here.ratchet_shared_key(6), Err(E2eeError::NoKey(6)));
    assert_eq!(here.ratchet_key("me", 5), Err(E2eeError::NoKey(5)));
}

fn keyed_unratcheting() -> E2ee {
    keyed(E2eeOptions { ratchet_window: 0, ..E2eeOptions::default() })
}

#[test]
fn a_packet_is_looked_for_through_the_whole_window_at_once() {
    let (here, there) = (keys(), keys());
    for _ in 0..3 {
        here.ratchet_shared_key(5).expect("a key is set");
    }
    let Ok(Value::EncryptedPacket(packet)) = here.encrypt_data("me", data(), [1; 12]) else {
        panic!("user data is encrypted");
    };
    assert_eq!(there.decrypt_data("me", &packet), Ok(data()));
}

#[test]
fn a_changed_byte_anywhere_is_seen() {
    let keys = keyed_unratcheting();
    for (media, sealed) in [(Media::Audio, SEALED_OPUS), (Media::Vp8, SEALED_KEY_FRAME)] {
        let sealed = bytes(sealed);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x40;
            assert!(ears(&keys, media).decrypt(&changed).is_err(), "byte {at} of {media:?}");
        }
    }
    for at in 0..bytes(SEALED_DATA).len() {
        let mut packet = sealed_data();
        packet.encrypted_value[at] ^= 1;
        assert_eq!(keys.decrypt_data("you", &packet), Err(E2eeError::Refused(5)));
    }
}

#[test]
fn without_the_right_key_nothing_opens() {
    let other = E2ee::new(E2eeOptions { ratchet_window: 0, ..E2eeOptions::default() });
    let mut ears = ears(&other, Media::Audio);
    assert_eq!(ears.decrypt(&bytes(SEALED_OPUS)), Err(E2eeError::NoKey(5)));
    other.set_shared_key(5, "another").expect("within the ring");
    assert_eq!(ears.decrypt(&bytes(SEALED_OPUS)), Err(E2eeError::Refused(5)));
    other.set_shared_key(5, "last call").expect("within the ring");
    assert!(ears.decrypt(&bytes(SEALED_OPUS)).is_ok(), "a key set later is used at once");
}

#[test]
fn an_index_past_the_ring_is_refused() {
    let keys = keys();
    let mut frame = bytes(SEALED_OPUS);
    *frame.last_mut().expect("not empty") = 16;
    assert_eq!(ears(&keys, Media::Audio).decrypt(&frame), Err(E2eeError::Index(16)));
    let packet = proto::EncryptedPacket { key_index: 261, ..sealed_data() };
    assert_eq!(keys.decrypt_data("you", &packet), Err(E2eeError::Index(261)));
    assert_eq!(keys.set_shared_key(16, "key"), Err(E2eeError::Index(16)));
    assert_eq!(keys.set_key("you", 255, "key"), Err(E2eeError::Index(255)));
    assert_eq!(keys.ratchet_shared_key(16), Err(E2eeError::Index(16)));
}

#[test]
fn a_participants_own_key_goes_before_that_of_all() {
    let keys = keyed_unratcheting();
    keys.set_key("me", 2, "my own").expect("within the ring");
    let sealed = mouth(&keys, Media::Audio).encrypt(960, &bytes(OPUS)).expect("a key is set");
    assert_eq!(sealed.last(), Some(&2));
    assert_eq!(
        ears(&keys, Media::Audio).decrypt(&sealed),
        Err(E2eeError::NoKey(2)),
        "it is not you who sends it"
    );
    let mut mine = FrameDecryptor::new(keys.clone(), "me", Media::Audio, Bytes::new());
    assert!(mine.decrypt(&sealed).is_ok());
    keys.remove_keys("me");
    let sealed = mouth(&keys, Media::Audio).encrypt(960, &bytes(OPUS)).expect("a key is set");
    assert_eq!(sealed.last(), Some(&5));
}

#[test]
fn nothing_leaves_in_the_clear_for_want_of_a_key() {
    let keys = E2ee::new(E2eeOptions::default());
    assert_eq!(mouth(&keys, Media::Audio).encrypt(960, &bytes(OPUS)), Err(E2eeError::NoKey(0)));
    assert_eq!(keys.encrypt_data("me", data(), [0; 12]), Err(E2eeError::NoKey(0)));
}

#[test]
fn a_key_that_keeps_failing_is_given_up_until_it_is_set_again() {
    let keys = keyed(E2eeOptions { ratchet_window: 0, failure_tolerance: Some(2), ..E2eeOptions::default() });
    let mut ears = ears(&keys, Media::Audio);
    let mut wrong = bytes(SEALED_OPUS);
    wrong[1] ^= 1;
    for _ in 0..2 {
        assert_eq!(ears.decrypt(&wrong), Err(E2eeError::Refused(5)));
    }
    assert!(ears.decrypt(&bytes(SEALED_OPUS)).is_ok(), "a success starts the count anew");
    for _ in 0..3 {
        assert_eq!(ears.decrypt(&wrong), Err(E2eeError::Refused(5)));
    }
    assert_eq!(ears.decrypt(&bytes(SEALED_OPUS)), Err(E2eeError::GivenUp(5)));
    keys.set_shared_key(5, "last call").expect("within the ring");
    assert!(ears.decrypt(&bytes(SEALED_OPUS)).is_ok());
}

#[test]
fn a_servers_blank_frame_passes_in_the_clear_and_nothing_else_does() {
    let keys = E2ee::new(E2eeOptions::default());
    let silence = [&[0xf8, 0xff, 0xfe][..], &[0; 77]].concat();
    let picture =
        bytes("1002009d012a080008000047088585888584880202 000c0d6000feffab5080".replace(' ', "").as_str());
    for (media, blank) in [(Media::Audio, silence), (Media::Vp8, picture)] {
        let mut ears = ears(&keys, media);
        let injected = [blank.as_slice(), b"trail"].concat();
        assert_eq!(ears.decrypt(&injected), Ok(Decrypted { frame: blank.clone(), origin: Origin::Server }));
        let longer = [blank.as_slice(), &[0], b"trail"].concat();
        assert_eq!(ears.decrypt(&longer), Err(E2eeError::Injected));
        assert_eq!(ears.decrypt(b"anything at all, and the trail"), Err(E2eeError::Injected));
        assert_eq!(ears.decrypt(b"trail"), Err(E2eeError::Injected));
        let mut untold = FrameDecryptor::new(keys.clone(), "you", media, Bytes::new());
        assert_eq!(
            untold.decrypt(&injected),
            Err(E2eeError::Malformed),
            "a server that told no trailer sends none"
        );
    }
}

#[test]
fn what_has_no_encrypted_form_stays_as_it_is() {
    let dtmf = Value::SipDtmf(proto::SipDtmf { code: 1, digit: "1".into() });
    assert_eq!(keys().encrypt_data("me", dtmf.clone(), [0; 12]), Ok(dtmf));
    let sealed = Value::EncryptedPacket(sealed_data());
    assert_eq!(keys().encrypt_data("me", sealed.clone(), [0; 12]), Ok(sealed));
}

#[test]
fn an_iv_never_comes_twice_even_at_one_timestamp() {
    let keys = keys();
    let mut mouth = mouth(&keys, Media::Audio);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        let sealed = mouth.encrypt(960, &[0x78, 1]).expect("a key is set");
        assert!(seen.insert(sealed[sealed.len() - 14..sealed.len() - 2].to_vec()));
    }
}

#[test]
fn no_key_is_shown() {
    let keys = E2ee::shared("last call");
    let shown = format!("{keys:?} {:?} {:?}", mouth(&keys, Media::Audio), ears(&keys, Media::Audio));
    assert!(
        !shown.contains("last call") && !shown.contains("chain") && !shown.contains("material"),
        "{shown}"
    );
}

#[test]
fn whatever_arrives_is_answered_and_whatever_is_sent_comes_back() {
    let keys = keyed_unratcheting();
    let frame = || proptest::collection::vec(any::<u8>(), 0..200);
    // Half of them with a trailer of the right shape, which get further.
    let arrival = (frame(), prop_oneof![Just(Vec::new()), (0..20_u8).prop_map(|index| vec![12, index])]);
    let media = || prop_oneof![Just(Media::Audio), Just(Media::Vp8)];
    proptest!(|((frame, end) in arrival, media in media(), iv in frame(), key_index: u32)| {
        let frame = [frame, end].concat();
        let opened = ears(&keys, media).decrypt(&frame);
        prop_assert_eq!(opened.is_ok(), frame.is_empty());
        let packet = proto::EncryptedPacket { encryption_type: 1, iv, key_index, encrypted_value: frame };
        prop_assert!(keys.decrypt_data("you", &packet).is_err());
    });
    proptest!(|(frame in frame(), media in media(), timestamp: u32)| {
        match mouth(&keys, media).encrypt(timestamp, &frame) {
            Ok(sealed) => {
                prop_assert_eq!(sealed.len(), if frame.is_empty() { 0 } else { frame.len() + 30 });
                let opened = ears(&keys, media).decrypt(&sealed).map(|opened| opened.frame);
                prop_assert_eq!(opened, Ok(frame));
            }
            Err(error) => prop_assert!(media == Media::Vp8 && frame.len() < 10 && error == E2eeError::Malformed),
        }
    });
}
