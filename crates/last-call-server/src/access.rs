//! Tokens: whose are let in, for what, and the ones that agents join rooms with.
//!
//! Owns the grants as livekit-server reads them. Refuses to say why a token is bad, and to show one.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use livekit_protocol as livekit;
use livekit_token::{AccessToken, AccessTokenError, TokenVerifier, VideoGrants};
use url::form_urlencoded;

use crate::config::Keys;

/// How long an assignment's token opens the room.
const JOIN_FOR: Duration = Duration::from_secs(60 * 60);
/// The attribute by which livekit-server marks an agent.
const AGENT_NAME: &str = "lk.agent_name";

/// A token that nobody here signed, that is too old, or that is none.
#[derive(Debug)]
pub(crate) struct BadToken;

/// What a caller may do. Nobody in particular may do nothing.
#[derive(Debug, Default)]
pub(crate) struct Grants(VideoGrants);

impl Grants {
    /// Reads a request's token, of its header or of its query.
    pub(crate) fn of(request: &Parts, keys: &Keys) -> Result<Self, BadToken> {
        let token = match request.headers.get(AUTHORIZATION) {
            Some(value) => {
                let value = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
                value.ok_or(BadToken)?.to_owned()
            }
            None => {
                let query = request.uri.query().unwrap_or_default();
                let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "access_token");
                let Some((_, token)) = named else { return Ok(Self::default()) };
                token.into_owned()
            }
        };
        let claims = TokenVerifier::with_api_key(&keys.key, &keys.secret).verify(&token);
        claims.map(|claims| Self(claims.video)).map_err(|_| BadToken)
    }

    /// May register workers.
    pub(crate) fn agent(&self) -> bool {
        self.0.agent
    }

    /// May create and delete rooms.
    pub(crate) fn create(&self) -> bool {
        self.0.room_create
    }

    /// May see which rooms there are.
    pub(crate) fn list(&self) -> bool {
        self.0.room_list
    }

    /// May do everything in this room.
    pub(crate) fn admin(&self, room: &str) -> bool {
        self.0.room_admin && self.0.room == room
    }
}

/// The token of an assignment: the participant that the worker described, in this room, for an hour.
///
/// # Errors
/// When the room or the identity is empty.
pub(crate) fn join_token(
    keys: &Keys,
    room: &str,
    participant: &livekit::ParticipantInfo,
) -> Result<String, AccessTokenError> {
    let may = participant.permission.clone().unwrap_or_default();
    let grants = VideoGrants {
        room_join: true,
        agent: true,
        room: room.to_owned(),
        can_subscribe: Some(may.can_subscribe),
        can_publish: Some(may.can_publish),
        can_publish_data: Some(may.can_publish_data),
        can_update_own_metadata: Some(may.can_update_metadata),
        hidden: may.hidden,
        ..VideoGrants::default()
    };
    AccessToken::with_api_key(&keys.key, &keys.secret)
        .with_ttl(JOIN_FOR)
        .with_kind("agent")
        .with_identity(&participant.identity)
        .with_name(&participant.name)
        .with_metadata(&participant.metadata)
        .with_attributes(&participant.attributes)
        .with_grants(grants)
        .to_jwt()
}

/// The attributes that a worker chose, and the server's own, which it cannot choose.
pub(crate) fn attributes(chosen: HashMap<String, String>, agent_name: &str) -> HashMap<String, String> {
    let mut attributes = chosen;
    attributes.insert(AGENT_NAME.to_owned(), agent_name.to_owned());
    attributes
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn keys() -> Keys {
        Keys { key: "key".into(), secret: "secret-secret-secret-secret-secret".into() }
    }

    fn token(keys: &Keys, ttl: Duration) -> String {
        let grants = VideoGrants { agent: true, ..VideoGrants::default() };
        let token = AccessToken::with_api_key(&keys.key, &keys.secret).with_ttl(ttl).with_grants(grants);
        token.to_jwt().expect("a token")
    }

    fn read(uri: &str, header: Option<&str>) -> Result<Grants, BadToken> {
        let request = Request::builder().uri(uri);
        let request = match header {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        };
        Grants::of(&request.body(()).expect("a request").into_parts().0, &keys())
    }

    #[test]
    fn a_good_token_is_read_from_header_and_query() {
        let token = token(&keys(), JOIN_FOR);
        assert!(read("/agent", Some(&format!("Bearer {token}"))).expect("good").agent());
        assert!(read(&format!("/agent?access_token={token}"), None).expect("good").agent());
        assert!(!read("/agent", None).expect("nobody").agent());
    }

    #[test]
    fn a_bad_token_is_refused() {
        let good = token(&keys(), JOIN_FOR);
        let other = |key: &str, secret: &str| {
            let keys = Keys { key: key.into(), secret: secret.into() };
            format!("Bearer {}", token(&keys, JOIN_FOR))
        };
        let (head, signature) = good.rsplit_once('.').expect("three parts");
        for header in [
            other("key", "another-secret-another-secret-another"),
            other("another", &keys().secret),
            format!("bearer {good}"),
            format!("Bearer {head}."),
            format!("Bearer {head}.{}", &signature[1..]),
            // {"alg":"none"}
            format!("Bearer eyJhbGciOiJub25lIn0.{}.", head.split_once('.').expect("two parts").1),
            "Bearer ".to_owned(),
            String::new(),
        ] {
            assert!(read("/agent", Some(&header)).is_err(), "{header}");
        }
    }

    #[test]
    fn no_header_panics() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let Ok(value) = axum::http::HeaderValue::from_bytes(bytes) else { return };
            let request = Request::builder().header(AUTHORIZATION, value).body(()).expect("a request");
            assert!(Grants::of(&request.into_parts().0, &keys()).is_err());
        });
    }
}
