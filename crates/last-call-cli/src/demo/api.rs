//! The calls of LiveKit's server API that the demo makes: Twirp over HTTP, with protobuf bodies.
//!
//! Owns their tokens and errors. Refuses to try again: the demo says what was answered.

use std::time::Duration;

use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use last_call_server::Keys;
use last_call_worker::{DialError, Dialler};
use livekit_protocol as livekit;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message;

use super::exchange::{ExchangeError, exchange};
use crate::shown;

/// How long a call's token is good; a clock may be a little off.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);

/// A client of one server. Each call has a connection of its own and takes at most 10 s. All are cancel safe, but the
/// server may do what it was asked all the same.
#[derive(Clone)]
pub(crate) struct Api {
    dialler: Dialler,
    keys: Keys,
}

/// Why a call was of no use. Never shows a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// No answer.
    #[error("{method} got no answer from {server}: {error}; is the server running, and is the URL right?")]
    Unreached { method: &'static str, server: String, error: ExchangeError },
    /// The keys are wrong.
    #[error("{server} refused {method} (HTTP 401 {said:?}); check LIVEKIT_API_KEY and LIVEKIT_API_SECRET")]
    Unauthorized { method: &'static str, server: String, said: String },
    /// Another refusal.
    #[error("{server} refused {method} with HTTP {status} {said:?}")]
    Refused { method: &'static str, server: String, status: u16, said: String },
    /// An answer that is no protobuf of this method.
    #[error("{server} answered {method} with something else; is it a LiveKit server?")]
    Nonsense { method: &'static str, server: String },
    /// Nothing was sent.
    #[error("no token for {method} can be made: {error}")]
    Token { method: &'static str, error: String },
}

impl Api {
    /// A client of the server that `dialler` reaches.
    pub(crate) fn new(dialler: Dialler, keys: Keys) -> Self {
        Self { dialler, keys }
    }

    /// Makes a room, to which every worker without an agent name sends an agent.
    ///
    /// # Errors
    /// As [`ApiError`] says.
    pub(crate) async fn create_room(&self, room: &str) -> Result<(), ApiError> {
        let request = livekit::CreateRoomRequest { name: room.to_owned(), ..Default::default() };
        let created = self.call("RoomService/CreateRoom", room, &request).await;
        created.map(|_: livekit::Room| ())
    }

    /// Asks for an agent in a room, which is made where it is not there; the dispatch's id.
    ///
    /// # Errors
    /// As [`ApiError`] says. That no worker is there is none.
    pub(crate) async fn create_dispatch(
        &self,
        room: &str,
        agent_name: &str,
        metadata: &str,
    ) -> Result<String, ApiError> {
        let request = livekit::CreateAgentDispatchRequest {
            agent_name: agent_name.to_owned(),
            room: room.to_owned(),
            metadata: metadata.to_owned(),
            ..Default::default()
        };
        let dispatch: livekit::AgentDispatch =
            self.call("AgentDispatchService/CreateDispatch", room, &request).await?;
        Ok(dispatch.id)
    }

    /// Ends a dispatch and its jobs.
    ///
    /// # Errors
    /// As [`ApiError`] says; one that is not there is refused with 404.
    pub(crate) async fn delete_dispatch(&self, room: &str, dispatch: &str) -> Result<(), ApiError> {
        let request =
            livekit::DeleteAgentDispatchRequest { dispatch_id: dispatch.to_owned(), room: room.to_owned() };
        let deleted = self.call("AgentDispatchService/DeleteDispatch", room, &request).await;
        deleted.map(|_: livekit::AgentDispatch| ())
    }

    /// Ends a room and its jobs.
    ///
    /// # Errors
    /// As [`ApiError`] says; one that is not there is refused with 404.
    pub(crate) async fn delete_room(&self, room: &str) -> Result<(), ApiError> {
        let request = livekit::DeleteRoomRequest { room: room.to_owned() };
        let deleted = self.call("RoomService/DeleteRoom", room, &request).await;
        deleted.map(|livekit::DeleteRoomResponse {}| ())
    }

    async fn call<R: Message + Default>(
        &self,
        method: &'static str,
        room: &str,
        message: &impl Message,
    ) -> Result<R, ApiError> {
        let server = || self.dialler.endpoint().authority();
        let unreached = |error| ApiError::Unreached { method, server: server(), error };
        let uri = self.dialler.endpoint().at(&format!("/twirp/livekit.{method}"));
        let uri = uri.map_err(|error| unreached(error.into()))?;
        let request = Request::post(uri.path_and_query().map_or("/", |target| target.as_str()))
            .header(AUTHORIZATION, self.bearer(room).map_err(|error| ApiError::Token { method, error })?)
            .header(CONTENT_TYPE, "application/protobuf")
            .body(Full::new(message.encode_to_vec().into()))
            .map_err(|_| unreached(DialError::Uri.into()))?;
        let response = exchange(&self.dialler, &uri, request).await.map_err(unreached)?;
        let said = || shown::line(String::from_utf8_lossy(response.body()).trim());
        match response.status() {
            status if status.is_success() => R::decode(response.body().clone())
                .map_err(|_| ApiError::Nonsense { method, server: server() }),
            StatusCode::UNAUTHORIZED => {
                Err(ApiError::Unauthorized { method, server: server(), said: said() })
            }
            status => {
                Err(ApiError::Refused { method, server: server(), status: status.as_u16(), said: said() })
            }
        }
    }

    fn bearer(&self, room: &str) -> Result<HeaderValue, String> {
        let grants =
            VideoGrants { room_create: true, room_admin: true, room: room.to_owned(), ..Default::default() };
        let token = AccessToken::with_api_key(&self.keys.key, &self.keys.secret)
            .with_ttl(GOOD_FOR)
            .with_grants(grants)
            .to_jwt()
            .map_err(|error| error.to_string())?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "it does not fit a header".to_owned())?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }
}

#[cfg(test)]
mod tests {
    use last_call_server::{Config, Server};
    use last_call_testkit::Stub;
    use last_call_worker::Endpoint;

    use super::*;

    fn keys() -> Keys {
        Keys { key: "key".into(), secret: "secret-secret-secret-secret-secret".into() }
    }

    fn api(url: &str, keys: Keys) -> Api {
        Api::new(Dialler::new(Endpoint::parse(url, false).expect("a URL")), keys)
    }

    fn served() -> String {
        let server = Server::bind(Config::new(([127, 0, 0, 1], 0).into(), keys())).expect("a server");
        let url = server.url();
        tokio::spawn(server.run(std::future::pending()));
        url
    }

    #[tokio::test]
    async fn dispatches_and_rooms_come_and_go() {
        let api = api(&served(), keys());
        let dispatch = api.create_dispatch("lobby", "agent", "about it").await.expect("dispatched");
        assert!(dispatch.starts_with("AD_"), "{dispatch}");
        api.delete_dispatch("lobby", &dispatch).await.expect("deleted");
        api.delete_room("lobby").await.expect("deleted");
        let error = api.delete_room("lobby").await.expect_err("it is gone");
        assert!(matches!(error, ApiError::Refused { status: 404, .. }), "{error}");
    }

    #[tokio::test]
    async fn an_error_says_what_to_do_and_shows_no_token() {
        let wrong = Keys { secret: "another-secret-another-secret-another".into(), ..keys() };
        let stub = Stub::auto().expect("a stub");
        stub.close_port().expect("closed");
        for (url, keys, advice) in [
            (served(), wrong, "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET"),
            (stub.url(), keys(), "is the server running"),
        ] {
            let error = api(&url, keys).create_dispatch("lobby", "agent", "").await.expect_err("refused");
            let text = format!("{error} {error:?}");
            assert!(text.contains(advice) && text.contains(url.trim_start_matches("ws://")), "{text}");
            // Every token begins so.
            assert!(!text.contains("eyJ") && !text.contains("-secret-"), "{text}");
        }
    }
}
