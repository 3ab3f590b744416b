//! A value that may not be shown: the API secret, the admin token.
//!
//! Owns the wrapper. Refuses `Display` and `Debug` of what is inside, so that no log line, error or
//! status page can carry it by accident.

use std::fmt;

use subtle::ConstantTimeEq;

/// A secret text. Formats as `***`; read it with [`Secret::expose`].
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text itself, for the one place that signs or compares with it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `claim` is this secret, in a time that tells nothing but the secret's length.
    pub(crate) fn matches(&self, claim: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(claim).into()
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_nothing() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
    }

    #[test]
    fn matches_only_itself() {
        let secret = Secret::from("hunter2".to_owned());
        assert!(secret.matches(b"hunter2"));
        for claim in ["", "hunter", "hunter3", "hunter22"] {
            assert!(!secret.matches(claim.as_bytes()), "{claim:?}");
        }
    }
}
