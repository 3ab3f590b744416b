//! What a deployment's file says: a manifest of Kubernetes, a file of Compose, a unit of systemd.
//!
//! Owns the reading of the three. Refuses templates (Helm, Kustomize): they are read once they are rendered.

use std::collections::BTreeMap;
use std::time::Duration;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::{Yaml, YamlLoader};

use super::grace::{Grace, Platform};

/// What the first workload in a file asks for.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) grace: Grace,
    pub(super) env: BTreeMap<String, String>,
    /// The command and its arguments, where the file has them.
    pub(super) words: Vec<String>,
}

/// Reads `text`, which `name` says the kind of.
///
/// # Errors
/// What is wrong with it, for a person.
pub(super) fn read(name: &str, text: &str) -> Result<Manifest, String> {
    if name.ends_with(".service") { Ok(unit(text)) } else { yaml(text) }
}

/// Deeper, or with more aliases, a small file can grow without bounds in memory.
const DEPTH: usize = 64;
const ALIASES: usize = 32;

fn bounded(text: &str) -> Result<(), String> {
    let mut parser = Parser::new(text.chars());
    let (mut depth, mut aliases) = (0_usize, 0_usize);
    loop {
        let (event, _) = parser.next_token().map_err(|error| format!("it is not YAML: {error}"))?;
        match event {
            Event::StreamEnd => return Ok(()),
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            Event::Alias(_) => aliases += 1,
            Event::Nothing
            | Event::StreamStart
            | Event::DocumentStart
            | Event::DocumentEnd
            | Event::Scalar(..) => {}
        }
        if depth > DEPTH || aliases > ALIASES {
            return Err(format!("it is deeper than {DEPTH} levels or has more than {ALIASES} aliases"));
        }
    }
}

fn yaml(text: &str) -> Result<Manifest, String> {
    bounded(text)?;
    let documents = YamlLoader::load_from_str(text).map_err(|error| format!("it is not YAML: {error}"))?;
    documents.iter().find_map(|document| pod(document).or_else(|| compose(document))).ok_or_else(|| {
        "it has neither a pod with containers nor Compose services; a template is read once rendered (helm template)"
            .to_owned()
    })
}

fn pod(document: &Yaml) -> Option<Manifest> {
    let spec = &document["spec"];
    let spec = [&spec["template"]["spec"], &spec["jobTemplate"]["spec"]["template"]["spec"], spec]
        .into_iter()
        .find(|spec| spec["containers"].is_array())?;
    let containers = spec["containers"].as_vec()?;
    // Beside sidecars: the one whose command is guard's.
    let container = containers
        .iter()
        .find(|one| words_of(one).iter().any(|word| word == "guard"))
        .or_else(|| containers.first())?;
    let pre_stop = &container["lifecycle"]["preStop"];
    let slept =
        pre_stop["sleep"]["seconds"].as_i64().or_else(|| slept(&strings(&pre_stop["exec"]["command"])));
    let env = container["env"].as_vec().into_iter().flatten();
    Some(Manifest {
        grace: Grace {
            platform: Platform::Kubernetes,
            set: spec["terminationGracePeriodSeconds"].as_i64().and_then(seconds),
            pre_stop: slept.and_then(seconds).unwrap_or_default(),
            extends: false,
        },
        env: env.filter_map(|one| Some((scalar(&one["name"])?, scalar(&one["value"])?))).collect(),
        words: words_of(container),
    })
}

fn words_of(container: &Yaml) -> Vec<String> {
    [strings(&container["command"]), strings(&container["args"])].concat()
}

/// `sleep N`, also inside of `sh -c`.
fn slept(command: &[String]) -> Option<i64> {
    let words: Vec<_> = command.iter().flat_map(|word| word.split([' ', ';', '&'])).collect();
    words.windows(2).find(|two| two[0].ends_with("sleep")).and_then(|two| two[1].parse().ok())
}

