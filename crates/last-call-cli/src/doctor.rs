//! `last-call doctor`: looks at a deployment of guard before it is one.
//!
//! Owns the options, what is read, and the exit code. Refuses to run the program or to reach for the network.

mod files;
mod finding;
mod grace;
mod manifest;
mod program;
mod sdk;
mod settings;
mod unit;

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
and the arguments: --drain-timeout and --exit-within, LAST_CALL_DRAIN_TIMEOUT and the others. The
text of a program that is named behind -- is searched for a URL and for the SDK's drain timeout.

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
    last-call doctor --manifest deployment.yaml -- .venv/bin/python agent.py start
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
    let (mut found, grace, env, words, place) = match manifest {
        Some(manifest::Manifest { wrong, grace, env, words, place }) => {
            (wrong, Some(grace), env, words, place)
        }
        None => (Vec::new(), None, own, Vec::new(), None),
    };
    let (mut guard, mut program) = program::split(&words);
    let given = &options.program;
    if !given.is_empty() {
        let theirs;
        (theirs, program) = program::split(given);
        // The worker's command line alone: guard's is the manifest's.
        guard = if program.len() == given.len() { guard } else { theirs };
    }
    // What is given here is a program of this machine.
    let place = if given.is_empty() { place } else { Some(PathBuf::new()) };
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
    let mut of_platform = Grace { platform, ..grace.unwrap_or(Grace::of(platform)) };
    of_platform.set = options.grace_period.or(of_platform.set);
    of_platform.extends &= platform == Platform::Systemd;

    found.extend(grace::check(&of_platform, drain, exit));
    found.extend(program::supervisors(program));
    let forward =
        program::option(guard, "--forward").or_else(|| env.get("LAST_CALL_FORWARD").map(String::as_str));
    found.extend(texts(program, place.as_deref(), !given.is_empty(), forward));
    found.extend(settings::check(&env, guard, program));
    Ok(found)
}

/// What the program's own text and the files beside it say. `place` is where it starts on this machine; without one it is
/// in an image.
fn texts(program: &[String], place: Option<&Path>, given: bool, forward: Option<&str>) -> Vec<Finding> {
    let mut found = Vec::new();
    let (mut source, mut dotenv, mut installed) = (None, None, None);
    if let (Some(script), Some(place)) = (program::script(program), place) {
        let path = place.join(script);
        match files::read(&path) {
            Ok(text) => source = Some(text),
            Err(error) => {
                let text = format!(
                    "files: cannot read {}, so what it says is not seen: {error}",
                    shown::path(&path)
                );
                // A unit may be looked at on another machine.
                found.push(if given { Finding::warning(text) } else { Finding::ok(text) });
            }
        }
        dotenv = files::read(&path.with_file_name(".env")).ok();
        installed = sdk::installed(place, program);
    } else if let Some(script) = program::script(program) {
        found.push(Finding::ok(format!(
            "files: {} is in the image and was not read; give the worker's command line behind -- where its file is",
            shown::line(script)
        )));
    }
    found.extend(program::bypasses(program, source.as_deref(), dotenv.as_deref()));
    let setting = sdk::setting(program, source.as_deref());
    found.push(sdk::drain(installed.as_ref(), program, setting.as_deref(), forward));
    found
}

