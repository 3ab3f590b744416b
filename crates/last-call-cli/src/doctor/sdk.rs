//! The SDK of the worker, and whether its own drain would cut calls off in guard's.
//!
//! Owns what is installed beside the program, and the drain timeout that stands in the program's text or arguments.
//! Refuses to understand the program: its text is searched, and what is found there is said to be found there.

use std::path::Path;
use std::time::Duration;

use humantime::format_duration;
use last_call_worker::livekit_agents_drains_well;

use super::files;
use super::finding::Finding;
use super::program::{option, script};
use crate::shown;

/// An installed SDK, found by its package's files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Sdk {
    Python(String),
    Node(String),
}

/// Looks beside the interpreter and the program, which starts in `place`.
pub(super) fn installed(place: &Path, program: &[String]) -> Option<Sdk> {
    let interpreter = program.first().filter(|name| name.contains('/')).map(|name| place.join(name));
    let venv = interpreter.and_then(|path| Some(path.parent()?.parent()?.join("lib")));
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
    let script = place.join(script(program)?);
    let beside = script.parent()?.join("node_modules/@livekit/agents/package.json");
    let package: serde_json::Value = serde_json::from_str(&files::read(&beside).ok()?).ok()?;
    Some(Sdk::Node(package["version"].as_str()?.to_owned()))
}

/// A drain timeout that is set for the SDK.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Setting {
    /// Where, and how it stands there: `app.py says drain_timeout=60`.
    said: String,
    /// Where it could be read.
    time: Option<Duration>,
}

/// The setting of the arguments, which wins, or that of the program's text.
pub(super) fn setting(program: &[String], source: Option<&str>) -> Option<Setting> {
    let name = script(program)?;
    if let Some(value) = option(program, "--drain-timeout") {
        let said = format!("the worker's arguments say --drain-timeout {}", shown::line(value));
        return Some(Setting { said, time: product(value).map(Duration::from_secs) });
    }
    let node = !name.ends_with(".py");
    let (word, signs) = if node { ("drainTimeout", [':', '=']) } else { ("drain_timeout", ['=', ':']) };
    source?.lines().filter(|line| !line.trim_start().starts_with(['#', '/', '*'])).find_map(|line| {
        let (before, behind) = line.split_once(word)?;
        let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let value = behind.trim_start_matches(['"', '\'']).trim_start().strip_prefix(signs)?;
        let value = Some(value).filter(|value| whole && !value.starts_with('='))?;
        let value = value.split([',', ')', '}', ';', '#']).next()?.split("//").next()?.trim();
        let sign = if node { ": " } else { "=" };
        let said = format!("{} says {word}{sign}{}", shown::line(name), shown::line(value));
        let time = product(value).map(|number| match number {
            // Both SDKs take it for no limit.
            0 => Duration::MAX,
            _ if node => Duration::from_millis(number),
            _ => Duration::from_secs(number),
        });
        Some(Setting { said, time })
    })
}

/// A number, or some of them with `*` between, as times are written.
fn product(text: &str) -> Option<u64> {
    text.split('*').try_fold(1_u64, |product, factor| {
        let digits = factor.trim().replace('_', "");
        let number = match digits.strip_suffix("e3") {
            Some(thousands) => thousands.parse::<u64>().ok()?.checked_mul(1000)?,
            None => digits.parse().ok()?,
        };
        product.checked_mul(number)
    })
}

/// What counts where nothing is set: livekit-agents before the one that drains well has half an hour.
fn default_of(sdk: Option<&Sdk>) -> Duration {
    match sdk {
        Some(Sdk::Python(version)) if !livekit_agents_drains_well(version) => Duration::from_secs(1800),
        Some(_) | None => Duration::from_secs(3600),
    }
}

