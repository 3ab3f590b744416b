//! The page over HTTP: who gets it, and with which headers.
//!
//! Owns the refusals. What it shows is for everyone who can reach the port, so it refuses every name but `localhost` and
//! addresses: a website could point a name of its own here and read along.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, http::HeaderName};
use tokio::sync::Semaphore;

use super::follow::{self, FOLLOWERS};
use super::{PAGE, POLICY};
use crate::http::Stay;
use crate::id;
use crate::journal::Journal;

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
        return refusal();
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
        return refusal();
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

fn refusal() -> Response {
    let text = "this page answers to localhost and to addresses only, and to no other website: open it by the server's \
                address, such as http://127.0.0.1:7880/\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

/// Whether a request was made to an address or to `localhost`, and not from another website.
fn is_local(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let from = text(HeaderName::from_static("sec-fetch-site"));
    let Some(authority) = text(HOST).and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let host = authority.host();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    (literal || host.eq_ignore_ascii_case("localhost")) && matches!(from, None | Some("none" | "same-origin"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn local(host: &'static str, from: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        if let Some(from) = from {
            headers.insert("sec-fetch-site", HeaderValue::from_static(from));
        }
        is_local(&headers)
    }

    #[test]
    fn a_name_that_anyone_can_point_here_is_refused() {
        for host in
            ["localhost", "LOCALHOST:7880", "127.0.0.1:7880", "[::1]:7880", "192.168.1.7", "[fe80::1]"]
        {
            assert!(local(host, None), "{host}");
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
            assert!(!local(host, None), "{host}");
        }
        assert!(!is_local(&HeaderMap::new()), "no host at all");
    }

    #[test]
    fn another_website_is_refused() {
        assert!(local("localhost", Some("same-origin")) && local("localhost", Some("none")));
        assert!(!local("localhost", Some("cross-site")) && !local("localhost", Some("same-site")));
    }
}
