//! What stands between guard and the worker, and what leads the worker past guard.
//!
//! Owns what the command line, the program's file and the `.env` beside it give away. Refuses to run anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use humantime::format_duration;
use last_call_worker::livekit_agents_drains_well;

use super::finding::Finding;

/// Guard's own arguments, and the program behind its `--`.
pub(super) fn split(words: &[String]) -> (&[String], &[String]) {
    // Behind whatever starts it, as tini with a `--` of its own.
    let guard = words
        .iter()
        .enumerate()
        .position(|(at, word)| word == "guard" && (at == 0 || base(&words[at - 1]) == "last-call"));
    let Some(guard) = guard else { return (&[], words) };
    let behind = &words[guard + 1..];
    match behind.iter().position(|word| word == "--") {
        Some(end) => (&behind[..end], &behind[end + 1..]),
        None => (behind, &[]),
    }
}

/// The value of an option, as `--name value` or `--name=value`.
pub(super) fn option<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(name)? {
        "" => words.get(at + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    })
}

fn base(word: &str) -> &str {
    Path::new(word).file_name().and_then(|name| name.to_str()).unwrap_or(word)
}

/// Who else would start, watch or signal the worker.
pub(super) fn supervisors(program: &[String]) -> Vec<Finding> {
    let names: Vec<_> = program.iter().map(|word| base(word)).collect();
    let mut found = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let next = names.get(at + 1).copied().unwrap_or_default();
        let text = match *name {
            "tini" | "dumb-init" | "supervisord" | "s6-svscan" | "runit" => {
                format!("supervisors: {name} stands behind guard, which is an init itself: take it out")
            }
            "pm2" | "pm2-runtime" | "nodemon" | "watchfiles" | "watchmedo" | "forever" => format!(
                "supervisors: {name} starts the worker again behind guard's back, and calls end: take it out, guard restarts"
            ),
            "npm" | "yarn" | "pnpm" | "npx" | "uv" | "poetry" | "pipenv"
                if matches!(next, "run" | "start" | "exec") =>
            {
                format!(
                    "supervisors: `{name} {next}` stands between guard and the worker and may swallow signals: name the interpreter itself"
                )
            }
            "sh" | "bash" | "dash" | "ash" if next == "-c" => match program.get(at + 2) {
                Some(script)
                    if !script.split([';', '&', '|', '\n']).any(|one| one.trim().starts_with("exec ")) =>
                {
                    format!(
                        "supervisors: `{name} -c` stays in front of the worker and passes no signal on: write `exec` before the program"
                    )
                }
                Some(_) | None => continue,
            },
            "guard" if at > 0 && names[at - 1] == "last-call" => {
                found.push(Finding::error("supervisors: a guard behind a guard: leave one out"));
                continue;
            }
            "dev" | "--reload" if at > 1 => format!(
                "mode: `{name}` starts the worker again when a file changes, and calls end: use `start` where calls count"
            ),
            _ => continue,
        };
        found.push(Finding::warning(text));
    }
    if found.is_empty() && !program.is_empty() {
        found.push(Finding::ok("supervisors: nothing stands between guard and the worker"));
    }
    found
}

/// The file that the interpreter is given.
pub(super) fn script(program: &[String]) -> Option<PathBuf> {
    let ends = [".py", ".js", ".mjs", ".cjs", ".ts"];
    program.iter().find(|word| ends.iter().any(|end| word.ends_with(end))).map(PathBuf::from)
}

