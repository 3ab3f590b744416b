//! `--accept-if http://…`: a service that decides on offers.
//!
//! Owns the question and the reading of the answer's status. Refuses a time limit of its own, a second try, and the
//! answer's body: nothing is asked but yes or no.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Uri};
use last_call_worker::exchange::{BODY_LIMIT, Broken, exchange};
use last_call_worker::{Dialler, Endpoint, JobRequest};

use crate::exec::document::{self, Job};

/// Where to ask.
pub(in crate::exec) struct Hook {
    dialler: Dialler,
    host: HeaderValue,
    target: Uri,
}

impl Hook {
    /// Whether this is a URL, and no command.
    pub(super) fn is_meant(text: &str) -> bool {
        ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
    }

    pub(super) fn new(text: &str) -> Result<Self, String> {
        // A token may stand in the rest.
        let shown = text.split(['?', '#']).next().unwrap_or_default();
        let bad = || format!("{shown:?} is no URL; one looks like http://127.0.0.1:9000/offer");
        if text.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next()?.find('@')).is_some() {
            return Err("the URL holds a user or password, and has no place for them".to_owned());
        }
        let url: Uri = text.parse().map_err(|_| bad())?;
        let host = url.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        let target = url.path_and_query().and_then(|target| target.as_str().parse().ok());
        let (Some(host), Some(target)) = (host, target) else { return Err(bad()) };
        // In the clear to another machine too: an offer has no token.
        let endpoint = Endpoint::parse(text, true).map_err(|_| bad())?;
        Ok(Self { dialler: Dialler::new(endpoint), host, target })
    }

    /// Whether it takes the job. Cancel safe: dropped, it closes the connection.
    pub(super) async fn ask(&self, request: &JobRequest) -> Result<bool, String> {
        let offer = Full::new(Bytes::from(document::json(&Job::of(request))));
        let mut question =
            Request::post(self.target.clone()).body(offer).map_err(|error| error.to_string())?;
        question.headers_mut().insert(HOST, self.host.clone());
        question.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let stream = self.dialler.stream().await.map_err(|error| error.to_string())?;
        let answer = exchange(stream, question, BODY_LIMIT).await.map_err(|broken| match broken {
            Broken::Http(error) => format!("the connection broke: {error}"),
            Broken::Body(error) => {
                format!("the answer's body broke off, or is over {BODY_LIMIT} bytes: {error}")
            }
        })?;
        match answer.status() {
            status if status.is_success() => Ok(true),
            status if status.is_client_error() => Ok(false),
            status => Err(format!("it answered HTTP {}", status.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_work_is_refused_and_keeps_its_secrets() {
        for url in ["http://127.0.0.1:9000/offer", "https://decider.example", "http://[::1]:9000/?key=sesame"]
        {
            assert!(Hook::new(url).is_ok(), "{url}");
        }
        for url in [
            "http://",
            "http:///offer",
            "http://a:99999/?key=sesame",
            "https://me:sesame@a/",
            "http://sesame@a",
            "http://a b/",
        ] {
            let why = Hook::new(url).err().unwrap_or_else(|| panic!("{url} was taken"));
            assert!(!why.contains("sesame"), "{why}");
        }
    }

    #[test]
    fn path_and_query_are_kept() {
        for (url, host, target) in
            [("http://127.0.0.1:9000/a/?key=1#f", "127.0.0.1:9000", "/a/?key=1"), ("https://a", "a", "/")]
        {
            let Ok(hook) = Hook::new(url) else { panic!("{url} was not taken") };
            assert_eq!((hook.host.as_bytes(), hook.target.to_string().as_str()), (host.as_bytes(), target));
        }
    }
}
