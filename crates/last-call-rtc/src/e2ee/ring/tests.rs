//! Owns the tests of keys in the ring. Refuses frames.

use super::*;

#[test]
fn a_key_ratchets_a_bounded_number_of_times() {
    let mut slot = Slot::new(1, b"key", b"salt");
    slot.chain.resize(MAX_RATCHETS, slot.chain[0].clone());
    slot.sending = MAX_RATCHETS - 1;
    assert_eq!(slot.ratchet(3, b"salt"), Ok(()));
    assert_eq!(slot.ratchet(3, b"salt"), Err(E2eeError::Spent(3)));
    let options = E2eeOptions::default();
    let search = Search { index: 3, options: &options, trail: &mut Trail::default(), derived: usize::MAX };
    assert_eq!(slot.open(search, |_| None::<()>).err(), Some(E2eeError::Refused(3)));
    assert_eq!(slot.chain.len(), MAX_RATCHETS + 1);
}

#[test]
fn strangers_make_no_more_keys_than_a_window() {
    let mut slot = Slot::new(1, b"key", b"salt");
    let options = E2eeOptions { ratchet_window: 3, ..E2eeOptions::default() };
    let mut trail = Trail::default();
    for known in [2, 3, 4, 4, 4] {
        let search = Search { index: 0, options: &options, trail: &mut trail, derived: 1 };
        assert!(slot.open(search, |_| None::<()>).is_err());
        assert_eq!(slot.chain.len(), known);
    }
}
