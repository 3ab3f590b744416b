//! Twirp: which service and method, in which encoding, and errors as its clients know them.
//!
//! Owns the envelope. Refuses bodies over 64 KiB, and any verb but POST.

mod methods;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

use crate::access::Grants;
use crate::shared::Shared;

/// Bytes of a body.
const BODY_LIMIT: usize = 64 * 1024;
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";

/// An error of Twirp's: `{"code": …, "msg": …}`, with the status that belongs to the code.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    code: Code,
    msg: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Code {
    InvalidArgument,
    Malformed,
    NotFound,
    BadRoute,
    Unauthenticated,
    ResourceExhausted,
    Unimplemented,
    Unavailable,
}

impl Problem {
    fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into() }
    }

    /// A request that can never work.
    pub(crate) fn invalid(msg: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, msg)
    }

    /// Something named that is not there.
    pub(crate) fn missing(msg: impl Into<String>) -> Self {
        Self::new(Code::NotFound, msg)
    }

    /// A bound is reached.
    pub(crate) fn full(msg: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, msg)
    }

    /// What livekit-server says of dispatches in a room that is not there: no node answers for it.
    pub(crate) fn nobody_answers() -> Self {
        Self::new(Code::Unavailable, "no response from servers")
    }

    fn denied() -> Self {
        Self::new(Code::Unauthenticated, "permissions denied")
    }

    fn malformed(msg: impl Into<String>) -> Self {
        Self::new(Code::Malformed, msg)
    }

    fn status(&self) -> StatusCode {
        match self.code {
            Code::InvalidArgument | Code::Malformed => StatusCode::BAD_REQUEST,
            Code::NotFound | Code::BadRoute => StatusCode::NOT_FOUND,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status(), axum::Json(self)).into_response()
    }
}

/// How a body is encoded. An answer is encoded as its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn read<Q: Message + Default + DeserializeOwned>(self, body: &[u8]) -> Result<Q, Problem> {
        match self {
            Self::Protobuf => {
                Q::decode(body).map_err(|_| Problem::malformed("the protobuf request could not be decoded"))
            }
            Self::Json => serde_json::from_slice(body).map_err(|error| {
                Problem::malformed(format!("the json request could not be decoded: {error}"))
            }),
        }
    }

    fn write<R: Message + Serialize>(self, reply: &R) -> Vec<u8> {
        match self {
            Self::Protobuf => reply.encode_to_vec(),
            // A message of ours has no value that JSON lacks.
            Self::Json => serde_json::to_vec(reply).unwrap_or_default(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Protobuf => PROTOBUF,
            Self::Json => JSON,
        }
    }
}

/// A request, read as far as every method needs it.
struct Call {
    grants: Grants,
    encoding: Encoding,
    body: Vec<u8>,
}

impl Call {
    /// Reads the request, lets `act` answer it if it `may`, and writes the answer.
    fn answer<Q, R>(
        &self,
        may: impl FnOnce(&Grants, &Q) -> bool,
        act: impl FnOnce(Q) -> Result<R, Problem>,
    ) -> Result<Vec<u8>, Problem>
    where
        Q: Message + Default + DeserializeOwned,
        R: Message + Serialize,
    {
        let request = self.encoding.read(&self.body)?;
        if !may(&self.grants, &request) {
            return Err(Problem::denied());
        }
        act(request).map(|reply| self.encoding.write(&reply))
    }
}

/// Answers every request under `/twirp/`.
pub(crate) async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match respond(&shared, request).await {
        Ok((encoding, body)) => ([(CONTENT_TYPE, encoding.name())], body).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn respond(shared: &Shared, request: Request) -> Result<(Encoding, Vec<u8>), Problem> {
    let (parts, body) = request.into_parts();
    let grants = Grants::of(&parts, &shared.keys);
    let grants = grants.map_err(|_| Problem::new(Code::Unauthenticated, "invalid authorization token"))?;
    if parts.method != Method::POST {
        let msg = format!("unsupported method {:?} (only POST is allowed)", parts.method.as_str());
        return Err(Problem::new(Code::BadRoute, msg));
    }
    let content = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoding = match content.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        JSON => Encoding::Json,
        PROTOBUF => Encoding::Protobuf,
        _ => return Err(Problem::new(Code::BadRoute, format!("unexpected Content-Type: {content:?}"))),
    };
    let body = read(body).await?;
    let reply = methods::answer(shared, parts.uri.path(), &Call { grants, encoding, body })?;
    Ok((encoding, reply))
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let read = to_bytes(body, BODY_LIMIT).await;
    let refused = |_| Problem::malformed(format!("the body broke off, or is over {BODY_LIMIT} bytes"));
    read.map(Vec::from).map_err(refused)
}

#[cfg(test)]
mod tests {
    use livekit_protocol as livekit;

    use super::*;

    #[test]
    fn no_body_panics() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            for encoding in [Encoding::Protobuf, Encoding::Json] {
                let _ = encoding.read::<livekit::CreateAgentDispatchRequest>(bytes);
                if let Ok(request) = encoding.read::<livekit::CreateRoomRequest>(bytes) {
                    let again = encoding.read::<livekit::CreateRoomRequest>(&encoding.write(&request));
                    assert_eq!(again.map(|again| again.name), Ok(request.name));
                }
            }
        });
    }

    #[test]
    fn json_has_no_bottom_but_ours() {
        let deep = "[".repeat(100_000);
        let refused = Encoding::Json.read::<livekit::CreateRoomRequest>(deep.as_bytes());
        assert_eq!(refused.expect_err("refused").code, Code::Malformed);
        let unknown = br#"{"name": "r", "thing": {"of": ["the", "future"]}}"#;
        let read = Encoding::Json.read::<livekit::CreateRoomRequest>(unknown).expect("read");
        assert_eq!(read.name, "r");
    }
}