/// Where the worker has a URL that guard does not set.
pub(super) fn bypasses(program: &[String], source: Option<&str>, dotenv: Option<&str>) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(url) = option(program, "--url") {
        found.push(Finding::error(format!(
            "url: the worker's --url {url} passes guard by: take it out, guard sets LIVEKIT_URL"
        )));
    }
    let code = |line: &&str| !line.trim_start().starts_with(['#', '/']);
    let lines = || source.into_iter().flat_map(str::lines).filter(code);
    if lines().any(|line| ["ws_url=", "ws_url =", "wsURL:"].iter().any(|word| line.contains(word))) {
        found.push(Finding::warning(
            "url: the program's file names a ws_url, which passes guard by unless it is LIVEKIT_URL's",
        ));
    }
    let overrides = lines().any(|line| line.contains("load_dotenv") && line.contains("override=True"));
    let named = dotenv.into_iter().flat_map(str::lines).any(|line| {
        let line = line.trim_start();
        line.strip_prefix("export ").unwrap_or(line).trim_start().starts_with("LIVEKIT_URL")
    });
    match (overrides, named) {
        (true, true) => found.push(Finding::error(
            "url: load_dotenv(override=True) puts the .env's LIVEKIT_URL over guard's: leave override out",
        )),
        (true, false) => found.push(Finding::warning(
            "url: load_dotenv(override=True) would put a LIVEKIT_URL of a .env over guard's: leave override out",
        )),
        (false, true) => found.push(Finding::ok("url: the .env's LIVEKIT_URL does not override guard's")),
        (false, false) => {}
    }
    if found.is_empty() && !program.is_empty() {
        found.push(Finding::ok("url: nothing that is seen here leads the worker past guard"));
    }
    found
}

/// An installed SDK, found by its package's files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Sdk {
    Python(String),
    Node(String),
}

/// Looks beside the interpreter and the program; knows nothing of a container's image.
pub(super) fn sdk(program: &[String]) -> Option<Sdk> {
    let interpreter = Path::new(program.first()?);
    let venv = interpreter.parent().and_then(Path::parent).map(|root| root.join("lib"));
    for library in venv.into_iter().filter_map(|lib| std::fs::read_dir(lib).ok()).flatten().flatten() {
        for package in std::fs::read_dir(library.path().join("site-packages")).into_iter().flatten().flatten()
        {
            let name = package.file_name();
            let version = name
                .to_str()
                .and_then(|name| name.strip_prefix("livekit_agents-")?.strip_suffix(".dist-info"));
            if let Some(version) = version {
                return Some(Sdk::Python(version.to_owned()));
            }
        }
    }
    let script = script(program)?;
    let beside = script.parent().unwrap_or(Path::new("")).join("node_modules/@livekit/agents/package.json");
    let package: serde_json::Value = serde_json::from_slice(&std::fs::read(beside).ok()?).ok()?;
    Some(Sdk::Node(package["version"].as_str()?.to_owned()))
}

/// Both SDKs' own drain by default: `drain_timeout`, `drainTimeout`.
const SDK_DRAIN: Duration = Duration::from_secs(3600);

