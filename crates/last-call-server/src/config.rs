//! What a server is told before it starts, and why it may refuse.
//!
//! Owns the options, their defaults and their checks. Refuses flags and files: those are the program's.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use last_call_proto::Load;
use thiserror::Error;
use url::Url;

/// livekit-server's own `agents.target_load`.
const TARGET_LOAD: f64 = 0.7;

/// The options of a [`Server`](crate::Server).
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one: see [`Server::address`](crate::Server::address).
    pub address: SocketAddr,
    /// What workers, callers of the API and webhooks are known by.
    pub keys: Keys,
    /// A group whose workers are all at this load or above is offered nothing, 0.0 to 1.0. Default 0.7.
    pub target_load: f64,
    /// Whose rooms the agents join. Default none: an assignment has no URL, and its token is ours.
    pub rooms: Option<Rooms>,
    /// Where to post webhooks. Default nowhere.
    pub webhooks: Vec<String>,
    /// Whether a browser gets a page at `/` that shows workers and calls, to anyone and without a token. Default: where
    /// the server listens on loopback only. Whatever it says, the page is refused under a name other than `localhost`:
    /// a website could point its own name here.
    pub page: Option<bool>,
}

impl Config {
    /// All defaults.
    #[must_use]
    pub fn new(address: SocketAddr, keys: Keys) -> Self {
        Self { address, keys, target_load: TARGET_LOAD, rooms: None, webhooks: Vec::new(), page: None }
    }

    /// Whether there is a page.
    pub(crate) fn has_page(&self) -> bool {
        self.page.unwrap_or_else(|| self.address.ip().to_canonical().is_loopback())
    }

    /// The target load as the core has it.
    pub(crate) fn target(&self) -> Load {
        Load::from_fraction(self.target_load)
    }

    /// Finds what could not work.
    pub(crate) fn check(&self) -> Result<(), BindError> {
        self.keys.check("the server's own")?;
        if !(self.target_load > 0.0 && self.target_load <= 1.0) {
            return Err(BindError::TargetLoad(self.target_load));
        }
        if let Some(rooms) = &self.rooms {
            rooms.keys.check("the rooms'")?;
            check_url(&rooms.url, "the rooms", &["ws", "wss"])?;
        }
        self.webhooks.iter().try_for_each(|url| check_url(url, "a webhook", &["http", "https"]))
    }
}

fn check_url(text: &str, of: &'static str, schemes: &'static [&'static str]) -> Result<(), BindError> {
    // A query may hold a token.
    let shown = || text.split(['?', '#']).next().unwrap_or_default().to_owned();
    let url = Url::parse(text).map_err(|error| BindError::Url { of, url: shown(), error })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BindError::Credentials { of });
    }
    if schemes.contains(&url.scheme()) {
        Ok(())
    } else {
        Err(BindError::Scheme { of, url: shown(), schemes: schemes.join(":// or ") + "://" })
    }
}

/// An API key and its secret. The secret is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The key, which names the issuer of a token.
    pub key: String,
    /// The secret, which signs it.
    pub secret: String,
}

impl Keys {
    fn check(&self, of: &'static str) -> Result<(), BindError> {
        if self.key.is_empty() || self.secret.is_empty() { Err(BindError::NoKeys { of }) } else { Ok(()) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A real livekit-server, whose rooms the agents join.
#[derive(Clone, Debug)]
pub struct Rooms {
    /// Where agents connect: `ws://…` or `wss://…`. It goes into every assignment.
    pub url: String,
    /// What that server knows them by.
    pub keys: Keys,
}

/// Why a server did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address cannot be had.
    #[error(
        "cannot listen on {address}: {error}; is another server there? choose another port, or 0 for a free one"
    )]
    Listen {
        /// The address as given.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A key or a secret is empty.
    #[error("{of} API key and secret must not be empty")]
    NoKeys {
        /// Whose.
        of: &'static str,
    },
    /// A target load that offers nothing, or is no fraction.
    #[error("a target load of {0} makes no sense; it is over 0.0 and at most 1.0")]
    TargetLoad(f64),
    /// A URL that is none.
    #[error("the URL of {of} makes no sense: {url:?}: {error}")]
    Url {
        /// Whose.
        of: &'static str,
        /// The URL without its query.
        url: String,
        /// What the parser said.
        #[source]
        error: url::ParseError,
    },
    /// A URL of another protocol.
    #[error("the URL of {of}, {url:?}, must begin with {schemes}")]
    Scheme {
        /// Whose.
        of: &'static str,
        /// The URL without its query.
        url: String,
        /// What it may begin with.
        schemes: String,
    },
    /// A user or password in a URL.
    #[error("the URL of {of} holds a user or password; it would be shown in logs")]
    Credentials {
        /// Whose.
        of: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys { key: "key".into(), secret: "hunter2".into() }
    }

    fn config() -> Config {
        Config::new(([127, 0, 0, 1], 0).into(), keys())
    }

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = config();
        change(&mut config);
        config.check().expect_err("a refusal").to_string()
    }

    #[test]
    fn the_defaults_pass_and_nonsense_is_named() {
        config().check().expect("the defaults");
        let rooms = |url: &str| Some(Rooms { url: url.into(), keys: keys() });
        assert!(refusal(|config| config.target_load = f64::NAN).contains("NaN"));
        assert!(refusal(|config| config.target_load = 0.0).contains("a target load of 0"));
        assert!(
            refusal(|config| config.rooms = rooms("http://x")).contains("must begin with ws:// or wss://")
        );
        assert!(refusal(|config| config.rooms = rooms("localhost")).contains("\"localhost\""));
        assert!(refusal(|config| config.keys.secret.clear()).contains("must not be empty"));
    }

    #[test]
    fn no_secret_is_shown() {
        let with_query = refusal(|config| config.webhooks.push("ftp://x/y?token=hunter2".into()));
        let with_user = refusal(|config| config.webhooks.push("http://u:hunter2@x/".into()));
        for text in [with_query, with_user, format!("{:?}", config())] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
