//! What stands between guard and the worker, and what leads the worker past guard.
//!
//! Owns what the command line, the program's file and the `.env` beside it give away. Refuses to run anything.

use std::path::Path;

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
pub(super) fn script(program: &[String]) -> Option<&str> {
    let ends = [".py", ".js", ".mjs", ".cjs", ".ts"];
    program.iter().find(|word| ends.iter().any(|end| word.ends_with(end))).map(String::as_str)
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
}