/// Whether the worker's own drain would cut a call off in guard's.
pub(super) fn sdk_drain(sdk: Option<&Sdk>, forward: Option<&str>, drain: Duration) -> Finding {
    let (name, version, at_once) = match sdk {
        None => return Finding::ok("sdk: no package is seen here; guard tells by the worker's registration"),
        Some(Sdk::Python(version)) => ("livekit-agents", version, livekit_agents_drains_well(version)),
        Some(Sdk::Node(version)) => ("@livekit/agents", version, false),
    };
    let now = forward.map_or(at_once, |when| when == "now");
    let told = if now { "now" } else { "when-idle" };
    if now && drain > SDK_DRAIN {
        return Finding::warning(format!(
            "sdk: {name} {version} is told of a drain at once and ends its calls after {} unless its drain timeout is set, before --drain-timeout {}: set it, or --forward when-idle",
            format_duration(SDK_DRAIN),
            format_duration(drain)
        ));
    }
    Finding::ok(format!("sdk: {name} {version}, --forward {told}"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn words(line: &str) -> Vec<String> {
        shell_words::split(line).expect("words")
    }

    #[test]
    fn a_line_with_guard_is_split() {
        let line = words("last-call guard --drain-timeout=5m --max-jobs 3 -- python a.py start");
        let (guard, program) = split(&line);
        assert_eq!(option(guard, "--drain-timeout"), Some("5m"));
        assert_eq!(option(guard, "--max-jobs"), Some("3"));
        assert_eq!(program, words("python a.py start"));
        assert_eq!(split(program), (&[][..], program));
    }

    #[test]
    fn whoever_stands_between_is_named() {
        for (line, level) in [
            ("python agent.py start", Level::Ok),
            ("tini -- python agent.py start", Level::Warning),
            ("uv run agent.py start", Level::Warning),
            ("npm start", Level::Warning),
            ("npm install", Level::Ok),
            ("sh -c 'python agent.py start'", Level::Warning),
            ("sh -c 'cd /x && exec python agent.py start'", Level::Ok),
            ("python agent.py dev", Level::Warning),
            ("last-call guard -- python agent.py start", Level::Error),
        ] {
            let found = supervisors(&words(line));
            assert_eq!(found.iter().map(|one| one.level).max(), Some(level), "{line}: {found:?}");
        }
    }

    #[test]
    fn a_way_past_guard_is_named() {
        let start = words("python a.py start");
        for (program, source, dotenv, level) in [
            (&start, None, None, Level::Ok),
            (&words("python a.py start --url wss://x"), None, None, Level::Error),
            (&start, Some("server = AgentServer(ws_url='wss://x')"), None, Level::Warning),
            (&start, Some("# ws_url=x"), None, Level::Ok),
            (&start, Some("load_dotenv()"), Some("LIVEKIT_URL=wss://x"), Level::Ok),
            (&start, Some("load_dotenv(override=True)"), Some("export LIVEKIT_URL=wss://x"), Level::Error),
            (&start, Some("load_dotenv(override=True)"), None, Level::Warning),
        ] {
            let found = bypasses(program, source, dotenv);
            assert_eq!(
                found.iter().map(|one| one.level).max(),
                Some(level),
                "{program:?} {source:?}: {found:?}"
            );
        }
    }

    #[test]
    fn a_drain_longer_than_the_sdks_is_a_warning_where_it_is_told_at_once() {
        let (hour, long) = (Duration::from_secs(3600), Duration::from_secs(7200));
        let python = Sdk::Python("1.8.9".to_owned());
        assert_eq!(sdk_drain(Some(&python), None, long).level, Level::Warning);
        assert_eq!(sdk_drain(Some(&python), None, hour).level, Level::Ok);
        assert_eq!(sdk_drain(Some(&python), Some("when-idle"), long).level, Level::Ok);
        assert_eq!(sdk_drain(Some(&Sdk::Python("1.5.7".to_owned())), None, long).level, Level::Ok);
        assert_eq!(sdk_drain(Some(&Sdk::Node("1.9.0".to_owned())), Some("now"), long).level, Level::Warning);
        assert_eq!(sdk_drain(None, None, long).level, Level::Ok);
    }

    #[test]
    fn an_installed_sdk_is_found_by_its_files() {
        let root = tempfile::tempdir().expect("a directory");
        let package = root.path().join("lib/python3.11/site-packages/livekit_agents-1.5.7.dist-info");
        std::fs::create_dir_all(package).expect("a package");
        let python = root.path().join("bin/python").to_string_lossy().into_owned();
        assert_eq!(sdk(&[python, "a.py".to_owned()]), Some(Sdk::Python("1.5.7".to_owned())));
        let package = root.path().join("node_modules/@livekit/agents");
        std::fs::create_dir_all(&package).expect("a package");
        std::fs::write(package.join("package.json"), r#"{"version":"1.9.0"}"#).expect("its file");
        let script = root.path().join("a.mjs").to_string_lossy().into_owned();
        assert_eq!(sdk(&["node".to_owned(), script]), Some(Sdk::Node("1.9.0".to_owned())));
    }
}
