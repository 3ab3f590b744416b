//! What the environment and the arguments say beside the drain: ports, proxies, secrets, the server's URL.
//!
//! Owns these looks. Refuses to show a secret, or a URL's password.

use std::collections::BTreeMap;

use url::Url;

use super::finding::Finding;
use super::program::option;

pub(super) fn check(env: &BTreeMap<String, String>, guard: &[String], program: &[String]) -> Vec<Finding> {
    let mut found = Vec::from_iter([ports(env, guard, program), secret(guard, program), server(env, guard)]);
    found.extend(inherited(env));
    found.extend(proxies(env));
    found
}

/// A worker of the SDKs listens at 8081.
fn ports(env: &BTreeMap<String, String>, guard: &[String], program: &[String]) -> Finding {
    let http = option(guard, "--http").or_else(|| env.get("LAST_CALL_GUARD_HTTP").map(String::as_str));
    let http = http.unwrap_or("0.0.0.0:8082");
    let port = http.rsplit(':').next().unwrap_or(http);
    let theirs = option(program, "--port").unwrap_or("8081");
    if port == theirs {
        return Finding::error(format!(
            "ports: guard's --http {http} is the worker's own port: one of the two does not start; use 8082"
        ));
    }
    Finding::ok(format!("ports: guard serves probes at {http}, the worker its own at {theirs}"))
}

fn inherited(env: &BTreeMap<String, String>) -> Option<Finding> {
    let names = ["LAST_CALL_HTTP", "LAST_CALL_ADMIN_SOCKET"];
    let name = names.into_iter().find(|name| env.contains_key(*name))?;
    let own = name.replace("LAST_CALL_", "LAST_CALL_GUARD_");
    Some(Finding::warning(format!(
        "ports: {name} is for a worker of ours, and guard does not read it: {own} is guard's"
    )))
}

fn proxies(env: &BTreeMap<String, String>) -> Option<Finding> {
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];
    let (name, value) =
        names.into_iter().find_map(|name| Some((name, env.get(name).filter(|value| !value.is_empty())?)))?;
    let scheme = value.split("://").next().filter(|_| value.contains("://")).unwrap_or("http");
    Some(if scheme == "http" {
        Finding::ok(format!(
            "proxy: {name} is set; the worker gets a stand-in on loopback, which keeps guard's address and passes the rest on"
        ))
    } else {
        Finding::warning(format!(
            "proxy: {name} names a proxy of {scheme}://, for which guard has no stand-in: a worker that hands its WebSocket there does not register"
        ))
    })
}

/// Arguments are there for every user of the machine to read.
fn secret(guard: &[String], program: &[String]) -> Finding {
    let given = |words| option(words, "--api-secret").is_some();
    let spelled = program.iter().chain(guard).any(|word| word.contains("LIVEKIT_API_SECRET="));
    if given(guard) || given(program) || spelled {
        return Finding::error(
            "secrets: the API secret stands in the arguments, which every user can read: use LIVEKIT_API_SECRET or --api-secret-file",
        );
    }
    Finding::ok("secrets: no API secret in the arguments")
}

fn server(env: &BTreeMap<String, String>, guard: &[String]) -> Finding {
    let Some(given) = option(guard, "--url").or_else(|| env.get("LIVEKIT_URL").map(String::as_str)) else {
        return Finding::ok(
            "url: LIVEKIT_URL is not seen here; where it is not set, guard dials ws://localhost:7880",
        );
    };
    let Ok(url) = given.parse::<Url>() else {
        return Finding::error("url: LIVEKIT_URL is no URL: use wss://HOST");
    };
    let host = url.host_str().unwrap_or_default();
    let near = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    let shown = format!("{}://{host}", url.scheme());
    let allowed =
        env.get("LAST_CALL_INSECURE_WS").is_some_and(|value| !matches!(&**value, "" | "0" | "false"))
            || guard.iter().any(|word| word == "--insecure-ws");
    match url.scheme() {
        "wss" | "https" => Finding::ok(format!("url: {shown}")),
        "ws" | "http" if near => Finding::ok(format!("url: {shown}")),
        "ws" | "http" if allowed => {
            Finding::warning(format!("url: {shown} carries tokens in the clear, as --insecure-ws allows"))
        }
        "ws" | "http" => Finding::error(format!(
            "url: {shown} would carry tokens in the clear: use wss://, or allow it by --insecure-ws"
        )),
        scheme => Finding::error(format!("url: {scheme}:// is no scheme of a LiveKit server: use wss://")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[track_caller]
    fn worst(env: &[(&str, &str)], guard: &str, program: &str) -> Vec<Finding> {
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let words = |line| shell_words::split(line).expect("words");
        let mut found = check(&env, &words(guard), &words(program));
        found.retain(|one| one.level > Level::Ok);
        found
    }

    #[test]
    fn plain_text_is_for_loopback_or_allowed() {
        for url in ["ws://localhost:7880", "ws://127.0.0.1", "http://[::1]:7880"] {
            assert_eq!(worst(&[("LIVEKIT_URL", url)], "", ""), [], "{url}");
        }
        for (allowed, level) in
            [("1", Level::Warning), ("true", Level::Warning), ("0", Level::Error), ("false", Level::Error)]
        {
            let found = worst(&[("LIVEKIT_URL", "ws://far"), ("LAST_CALL_INSECURE_WS", allowed)], "", "");
            assert!(matches!(&found[..], [one] if one.level == level), "{allowed}: {found:?}");
        }
    }

    #[test]
    fn each_bad_setting_is_one_line() {
        assert_eq!(
            worst(&[("LIVEKIT_URL", "wss://x"), ("HTTPS_PROXY", "http://u:pw@p")], "", "python a.py start"),
            []
        );
        for (env, guard, program, said, level) in [
            (("A", ""), "--http 0.0.0.0:8081", "", "ports", Level::Error),
            (("A", ""), "", "node a.js start --port 8082", "ports", Level::Error),
            (("LAST_CALL_GUARD_HTTP", "8081"), "", "", "ports", Level::Error),
            (("LAST_CALL_HTTP", "off"), "", "", "LAST_CALL_GUARD_HTTP", Level::Warning),
            (("LAST_CALL_ADMIN_SOCKET", "/run/x"), "", "", "LAST_CALL_GUARD_ADMIN_SOCKET", Level::Warning),
            (("https_proxy", "https://u:pw@p"), "", "", "https://", Level::Warning),
            (("HTTP_PROXY", "socks5://u:pw@p"), "", "", "socks5", Level::Warning),
            (("A", ""), "", "python a.py start --api-secret=pw", "secrets", Level::Error),
            (("A", ""), "", "env LIVEKIT_API_SECRET=pw python a.py", "secrets", Level::Error),
            (("LIVEKIT_URL", "ws://u:pw@far"), "", "", "clear", Level::Error),
            (("A", ""), "--api-secret pw", "", "secrets", Level::Error),
            (("A", ""), "--url ws://u:pw@far", "", "clear", Level::Error),
            (("LIVEKIT_URL", "ws://far"), "--insecure-ws", "", "clear", Level::Warning),
            (("LIVEKIT_URL", "ftp://far"), "", "", "ftp:// is no scheme", Level::Error),
            (("LIVEKIT_URL", "pw"), "", "", "no URL", Level::Error),
        ] {
            let found = worst(&[env], guard, program);
            assert!(
                matches!(&found[..], [one] if one.level == level && one.text.contains(said)),
                "{said}: {found:?}"
            );
            assert!(!found[0].text.contains("pw"), "{found:?}");
        }
    }
}