/// Whether the worker's own drain would cut a call off in guard's. `forward` is guard's, where it is set.
pub(super) fn drain(
    sdk: Option<&Sdk>,
    program: &[String],
    setting: Option<&Setting>,
    forward: Option<&str>,
    drain: Duration,
) -> Finding {
    let python = script(program).is_some_and(|name| name.ends_with(".py"));
    let (name, at_once) = match sdk {
        Some(Sdk::Python(version)) => {
            (format!("livekit-agents {version}"), livekit_agents_drains_well(version))
        }
        Some(Sdk::Node(version)) => (format!("@livekit/agents {version}"), false),
        // It may be one that is told at once.
        None => ("no package is seen here".to_owned(), python && setting.is_some()),
    };
    let name = shown::line(&name);
    let now = forward.map_or(at_once, |when| when == "now");
    let said = setting.map(|setting| format!("; {}", setting.said)).unwrap_or_default();
    if !now {
        let told = match (sdk, forward) {
            (None, None) => "guard tells by the worker's registration",
            (Some(_), _) | (None, Some(_)) => "--forward when-idle",
        };
        return Finding::ok(format!("sdk: {name}, {told}{said}"));
    }
    let limit = match setting {
        None => default_of(sdk),
        Some(Setting { time: Some(time), .. }) => *time,
        Some(Setting { time: None, .. }) => {
            return Finding::warning(format!(
                "sdk: {name}{said}, which is no plain number: calls end then, so it must be no less than guard's --drain-timeout {}",
                format_duration(drain)
            ));
        }
    };
    if limit >= drain {
        return Finding::ok(format!("sdk: {name}, --forward now{said}"));
    }
    let known = if sdk.is_some() { "is" } else { "may be" };
    Finding::warning(format!(
        "sdk: {name}{said}; the worker {known} told of a drain at once and ends its calls after {}, before guard's --drain-timeout {}: set the SDK's to {} or more, or --forward when-idle",
        format_duration(limit),
        format_duration(drain),
        format_duration(drain)
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn words(line: &str) -> Vec<String> {
        shell_words::split(line).expect("words")
    }

    fn python(version: &str) -> Sdk {
        Sdk::Python(version.to_owned())
    }

    #[test]
    fn an_installed_sdk_is_found_by_its_files() {
        let root = tempfile::tempdir().expect("a directory");
        let package = root.path().join(".venv/lib/python3.11/site-packages/livekit_agents-1.5.7.dist-info");
        std::fs::create_dir_all(package).expect("a package");
        let found = |line: &str| installed(root.path(), &words(line));
        assert_eq!(found(".venv/bin/python a.py start"), Some(python("1.5.7")));
        assert_eq!(found("python a.py start"), None);
        // One of PATH has its packages elsewhere.
        assert_eq!(installed(&root.path().join(".venv/app"), &words("python a.py start")), None);
        let package = root.path().join("node_modules/@livekit/agents");
        std::fs::create_dir_all(&package).expect("a package");
        std::fs::write(package.join("package.json"), r#"{"version":"1.9.0"}"#).expect("its file");
        assert_eq!(found("node a.mjs start"), Some(Sdk::Node("1.9.0".to_owned())));
        for nonsense in ["", "[]", "{\"version\": 1}"] {
            std::fs::write(package.join("package.json"), nonsense).expect("its file");
            assert_eq!(found("node a.mjs start"), None, "{nonsense}");
        }
    }

    #[test]
    fn a_drain_timeout_is_found_in_the_programs_text() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (line, source, said, time) in [
            ("python a.py start", "AgentServer(drain_timeout=60)", "a.py says drain_timeout=60", seconds(60)),
            (
                "python a.py start",
                "\n  drain_timeout = 30 * 60, # x",
                "a.py says drain_timeout=30 * 60",
                seconds(1800),
            ),
            ("python a.py start", "{'drain_timeout': 7_200}", "a.py says drain_timeout=7_200", seconds(7200)),
            ("python a.py start", "drain_timeout=0)", "a.py says drain_timeout=0", Some(Duration::MAX)),
            ("python a.py start", "drain_timeout=TIMES[0])", "a.py says drain_timeout=TIMES[0]", None),
            (
                "python a.py start --drain-timeout 5",
                "drain_timeout=60",
                "arguments say --drain-timeout 5",
                seconds(5),
            ),
            ("node a.mjs start", "drainTimeout: 60_000,", "a.mjs says drainTimeout: 60_000", seconds(60)),
            (
                "node a.js start",
                "drainTimeout: 60 * 60 * 1e3 }",
                "a.js says drainTimeout: 60 * 60 * 1e3",
                seconds(3600),
            ),
        ] {
            let found = setting(&words(line), Some(source)).expect(source);
            assert!(found.said.ends_with(said), "{found:?}");
            assert_eq!(found.time, time, "{found:?}");
        }
        let found =
            setting(&words("node a.js start"), Some("drainTimeout: 5000 // five")).expect("a setting");
        assert_eq!(found.time, seconds(5));
        for source in
            ["", "# drain_timeout=60", "my_drain_timeout=60", "if drain_timeout == 60:", "drainTimeout: 60"]
        {
            assert_eq!(setting(&words("python a.py start"), Some(source)), None, "{source}");
        }
        assert_eq!(setting(&words("python a.py start"), None), None);
    }

    #[test]
    fn a_drain_longer_than_the_sdks_is_a_warning_where_it_is_told_at_once() {
        let long = HOUR * 2;
        let node = Sdk::Node("1.9.0".to_owned());
        for (sdk, source, forward, time, level) in [
            (Some(&python("1.8.9")), "", None, long, Level::Warning),
            (Some(&python("1.8.9")), "", None, HOUR, Level::Ok),
            (Some(&python("1.8.9")), "", Some("when-idle"), long, Level::Ok),
            (Some(&python("1.8.9")), "drain_timeout=7200", None, long, Level::Ok),
            (Some(&python("1.8.9")), "drain_timeout=7199", None, long, Level::Warning),
            (Some(&python("1.8.9")), "drain_timeout=60", None, HOUR, Level::Warning),
            (Some(&python("1.8.9")), "drain_timeout=60", Some("when-idle"), HOUR, Level::Ok),
            (Some(&python("1.8.9")), "drain_timeout=x", None, HOUR, Level::Warning),
            (Some(&python("1.8.9")), "drain_timeout=0", None, long, Level::Ok),
            (Some(&python("1.5.7")), "drain_timeout=60", None, long, Level::Ok),
            (Some(&python("1.5.7")), "", Some("now"), HOUR, Level::Warning),
            (Some(&node), "", Some("now"), long, Level::Warning),
            (Some(&node), "", None, long, Level::Ok),
            (None, "drain_timeout=60", None, HOUR, Level::Warning),
            (None, "", None, long, Level::Ok),
            (None, "", Some("now"), long, Level::Warning),
        ] {
            let program = words("python a.py start");
            let found = drain(sdk, &program, setting(&program, Some(source)).as_ref(), forward, time);
            assert_eq!(found.level, level, "{sdk:?} {source} {forward:?}: {found:?}");
            assert!(found.text.contains(source.split(')').next().unwrap_or_default()), "{found:?}");
        }
        // It is told when it is idle, whatever its version.
        let program = words("node a.js start");
        let set = setting(&program, Some("drainTimeout: 5"));
        assert_eq!(drain(None, &program, set.as_ref(), None, HOUR).level, Level::Ok);
    }
}
