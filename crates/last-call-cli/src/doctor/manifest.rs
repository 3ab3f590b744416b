//! What a deployment's file says: a manifest of Kubernetes, a file of Compose, or a unit, which is read beside this.
//!
//! Owns the reading of YAML. Refuses templates (Helm, Kustomize): they are read once they are rendered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::{Yaml, YamlLoader};

use super::finding::Finding;
use super::grace::{Grace, Platform};
use super::unit;
use crate::shown;

/// What the first workload in a file asks for.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) grace: Grace,
    pub(super) env: BTreeMap<String, String>,
    /// The command and its arguments, where the file has them.
    pub(super) words: Vec<String>,
    /// Where the command starts, on this machine; nowhere for one in an image.
    pub(super) place: Option<PathBuf>,
    /// What the file sets and cannot be meant so.
    pub(super) wrong: Vec<Finding>,
}

/// Reads `text`, which `name` says the kind of.
///
/// # Errors
/// What is wrong with it, for a person.
pub(super) fn read(name: &str, text: &str) -> Result<Manifest, String> {
    if name.ends_with(".service") { Ok(unit::read(text)) } else { yaml(text) }
}

/// What is deeper is no deployment, and the loader goes down by recursion.
const DEPTH: usize = 64;
/// Scalars, lists and mappings, and the bytes in them, once each alias stands for what it names: aliases of aliases make
/// much of a small file.
const WEIGHT: usize = 8 << 20;

