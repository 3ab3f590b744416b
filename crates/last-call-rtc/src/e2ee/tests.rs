use bytes::Bytes;

use super::*;

#[test]
fn a_frame_comes_back_as_it_was() {
    let keys = E2ee::shared("passphrase");
    let mut out = FrameEncryptor::new(keys.clone(), "me", Media::Audio, 7, 3);
    let mut back = FrameDecryptor::new(keys, "me", Media::Audio, Bytes::new());
    let sealed = out.encrypt(960, b"frame").expect("a key is set");
    assert_eq!(sealed.len(), 5 + 30);
    assert_eq!(back.decrypt(&sealed).expect("the same key").frame, b"frame");
}
