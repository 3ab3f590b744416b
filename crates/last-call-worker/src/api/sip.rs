//! Telephone calls: whom a SIP trunk calls into a room, and whom it hands on.
//!
//! Owns the time that a telephone may ring. Refuses trunks and dispatch rules, which are made once and not by a job.

use std::time::Duration;

use super::{Api, ApiError, SIPGrants, VideoGrants, administers, livekit};

/// Longer than livekit-server waits for its SIP service: 30 s, and 80 s for the answer of who is called.
const DIALLED_WITHIN: Duration = Duration::from_secs(32);
const ANSWERED_WITHIN: Duration = Duration::from_secs(82);

const CALL: SIPGrants = SIPGrants { admin: false, call: true };

impl Api {
    /// Calls somebody into a room by a SIP trunk. Returns when the participant is in the room, and rings; with
    /// `wait_until_answered` when the call is answered. It takes at most 32 s, and 82 s to be answered.
    ///
    /// # Errors
    /// As [`ApiError`] says; a trunk that is not there is refused with 404, and a server without a SIP service refuses.
    pub async fn create_sip_participant(
        &self,
        request: &livekit::CreateSipParticipantRequest,
    ) -> Result<livekit::SipParticipantInfo, ApiError> {
        let within = if request.wait_until_answered { ANSWERED_WITHIN } else { DIALLED_WITHIN };
        self.call_within(within, "SIP/CreateSIPParticipant", (VideoGrants::default(), CALL), request).await
    }

    /// Hands a SIP participant on to another number: the trunk must allow it. Returns when the other side has answered,
    /// and takes at most 32 s, or a little longer than the `ringing_timeout`.
    ///
    /// # Errors
    /// As [`ApiError`] says; a participant that is not there is refused with 404.
    pub async fn transfer_sip_participant(
        &self,
        request: &livekit::TransferSipParticipantRequest,
    ) -> Result<livekit::TransferSipParticipantResponse, ApiError> {
        let asked = request.ringing_timeout.as_ref().and_then(|asked| u64::try_from(asked.seconds).ok());
        let within =
            asked.map_or(DIALLED_WITHIN, |seconds| DIALLED_WITHIN.max(Duration::from_secs(seconds + 2)));
        let grants = (administers(&request.room_name), CALL);
        self.call_within(within, "SIP/TransferSIPParticipant", grants, request).await
    }
}
