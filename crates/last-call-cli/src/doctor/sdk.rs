//! The SDK of the worker, and whether its own drain would come between guard's and the calls.
//!
//! Owns what is installed beside the program, and the drain timeout that stands in the program's text or arguments.
//! Refuses to understand the program: its text is searched, and what is found there is said to be found there.

use std::path::Path;

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

/// A drain timeout that is set for the SDK, as it stands in the arguments, which win, or in the program's text:
/// `app.py says drain_timeout=60`.
pub(super) fn setting(program: &[String], source: Option<&str>) -> Option<String> {
    let name = script(program)?;
    if let Some(value) = option(program, "--drain-timeout") {
        return Some(format!("the worker's arguments say --drain-timeout {}", shown::line(value)));
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
        Some(format!("{} says {word}{sign}{}", shown::line(name), shown::line(value)))
    })
}

/// Whether the worker's own drain would cut calls off in guard's: it counts only where guard tells it at once, by
/// `forward`.
pub(super) fn drain(
    sdk: Option<&Sdk>,
    program: &[String],
    setting: Option<&str>,
    forward: Option<&str>,
) -> Finding {
    let name = match sdk {
        Some(Sdk::Python(version)) => format!("livekit-agents {version}"),
        Some(Sdk::Node(version)) => format!("@livekit/agents {version}"),
        None => "no package is seen here".to_owned(),
    };
    let name = shown::line(&name);
    let said = setting.map(|said| format!("; {said}")).unwrap_or_default();
    if forward != Some("now") {
        return Finding::ok(format!("sdk: {name}, told of a drain when its last call is over{said}"));
    }
    // A worker of Last Call is no script.
    if sdk.is_none() && script(program).is_none() {
        return Finding::ok(format!("sdk: {name}, --forward now{said}"));
    }
    Finding::warning(format!(
        "sdk: {name}, --forward now{said}; that starts the SDK's own drain while calls run, which ends them at its own \
         timeout, and may lose them before: leave --forward out"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

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
        for (line, source, said) in [
            ("python a.py start", "AgentServer(drain_timeout=60)", "a.py says drain_timeout=60"),
            ("python a.py start", "\n  drain_timeout = 30 * 60, # x", "a.py says drain_timeout=30 * 60"),
            ("python a.py start", "{'drain_timeout': 7_200}", "a.py says drain_timeout=7_200"),
            ("python a.py start", "drain_timeout=TIMES[0])", "a.py says drain_timeout=TIMES[0]"),
            ("python a.py start --drain-timeout 5", "drain_timeout=60", "arguments say --drain-timeout 5"),
            ("node a.mjs start", "drainTimeout: 60_000,", "a.mjs says drainTimeout: 60_000"),
            ("node a.js start", "drainTimeout: 60 * 60 * 1e3 }", "a.js says drainTimeout: 60 * 60 * 1e3"),
            ("node a.js start", "drainTimeout: 5000 // five", "a.js says drainTimeout: 5000"),
        ] {
            let found = setting(&words(line), Some(source)).expect(source);
            assert!(found.ends_with(said), "{found:?}");
        }
        for source in
            ["", "# drain_timeout=60", "my_drain_timeout=60", "if drain_timeout == 60:", "drainTimeout: 60"]
        {
            assert_eq!(setting(&words("python a.py start"), Some(source)), None, "{source}");
        }
        assert_eq!(setting(&words("python a.py start"), None), None);
    }

    #[test]
    fn a_drain_of_the_sdks_own_while_calls_run_is_a_warning() {
        let (python, node) = (python("1.8.9"), Sdk::Node("1.9.0".to_owned()));
        for (sdk, program, forward, level) in [
            (Some(&python), "python a.py start", None, Level::Ok),
            (Some(&python), "python a.py start", Some("when-idle"), Level::Ok),
            (Some(&python), "python a.py start", Some("now"), Level::Warning),
            (Some(&node), "node a.js start", Some("now"), Level::Warning),
            (None, "python a.py start", Some("now"), Level::Warning),
            (None, "./agent start", Some("now"), Level::Ok),
        ] {
            let said = Some("a.py says drain_timeout=60");
            let found = drain(sdk, &words(program), said, forward);
            assert_eq!(found.level, level, "{sdk:?} {program} {forward:?}: {found:?}");
            assert!(found.text.contains("drain_timeout=60"), "{found:?}");
        }
    }
}