fn compose(document: &Yaml) -> Option<Manifest> {
    let services = document["services"].as_hash()?;
    let words = |service: &Yaml| [strings(&service["entrypoint"]), strings(&service["command"])].concat();
    let service = services
        .values()
        .find(|one| words(one).iter().any(|word| word == "guard"))
        .or_else(|| services.values().next())?;
    let mut env = BTreeMap::new();
    for (key, value) in service["environment"].as_hash().into_iter().flatten() {
        env.extend(scalar(key).zip(scalar(value)));
    }
    for line in service["environment"].as_vec().into_iter().flatten().filter_map(Yaml::as_str) {
        env.extend(line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    let set = scalar(&service["stop_grace_period"]).and_then(|text| last_call_worker::duration(&text).ok());
    Some(Manifest {
        grace: Grace { platform: Platform::Docker, set, pre_stop: Duration::ZERO, extends: false },
        env,
        words: words(service),
    })
}

fn unit(text: &str) -> Manifest {
    let text = text.replace("\\\n", " ");
    let (mut set, mut kind, mut words) = (None, "", Vec::new());
    let mut env = BTreeMap::new();
    for (key, value) in text.lines().filter_map(|line| line.trim().split_once('=')) {
        match key.trim() {
            // "infinity" is as long as it takes.
            "TimeoutStopSec" | "TimeoutSec" => {
                let forever = matches!(value.trim(), "infinity" | "0");
                let time = last_call_worker::duration(value.trim()).ok();
                set = if forever { Some(Duration::from_secs(366 * 24 * 3600)) } else { time };
            }
            "Type" => kind = value.trim(),
            "ExecStart" => {
                words = shell_words::split(value.trim_start_matches(['-', '@', ':', '+', '!']))
                    .unwrap_or_default()
            }
            "Environment" => {
                let pairs = shell_words::split(value).unwrap_or_default();
                let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
                env.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
            }
            _ => {}
        }
    }
    let extends = matches!(kind, "notify" | "notify-reload");
    Manifest {
        grace: Grace { platform: Platform::Systemd, set, pre_stop: Duration::ZERO, extends },
        env,
        words,
    }
}

fn seconds(number: i64) -> Option<Duration> {
    u64::try_from(number).ok().map(Duration::from_secs)
}

/// A list of strings, or one string as a shell would split it.
fn strings(yaml: &Yaml) -> Vec<String> {
    if let Some(line) = yaml.as_str() {
        return shell_words::split(line).unwrap_or_default();
    }
    yaml.as_vec().into_iter().flatten().filter_map(scalar).collect()
}

fn scalar(yaml: &Yaml) -> Option<String> {
    if let Some(text) = yaml.as_str() {
        return Some(text.to_owned());
    }
    yaml.as_i64()
        .map(|number| number.to_string())
        .or_else(|| yaml.as_bool().map(|truth| truth.to_string()))
        .or_else(|| yaml.as_f64().map(|number| number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "
kind: Deployment
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 910
      containers:
        - name: sidecar
          command: [envoy]
        - name: agent
          args: [guard, --drain-timeout, 15m, --, python, agent.py, start]
          env: [{name: LAST_CALL_MAX_JOBS, value: '5'}]
          lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 7; true']}}}
";

    #[test]
    fn a_pod_is_read() {
        let Manifest { grace, env, words } = read("x.yaml", POD).expect("a manifest");
        assert_eq!((grace.set, grace.pre_stop), (Some(Duration::from_secs(910)), Duration::from_secs(7)));
        assert_eq!(env["LAST_CALL_MAX_JOBS"], "5");
        assert_eq!(words[..2], ["guard", "--drain-timeout"]);
    }

    #[test]
    fn compose_is_read() {
        let text = "services:\n  agent:\n    command: last-call guard -- node a.js start\n    stop_grace_period: 1m30s\n    environment: [A=b]\n";
        let Manifest { grace, env, words } = read("compose.yaml", text).expect("a manifest");
        assert_eq!((grace.platform, grace.set), (Platform::Docker, Some(Duration::from_secs(90))));
        assert_eq!((&*env["A"], words.len()), ("b", 6));
    }

    #[test]
    fn a_unit_is_read() {
        let text = "[Service]\nType=notify\nTimeoutStopSec=30\nEnvironment=A=b \"C=d e\"\nExecStart=/bin/last-call guard \\\n  -- python a.py start\n";
        let Manifest { grace, env, words } = read("a.service", text).expect("a unit");
        assert!(grace.extends);
        assert_eq!((grace.set, &*env["C"], words.len()), (Some(Duration::from_secs(30)), "d e", 6));
    }

    #[test]
    fn what_is_no_deployment_is_said() {
        let laughs = format!("a: &a x\nb: [{}]", "*a, ".repeat(40));
        for (text, said) in
            [("a: [", "not YAML"), ("a: 1", "neither"), (&laughs, "aliases"), (&"[".repeat(100), "deeper")]
        {
            let error = read("x.yaml", text).expect_err(text);
            assert!(error.contains(said), "{error}");
        }
    }
}
