//! The page over HTTP: who gets it, and with which headers.
//!
//! Owns the refusals. What it shows is for everyone who can reach the port, so it refuses every name but `localhost` and
//! addresses: a website could point a name of its own here and read along.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use super::follow::{self, FOLLOWERS};
use super::{PAGE, POLICY};
use crate::http::Stay;
use crate::id;
use crate::journal::Journal;

/// Whose request it is, as browsers say.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the page needs.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    journal: Journal,
    /// Free places for followers.
    places: Arc<Semaphore>,
    /// This run of the server, so that a page that knew another starts afresh.
    run: Arc<str>,
}

impl Page {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, places: Arc::new(Semaphore::new(FOLLOWERS)), run: id::new("").into() }
    }
}

/// The page and its events.
pub(crate) fn routes(page: Page) -> Router {
    Router::new().route("/", get(root)).route("/events", get(events).with_state(page))
}

/// A page for those who read pages; the rest is told what livekit-server says to load balancers.
async fn root(headers: HeaderMap) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accepted.contains("text/html") {
        return ([(VARY, "Accept")], "OK").into_response();
    }
    if !is_local(&headers) {
        return refusal(&headers);
    }
    let policy = format!("{}; frame-ancestors 'none'", *POLICY);
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, policy.as_str()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (VARY, "Accept"),
    ];
    (headers, PAGE.as_str()).into_response()
}

/// The events, for as long as the page is open.
async fn events(
    State(page): State<Page>,
    Extension(stay): Extension<Stay>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if !is_local(&headers) {
        return refusal(&headers);
    }
    if is_of_another_website(&headers) {
        let text = "no other website may read what happens here; the page at / shows it\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    if method == Method::HEAD {
        return [(CONTENT_TYPE, "text/event-stream")].into_response();
    }
    let Ok(place) = page.places.try_acquire_owned() else {
        let full = format!("{FOLLOWERS} pages are open already: close one");
        return (StatusCode::SERVICE_UNAVAILABLE, full).into_response();
    };
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (response, follower) = follow::follow(page.journal, page.run, last);
    stay.during(async move {
        follower.await;
        drop(place);
    });
    ([(X_CONTENT_TYPE_OPTIONS, "nosniff")], response).into_response()
}

/// What to do instead, at the port by which the request came.
fn refusal(headers: &HeaderMap) -> Response {
    let port = authority(headers).and_then(|authority| authority.port_u16());
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let text = format!(
        "this page answers to localhost and to addresses only: open it by the server's address, such as \
         http://127.0.0.1{port}/\n"
    );
    (StatusCode::FORBIDDEN, text).into_response()
}

/// Whether a request was made to an address or to `localhost`.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(authority) = authority(headers) else { return false };
    let host = authority.host();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    literal || host.eq_ignore_ascii_case("localhost")
}

/// Whether a browser says that the request is another website's. For the page itself that is a link that somebody
/// followed: it holds no secret, and no frame shows it.
fn is_of_another_website(headers: &HeaderMap) -> bool {
    let from = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    !matches!(from, None | Some(b"none" | b"same-origin"))
}

/// The host and port that the request names.
fn authority(headers: &HeaderMap) -> Option<Authority> {
    headers.get(HOST)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(host: &'static str) -> bool {
        is_local(&HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]))
    }

    #[test]
    fn a_name_that_anyone_can_point_here_is_refused() {
        for host in
            ["localhost", "LOCALHOST:7880", "127.0.0.1:7880", "[::1]:7880", "192.168.1.7", "[fe80::1]"]
        {
            assert!(local(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com:7880",
            "127.0.0.1.example.com",
            "127.0.0.1@example.com",
            "example.com:127.0.0.1",
            "localhost.",
        ] {
            assert!(!local(host), "{host}");
        }
        assert!(!is_local(&HeaderMap::new()), "no host at all");
    }

    #[test]
    fn another_website_is_refused() {
        let strange = |from: &'static [u8]| {
            let from = HeaderValue::from_bytes(from).expect("a header value");
            is_of_another_website(&HeaderMap::from_iter([(SEC_FETCH_SITE, from)]))
        };
        assert!(!strange(b"same-origin") && !strange(b"none") && !is_of_another_website(&HeaderMap::new()));
        assert!(strange(b"cross-site") && strange(b"same-site") && strange(b"") && strange(b"\xff"));
    }
}
