//! Webhooks: signed as livekit-server signs them, posted in order, again where it failed.
//!
//! Owns a receiver's queue and its bounds: 100 events waiting, four attempts each, 5 s an attempt. Refuses to
//! hold up the server: what does not fit is dropped and logged.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use livekit_protocol as livekit;
use livekit_token::{AccessToken, AccessTokenError};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use ureq::Agent;
use ureq::tls::TlsConfig;

use crate::config::Keys;

/// Events that wait for one receiver.
const QUEUE: usize = 100;
const ATTEMPTS: u32 = 4;
/// The wait after the first failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const ATTEMPT_WITHIN: Duration = Duration::from_secs(5);
/// How long a signature is good.
const SIGNED_FOR: Duration = Duration::from_secs(5 * 60);

type Queue = mpsc::Sender<Arc<livekit::WebhookEvent>>;

/// One receiver of webhooks.
pub(crate) struct Receiver {
    url: String,
    keys: Keys,
    agent: Agent,
    events: mpsc::Receiver<Arc<livekit::WebhookEvent>>,
}

impl Receiver {
    /// A receiver, and its queue.
    pub(crate) fn new(url: String, keys: Keys) -> (Queue, Self) {
        let (queue, events) = mpsc::channel(QUEUE);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = Agent::config_builder()
            .timeout_global(Some(ATTEMPT_WITHIN))
            .tls_config(TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build())
            .max_redirects(0)
            .build();
        (queue, Self { url, keys, agent: config.into(), events })
    }

    /// Posts events until the queue is closed and empty.
    pub(crate) async fn serve(mut self) {
        while let Some(event) = self.events.recv().await {
            let body = serde_json::to_string(&*event).unwrap_or_default();
            match signature(&self.keys, &body) {
                Ok(signature) => self.deliver(&event.event, &signature, &body).await,
                Err(error) => tracing::warn!(%error, "a webhook cannot be signed: dropped"),
            }
        }
    }

    async fn deliver(&self, event: &str, signature: &str, body: &str) {
        let mut wait = FIRST_WAIT;
        for attempt in 1..=ATTEMPTS {
            let (agent, url) = (self.agent.clone(), self.url.clone());
            let (signature, body) = (signature.to_owned(), body.to_owned());
            let posted = spawn_blocking(move || post(&agent, &url, &signature, &body)).await;
            let error = match posted {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::warn!(event, attempt, error, "a webhook failed");
            if attempt < ATTEMPTS {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
}

fn post(agent: &Agent, url: &str, signature: &str, body: &str) -> Result<(), ureq::Error> {
    let request = agent.post(url).header("Authorization", signature);
    // A type of its own, so that no framework parses the body before the signature is checked.
    request.content_type("application/webhook+json").send(body).map(drop)
}

/// A token that is good for this body only.
fn signature(keys: &Keys, body: &str) -> Result<String, AccessTokenError> {
    let sum = STANDARD.encode(Sha256::digest(body.as_bytes()));
    AccessToken::with_api_key(&keys.key, &keys.secret).with_ttl(SIGNED_FOR).with_sha256(&sum).to_jwt()
}

#[cfg(test)]
mod tests {
    use livekit_token::TokenVerifier;

    use super::*;

    #[test]
    fn the_signature_holds_the_bodys_sum() {
        let keys = Keys { key: "key".into(), secret: "secret-secret-secret-secret-secret".into() };
        let signature = signature(&keys, "abc").expect("signed");
        let claims = TokenVerifier::with_api_key(&keys.key, &keys.secret).verify(&signature).expect("good");
        // The well-known sum of "abc".
        assert_eq!(claims.sha256, "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }
}
