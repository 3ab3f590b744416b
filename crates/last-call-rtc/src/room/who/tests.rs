//! Every kind against every wish.

use std::sync::Arc;

use super::*;
use crate::event::Known;

const KINDS: [ParticipantKind; 7] = [
    ParticipantKind::Standard,
    ParticipantKind::Ingress,
    ParticipantKind::Egress,
    ParticipantKind::Sip,
    ParticipantKind::Agent,
    ParticipantKind::Connector,
    ParticipantKind::Unknown,
];

fn participant(identity: &str, kind: ParticipantKind) -> Participant {
    Participant(Arc::new(Known { identity: identity.to_owned(), kind, ..Known::default() }))
}

#[test]
fn callers_are_meant_and_nobody_else() {
    for kind in KINDS {
        let caller =
            matches!(kind, ParticipantKind::Standard | ParticipantKind::Sip | ParticipantKind::Connector);
        assert_eq!(Who::default().fits(&participant("ann", kind)), caller, "{kind:?}");
        assert_eq!(Who::identity("ann").fits(&participant("ann", kind)), caller, "{kind:?}");
        assert!(!Who::identity("bob").fits(&participant("ann", kind)), "{kind:?}");
        let of_that_kind = Who { kinds: vec![kind], ..Who::default() };
        for other in KINDS {
            assert_eq!(of_that_kind.fits(&participant("ann", other)), kind == other, "{kind:?} {other:?}");
        }
    }
}
