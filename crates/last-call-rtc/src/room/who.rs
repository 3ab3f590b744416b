//! Owns whom somebody waits for. Refuses to wait.

use crate::event::{Participant, ParticipantKind};

/// Whom somebody waits for, or serves. Default: everybody who is a caller, and so no agent, no recorder and no stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Only this identity. Default: any.
    pub identity: Option<String>,
    /// Only of one of these kinds. Default: standard, SIP and connector.
    pub kinds: Vec<ParticipantKind>,
}

impl Default for Who {
    fn default() -> Self {
        let kinds = [ParticipantKind::Standard, ParticipantKind::Sip, ParticipantKind::Connector];
        Self { identity: None, kinds: kinds.into() }
    }
}

impl Who {
    /// A caller of this identity.
    pub fn identity(identity: impl Into<String>) -> Self {
        Self { identity: Some(identity.into()), ..Self::default() }
    }

    /// Whether `participant` is meant.
    #[must_use]
    pub fn fits(&self, participant: &Participant) -> bool {
        self.kinds.contains(&participant.kind())
            && self.identity.as_ref().is_none_or(|wanted| wanted == participant.identity())
    }
}

#[cfg(test)]
mod tests;