fn read(path: &Path) -> Result<manifest::Manifest, Failure> {
    let failed = |why: String| {
        Failure::Usage(format!("cannot read --manifest {}: {}", shown::path(path), shown::line(&why)))
    };
    let text = files::read(path).map_err(|error| failed(error.to_string()))?;
    manifest::read(&path.to_string_lossy(), &text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(manifest: Option<PathBuf>, program: &[&str]) -> Options {
        Options {
            manifest,
            platform: None,
            grace_period: None,
            drain_timeout: None,
            exit_within: None,
            strict: true,
            program: program.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    #[track_caller]
    fn looked(options: &Options) -> Vec<Finding> {
        look(options, BTreeMap::new()).expect("what can be read")
    }

    #[test]
    fn the_deployments_of_this_repository_have_nothing_to_mend() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        for (name, grace) in
            [("guard/deployment.yaml", "1h 10s (as set)"), ("systemd/last-call-guard.service", "Type=notify")]
        {
            let found = looked(&options(Some(root.join(name)), &[]));
            assert!(found.iter().all(|one| one.level == Level::Ok), "{name}: {found:?}");
            // It was read, and not passed over.
            for said in [grace, "nothing stands between", "agent.py", "url: wss://my-project.livekit.cloud"] {
                assert!(found.iter().any(|one| one.text.contains(said)), "{name}: {said}: {found:?}");
            }
        }
    }

    #[test]
    fn the_programs_file_is_looked_up_where_it_starts() {
        let root = tempfile::tempdir().expect("a directory");
        let place = root.path();
        std::fs::create_dir(place.join("app")).expect("a directory");
        std::fs::write(place.join("app/a.py"), "load_dotenv(override=True)\nAgentServer(drain_timeout=60)")
            .expect("a file");
        std::fs::write(place.join("app/.env"), "LIVEKIT_URL=wss://x").expect("a file");
        let unit = place.join("a.service");
        let app = place.join("app");
        let text = format!(
            "[Service]\nWorkingDirectory={}\nExecStart=last-call guard -- python a.py start",
            app.display()
        );
        std::fs::write(&unit, text).expect("a file");
        let pod = place.join("app/a.yaml");
        let text =
            "spec: {containers: [{command: last-call guard --drain-timeout 20s -- python a.py start}]}";
        std::fs::write(&pod, text).expect("a file");
        let says = |found: &[Finding], said: &str| found.iter().any(|one| one.text.contains(said));

        let found = looked(&options(Some(unit), &[]));
        assert!(
            says(&found, "a.py says drain_timeout=60") && says(&found, "the .env's LIVEKIT_URL over"),
            "{found:?}"
        );
        let found = looked(&options(Some(pod.clone()), &[]));
        assert!(says(&found, "a.py is in the image") && !says(&found, "drain_timeout"), "{found:?}");
        // The worker from here, and guard as in the manifest.
        let path = app.join("a.py").display().to_string();
        let found = looked(&options(Some(pod.clone()), &["python", &path, "start"]));
        assert!(
            says(&found, "a.py says drain_timeout=60") && says(&found, "--drain-timeout 20s"),
            "{found:?}"
        );
        let found = looked(&options(Some(pod), &["last-call", "guard", "--", "python", &path, "start"]));
        assert!(says(&found, "--drain-timeout 1h"), "{found:?}");
    }

    #[test]
    fn what_is_given_wins_over_what_stands_there() {
        let root = tempfile::tempdir().expect("a directory");
        let unit = root.path().join("a.service");
        let text = "[Service]\nType=notify\nTimeoutStopSec=soon\nEnvironment=LAST_CALL_DRAIN_TIMEOUT=20s LAST_CALL_EXIT_WITHIN=7s\n\
            ExecStart=last-call guard --exit-within 3s -- ./a";
        std::fs::write(&unit, text).expect("a file");
        let says = |options: &Options, said: &str| {
            let found = looked(options);
            assert!(found.iter().any(|one| one.text.contains(said)), "{said}: {found:?}");
        };
        let mut options = options(Some(unit), &[]);
        says(&options, "TimeoutStopSec=soon is no time");
        says(&options, "asks systemd for more time");
        // Of another platform systemd's word is worth nothing.
        options.platform = Some(Platform::Docker);
        says(
            &options,
            "up to 23s (--drain-timeout 20s and --exit-within 3s), and Docker gives 10s (the default)",
        );
        options.grace_period = Some(Duration::from_secs(40));
        options.drain_timeout = Some(Duration::from_secs(30));
        options.exit_within = Some(Duration::from_secs(1));
        says(&options, "up to 31s (--drain-timeout 30s and --exit-within 1s), and Docker gives 40s (as set)");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_said() {
        let found = looked(&options(None, &["python", "no-such.py", "start"]));
        let said = |one: &Finding| one.level == Level::Warning && one.text.contains("cannot read no-such.py");
        assert!(found.iter().any(said), "{found:?}");
        for name in ["/dev/zero", "no-such.yaml"] {
            let failure =
                look(&options(Some(name.into()), &[]), BTreeMap::new()).expect_err(name).to_string();
            assert!(failure.contains(name), "{failure}");
        }
    }
}
