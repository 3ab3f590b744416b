//! Who is measured: probe with its jobs as processes, a program under `last-call run`, and LiveKit's own SDKs.
//!
//! Owns what each is told. Refuses to tell them different things: idle processes, load and jobs are the same for all.

use anyhow::Result;

use super::starts;
use crate::bench::rig::Subject;
use crate::setup::peers;
use crate::workspace;

/// A worker program, and its environment.
pub(crate) struct Contestant {
    pub(crate) subject: Subject,
    pub(crate) ours: bool,
    variables: Vec<(&'static str, String)>,
}

impl Contestant {
    /// Probe with its jobs as tasks.
    ///
    /// # Errors
    /// When it cannot be built.
    pub(crate) fn tasks() -> Result<Self> {
        Ok(Self { subject: Subject::probe()?, ours: true, variables: Vec::new() })
    }

    /// Probe with `--runner process`.
    ///
    /// # Errors
    /// When it cannot be built.
    pub(super) fn processes() -> Result<Self> {
        let variables = vec![("LAST_CALL_RUNNER", "process".to_owned())];
        Ok(Self { subject: Subject::probe()?, ours: true, variables })
    }

    /// `last-call run` with a shell that says that it runs.
    ///
    /// # Errors
    /// When it cannot be built.
    pub(super) fn program() -> Result<Self> {
        let arguments = ["run", "--", "/bin/sh", "-c", &shell("exit 0")].map(Into::into).to_vec();
        let subject = Subject::ours("last-call run", "last-call-cli", "last-call", arguments)?;
        Ok(Self { subject, ours: true, variables: Vec::new() })
    }

    /// livekit-agents and @livekit/agents, each fetched into the cache where it is missing.
    ///
    /// # Errors
    /// When one cannot be fetched.
    pub(crate) fn peers() -> Result<Vec<Self>> {
        let script = |name: &str| workspace::root().join("bench/peers").join(name);
        let python = vec![script("python_worker.py").into(), "start".into()];
        let python = Subject::peer(peers::PYTHON, peers::python()?, python);
        let node = Subject::peer(peers::NODE, "node".into(), vec![script("node_worker.js").into()]);
        let modules = peers::node()?.to_string_lossy().into_owned();
        Ok(vec![
            Self { subject: python, ours: false, variables: Vec::new() },
            Self { subject: node, ours: false, variables: vec![("NODE_PATH", modules)] },
        ])
    }

    /// What it is told beside server and jobs.
    pub(crate) fn variables(&self) -> Vec<(&str, &str)> {
        // Every framework declines some of several jobs at once where it watches its load.
        let never_full = ("LAST_CALL_LOAD_THRESHOLD", "off");
        self.variables.iter().map(|(name, value)| (*name, value.as_str())).chain([never_full]).collect()
    }
}

/// A shell's script that says as probe does that it runs.
pub(super) fn shell(then: &str) -> String {
    format!("echo started 0 $$ > \"$PROBE_JOB_DIR/{}\"; {then}", starts::NAME)
}
