//! `last-call doctor`: looks at a deployment of guard before it is one.
//!
//! Owns the options, what is read, and the exit code. Refuses to run the program or to reach for the network.

mod finding;
mod grace;
mod manifest;
mod program;
mod settings;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use last_call_worker::duration;

use self::finding::{Finding, Level};
use self::grace::{Grace, Platform};
use crate::failure::Failure;
use crate::shown;

/// Look at a deployment of guard before it is deployed: grace period, supervisors, ways past guard, ports, secrets
///
/// One line for each thing that was looked at: ok, warning or error, with the value and what to do. Nothing is run,
/// and nothing is asked of the network.
#[derive(Args, Clone, Debug)]
#[command(group = last_call_worker::no_file(), after_help = "\
What guard itself would be told is read from the manifest's container, else from this environment
and the arguments: --drain-timeout and --exit-within, LAST_CALL_DRAIN_TIMEOUT and the others.

A drain needs --drain-timeout, which has its reserve inside, and then --exit-within. What the
platform gives between SIGTERM and SIGKILL must be more, or calls are killed:
    Kubernetes  terminationGracePeriodSeconds   30 s, less what preStop sleeps
    Docker      stop_grace_period               10 s
    ECS         stopTimeout                     30 s, at most 120 s
    systemd     TimeoutStopSec                  90 s; with Type=notify guard asks for more
    Fly         kill_timeout                    5 s, at most 300 s
    Heroku                                      30 s

Examples:
    last-call doctor --manifest deployment.yaml
    last-call doctor --manifest /etc/systemd/system/agent.service
    last-call doctor --platform ecs --grace-period 2m --drain-timeout 110s -- python agent.py start
    last-call doctor --strict -- last-call guard -- python agent.py start

Exit codes: 0 no error; 1 an error, and with --strict a warning; 2 usage, or a file that cannot be read.")]
pub(crate) struct Options {
    /// What is deployed: a Kubernetes manifest, a Compose file, or a systemd unit (*.service)
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Who sends SIGKILL [default: the manifest's, else kubernetes]
    #[arg(long, value_enum, value_name = "NAME")]
    platform: Option<Platform>,
    /// The time between SIGTERM and SIGKILL [default: the manifest's, else the platform's own]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    grace_period: Option<Duration>,
    /// Guard's whole drain [default: the one that guard would be told, else 1h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    drain_timeout: Option<Duration>,
    /// The worker's time to end after its last call [default: the one that guard would be told, else 5s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    exit_within: Option<Duration>,
    /// Warnings count as errors
    #[arg(long)]
    strict: bool,
    /// The worker's command line, or that of guard before it [default: the manifest's]
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// Looks, says, and leaves with 1 where something has to be done.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let found = look(
        options,
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    )?;
    let mut out = io::stdout().lock();
    for one in &found {
        writeln!(out, "{one}")?;
    }
    let bad = if options.strict { Level::Warning } else { Level::Error };
    Ok(ExitCode::from(u8::from(found.iter().any(|one| one.level >= bad))))
}

fn look(options: &Options, own: BTreeMap<String, String>) -> Result<Vec<Finding>, Failure> {
    let manifest = options.manifest.as_deref().map(read).transpose()?;
    let (grace, env, words) = match manifest {
        Some(manifest) => (Some(manifest.grace), manifest.env, manifest.words),
        None => (None, own, Vec::new()),
    };
    let words = if options.program.is_empty() { words } else { options.program.clone() };
    let (guard, program) = program::split(&words);
    let time = |given: Option<Duration>, flag: &str, variable: &str, default: u64| {
        let text = program::option(guard, flag).or_else(|| env.get(variable).map(String::as_str));
        match (given, text) {
            (Some(given), _) => Ok(given),
            (None, None) => Ok(Duration::from_secs(default)),
            (None, Some(text)) => duration(text)
                .map_err(|wanted| Failure::Usage(format!("{flag} is {}: give {wanted}", shown::line(text)))),
        }
    };
    let drain = time(options.drain_timeout, "--drain-timeout", "LAST_CALL_DRAIN_TIMEOUT", 3600)?;
    let exit = time(options.exit_within, "--exit-within", "LAST_CALL_EXIT_WITHIN", 5)?;

    let platform = options.platform.or(grace.map(|grace| grace.platform)).unwrap_or(Platform::Kubernetes);
    let mut of_platform =
        grace.unwrap_or(Grace { platform, set: None, pre_stop: Duration::ZERO, extends: false });
    of_platform.platform = platform;
    of_platform.set = options.grace_period.or(of_platform.set);
    of_platform.extends &= platform == Platform::Systemd;

    let mut found = grace::check(&of_platform, drain, exit);
    found.extend(program::supervisors(program));
    let script = program::script(program);
    let text = |path: &Path| std::fs::read_to_string(path).ok();
    let dotenv = script.as_deref().and_then(|script| text(&script.with_file_name(".env")));
    found.extend(program::bypasses(program, script.as_deref().and_then(text).as_deref(), dotenv.as_deref()));
    let forward =
        program::option(guard, "--forward").or_else(|| env.get("LAST_CALL_FORWARD").map(String::as_str));
    found.push(program::sdk_drain(program::sdk(program).as_ref(), forward, drain));
    found.extend(settings::check(&env, guard, program));
    Ok(found)
}

fn read(path: &Path) -> Result<manifest::Manifest, Failure> {
    let failed = |why: String| {
        Failure::Usage(format!("cannot read --manifest {}: {}", shown::path(path), shown::line(&why)))
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    manifest::read(&path.to_string_lossy(), &text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployment_of_this_repository_has_nothing_to_mend() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/guard/deployment.yaml");
        let options = Options {
            manifest: Some(manifest.into()),
            platform: None,
            grace_period: None,
            drain_timeout: None,
            exit_within: None,
            strict: true,
            program: Vec::new(),
        };
        let found = look(&options, BTreeMap::new()).expect("a manifest");
        assert!(found.iter().all(|one| one.level == Level::Ok), "{found:?}");
        // It was read, and not passed over.
        assert!(found[0].text.contains("1h 10s (as set)"), "{found:?}");
    }
}