fn bounded(text: &str) -> Result<(), String> {
    let mut parser = Parser::new(text.chars());
    let (mut weight, mut open) = (0_usize, Vec::new());
    let mut anchors = BTreeMap::new();
    loop {
        let (event, _) = parser.next_token().map_err(|error| format!("it is not YAML: {error}"))?;
        let before = weight;
        match event {
            Event::StreamEnd => return Ok(()),
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                open.push((anchor, before));
                weight += 1;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                anchors.extend(open.pop().map(|(anchor, before)| (anchor, weight - before)));
            }
            Event::Scalar(text, _, anchor, _) => {
                weight += text.len() + 1;
                anchors.insert(anchor, weight - before);
            }
            Event::Alias(anchor) => weight += anchors.get(&anchor).copied().unwrap_or(1),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => {}
        }
        if open.len() > DEPTH || weight > WEIGHT {
            return Err(format!(
                "it is deeper than {DEPTH} levels, or larger than {} MiB with all its aliases",
                WEIGHT >> 20
            ));
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
    let env = container["env"].as_vec().into_iter().flatten();
    let mut wrong = Vec::new();
    let mut number = |name: &str, yaml: &Yaml| {
        let number = yaml.as_i64().and_then(seconds);
        if number.is_none() && !matches!(yaml, Yaml::BadValue | Yaml::Null) {
            let value = shown::line(&scalar(yaml).unwrap_or_else(|| "no number".to_owned()));
            wrong.push(Finding::error(format!(
                "grace period: {name} is {value}, and Kubernetes takes whole seconds alone"
            )));
        }
        number
    };
    let set = number("terminationGracePeriodSeconds", &spec["terminationGracePeriodSeconds"]);
    let slept = number("preStop.sleep.seconds", &pre_stop["sleep"]["seconds"])
        .or_else(|| slept(&strings(&pre_stop["exec"]["command"])));
    Some(Manifest {
        grace: Grace { set, pre_stop: slept.unwrap_or_default(), ..Grace::of(Platform::Kubernetes) },
        env: env.filter_map(|one| Some((scalar(&one["name"])?, scalar(&one["value"])?))).collect(),
        words: words_of(container),
        place: None,
        wrong,
    })
}

fn words_of(container: &Yaml) -> Vec<String> {
    [strings(&container["command"]), strings(&container["args"])].concat()
}

/// `sleep N`, also inside of `sh -c`.
fn slept(command: &[String]) -> Option<Duration> {
    let words: Vec<_> = command.iter().flat_map(|word| word.split([' ', ';', '&'])).collect();
    let time = words.windows(2).find(|two| two[0].ends_with("sleep")).map(|two| two[1])?;
    last_call_worker::duration(time).ok()
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
    let given = scalar(&service["stop_grace_period"]);
    let set = given.as_deref().and_then(|text| last_call_worker::duration(text).ok());
    let wrong = given.filter(|_| set.is_none()).map(|text| {
        Finding::error(format!(
            "grace period: stop_grace_period is {}, which is no time: use 1m30s",
            shown::line(&text)
        ))
    });
    Some(Manifest {
        grace: Grace { set, ..Grace::of(Platform::Docker) },
        env,
        words: words(service),
        place: None,
        wrong: wrong.into_iter().collect(),
    })
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
        let Manifest { grace, env, words, place, wrong } = read("x.yaml", POD).expect("a manifest");
        assert_eq!((place, wrong), (None, Vec::new()));
        assert_eq!((grace.set, grace.pre_stop), (Some(Duration::from_secs(910)), Duration::from_secs(7)));
        assert_eq!(env["LAST_CALL_MAX_JOBS"], "5");
        assert_eq!(words[..2], ["guard", "--drain-timeout"]);
    }

    #[test]
    fn compose_is_read() {
        let text = "services:\n  agent:\n    command: last-call guard -- node a.js start\n    stop_grace_period: 1m30s\n    environment: [A=b]\n";
        let Manifest { grace, env, words, place, wrong } = read("compose.yaml", text).expect("a manifest");
        assert_eq!((place, wrong), (None, Vec::new()));
        assert_eq!((grace.platform, grace.set), (Platform::Docker, Some(Duration::from_secs(90))));
        assert_eq!((&*env["A"], words.len()), ("b", 6));
        let text = "services: {a: {command: x}, b: {entrypoint: [guard, --], command: y, environment: {A: 5, B: true}}}";
        let Manifest { grace, env, words, .. } = read("compose.yaml", text).expect("a manifest");
        assert_eq!((grace.set, &*env["A"], &*env["B"]), (None, "5", "true"));
        assert_eq!(words, ["guard", "--", "y"]);
    }

    #[test]
    fn each_kind_of_workload_is_read() {
        for (before, behind) in [
            ("kind: Pod\nspec: ", ""),
            ("kind: StatefulSet\nspec: {template: {spec: ", "}}"),
            ("a: b\n---\nkind: CronJob\nspec: {jobTemplate: {spec: {template: {spec: ", "}}}}"),
        ] {
            let text = format!(
                "{before}{{terminationGracePeriodSeconds: 7, containers: [{{command: a b, lifecycle: {{preStop: {{sleep: {{seconds: 3}}}}}}}}]}}{behind}"
            );
            let Manifest { grace, words, .. } = read("x.yaml", &text).expect(&text);
            let seconds = |grace: Grace| (grace.set, grace.pre_stop);
            assert_eq!(seconds(grace), (Some(Duration::from_secs(7)), Duration::from_secs(3)), "{text}");
            assert_eq!(words, ["a", "b"], "{text}");
        }
    }

    #[test]
    fn a_unit_is_one_by_its_name() {
        let unit = read("a.service", "[Service]\nType=notify").expect("a unit");
        assert_eq!(unit.grace.platform, Platform::Systemd);
    }

    #[test]
    fn a_time_that_is_none_is_said() {
        let pod = |grace: &str, sleep: &str| {
            format!(
                "spec: {{terminationGracePeriodSeconds: {grace}, containers: [{{lifecycle: {{preStop: {{sleep: {{seconds: {sleep}}}}}}}}}]}}"
            )
        };
        let compose = |grace: &str| format!("services: {{a: {{stop_grace_period: {grace}}}}}");
        for (text, said) in [
            (pod("'900'", "1"), "terminationGracePeriodSeconds is 900,"),
            (pod("-1", "1"), "terminationGracePeriodSeconds is -1,"),
            (pod("[1]", "1"), "terminationGracePeriodSeconds is no number,"),
            (pod("1", "5s"), "preStop.sleep.seconds is 5s,"),
            (compose("soon"), "stop_grace_period is soon,"),
            (compose("-1s"), "stop_grace_period is -1s,"),
        ] {
            let found = read("x.yaml", &text).expect(&text);
            assert!(
                matches!(&found.wrong[..], [one] if one.text.contains(said)),
                "{text}: {:?}",
                found.wrong
            );
        }
    }

    #[test]
    fn what_is_no_deployment_is_said() {
        // Nine of nine of nine …
        let laughs: String = ["a", "b", "c", "d", "e", "f", "g", "h"]
            .windows(2)
            .fold("a: &a [x]\n".to_owned(), |text, two| {
                format!("{text}{}: &{} [{}]\n", two[1], two[1], format!("*{}, ", two[0]).repeat(9))
            });
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(1 << 20), "*a, ".repeat(8));
        for (text, said) in [
            ("a: [", "not YAML"),
            ("a: 1", "neither"),
            (&laughs, "aliases"),
            (&long, "aliases"),
            (&"[".repeat(100), "deeper"),
        ] {
            let error = read("x.yaml", text).expect_err(text);
            assert!(error.contains(said), "{error}");
        }
        // Many aliases of little are a file as people write it.
        read("x.yaml", &format!("a: &a x\nb: [{}]\nservices: {{a: b}}", "*a, ".repeat(400))).expect("a file");
    }

    /// What files are made of.
    const PIECES: [&str; 40] = [
        "spec: ",
        "template: ",
        "containers: ",
        "services: ",
        "{",
        "}",
        "[",
        "]",
        "- ",
        "\n",
        "  ",
        ": ",
        ", ",
        "&a ",
        "*a",
        "'",
        "\"",
        "command: ",
        "args: ",
        "env: ",
        "name: ",
        "value: ",
        "lifecycle: {preStop: ",
        "sleep: ",
        "terminationGracePeriodSeconds: ",
        "stop_grace_period: ",
        "-1",
        "1e999",
        "9223372036854775808",
        "guard",
        "|\n",
        "--- ",
        "!!int ",
        "[Service]\n",
        "TimeoutStopSec=",
        "ExecStart=",
        "Environment=",
        "\\\n",
        "infinity",
        "5min",
    ];

    #[test]
    fn whatever_a_file_holds_nothing_panics() {
        bolero::check!().with_type::<Vec<(u8, char)>>().for_each(|parts| {
            let piece = |(at, other): &(u8, char)| {
                PIECES
                    .get(usize::from(at % 48))
                    .map_or_else(|| other.to_string(), |piece| (*piece).to_owned())
            };
            let text: String = parts.iter().map(piece).collect();
            // Either outcome will do.
            for (name, text) in [
                (
                    "x.yaml",
                    format!("spec: {{terminationGracePeriodSeconds: 1, containers: [{{command: {text}}}]}}"),
                ),
                ("x.yaml", format!("services: {{a: {{environment: [], stop_grace_period: {text}}}}}")),
                (
                    "x.service",
                    format!("[Service]\nTimeoutStopSec={text}\nExecStart={text}\nEnvironment={text}"),
                ),
                ("x.service", text.clone()),
                ("x.yaml", text),
            ] {
                drop(read(name, &text));
            }
        });
    }
}
