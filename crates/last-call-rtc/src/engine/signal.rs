//! Owns what each message of the server's means. Refuses to read a token, or what a message says of media.

use livekit_protocol::leave_request::Action;
use livekit_protocol::request_response::{Reason, Request as Asked};
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{JoinResponse, LeaveRequest, RequestResponse};

use super::{Due, Engine, answer};
use crate::error::RoomError;
use crate::event::RoomEvent;
use crate::session::Session;

impl Engine {
    pub(super) fn on_joined(&mut self, join: &JoinResponse, single: bool) {
        if self.session.is_single() != single {
            // An older server, which has no single connection: the offer that went with the join is nothing to it.
            self.dial.single = single;
            self.session = Session::new(self.now, self.options.red, single);
            self.due.push_front(Due::Bind);
            self.unoffered = true;
        }
        if self.people.local().is_some() {
            self.people.rejoined(join);
        } else {
            self.people.joined(join);
        }
        self.routes.set_relays(&join.ice_servers);
        self.routes.begin(self.now, self.session.peers());
        self.trailer = join.sif_trailer.clone().into();
        self.data.joined();
        self.streams_interrupted();
        if !self.unoffered {
            self.session.negotiate();
        }
    }

    /// The sockets are there, and with them the candidates of an offer.
    pub(super) fn on_bound(&mut self) {
        if std::mem::take(&mut self.unoffered) {
            self.session.negotiate();
        }
    }

    pub(super) fn on_signal(&mut self, message: Response) {
        match message {
            Response::Answer(answer) => self.session.on_answer(&answer),
            Response::Offer(offer) => self.session.on_offer(&offer),
            Response::Trickle(trickle) => self.session.on_trickle(&trickle),
            Response::MediaSectionsRequirement(wanted) => self.session.on_sections(wanted),
            Response::Update(update) => {
                self.people.update(&update);
                self.see_asked();
            }
            Response::SpeakersChanged(speakers) => self.people.speakers(&speakers),
            Response::ConnectionQuality(quality) => self.people.quality(&quality),
            Response::RoomUpdate(update) => self.people.room_update(&update),
            Response::SubscriptionResponse(response) => self.people.subscription_response(&response),
            Response::TrackUnpublished(gone) => {
                self.take_track(&gone.track_sid);
            }
            Response::TrackPublished(published) => self.on_track_published(published),
            Response::TrackSubscribed(track) => self.people.local_track_subscribed(&track.track_sid),
            Response::Mute(mute) => self.on_mute(&mute),
            Response::RoomMoved(moved) => {
                if !moved.token.is_empty() {
                    self.dial.token.clone_from(&moved.token);
                }
                self.people.moved(&moved);
            }
            Response::RefreshToken(token) => {
                // A call older than its first token reconnects with this one.
                self.dial.token = token;
                self.shared.tell(&RoomEvent::TokenRefreshed);
            }
            Response::RequestResponse(response) => self.on_request_response(&response),
            Response::Leave(leave) => self.on_leave(&leave),
            // Said for video that is published in layers, for data tracks, and to the signalling itself.
            Response::StreamStateUpdate(_)
            | Response::SubscribedQualityUpdate(_)
            | Response::SubscribedAudioCodecUpdate(_)
            | Response::PublishDataTrackResponse(_)
            | Response::UnpublishDataTrackResponse(_)
            | Response::DataTrackSubscriberHandles(_)
            | Response::StoreDataBlobResponse(_)
            | Response::GetDataBlobResponse(_)
            | Response::Pong(_)
            | Response::PongResp(_)
            | Response::Join(_)
            | Response::SubscriptionPermissionUpdate(_)
            | Response::Reconnect(_) => {}
        }
    }

    /// What the server says to a request that it was asked with a number.
    fn on_request_response(&mut self, response: &RequestResponse) {
        let refused = match response.reason() {
            // It does it, or will.
            Reason::Ok | Reason::Queued => None,
            Reason::NotFound
            | Reason::NotAllowed
            | Reason::LimitExceeded
            | Reason::UnsupportedType
            | Reason::UnclassifiedError
            | Reason::InvalidHandle
            | Reason::InvalidName
            | Reason::DuplicateHandle
            | Reason::DuplicateName
            | Reason::InvalidRequest => Some(RoomError::Refused(match response.message.as_str() {
                "" => response.reason().as_str_name().to_owned(),
                message => message.to_owned(),
            })),
        };
        if let (Some(error), Some(Asked::AddTrack(asked))) = (&refused, &response.request) {
            self.media.refused(&asked.cid, error);
        }
        if let Some(reply) = self.data.answered(response.request_id) {
            answer(reply, refused.map_or(Ok(()), Err));
        }
    }

    pub(super) fn goodbye(&mut self) {
        self.signal(Request::Leave(LeaveRequest {
            reason: livekit_protocol::DisconnectReason::ClientInitiated as i32,
            action: Action::Disconnect as i32,
            ..LeaveRequest::default()
        }));
        self.session.close();
    }
}
