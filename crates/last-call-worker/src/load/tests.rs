//! The parsers on odd files, the arithmetic on odd readings, and one look at this very machine.

use std::fs;

use super::cgroup::{keyed, locate, memory_share, parse_cpu_max, parse_limit, v1_quota};
use super::host::{parse_cpus, parse_meminfo};
use super::*;

const V2_MOUNT: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

fn dir(places: &Places) -> String {
    format!("{places:?}")
}

#[test]
fn finds_the_own_group_of_v2() {
    let places = locate("0::/kubepods.slice/pod1/abc\n", V2_MOUNT);
    assert!(dir(&places).contains(r#"dir: "/sys/fs/cgroup/kubepods.slice/pod1/abc""#), "{places:?}");
}

#[test]
fn finds_v1_where_the_container_sees_only_its_own_part() {
    let places = locate(
        "5:cpuacct,cpu:/docker/f00\n4:memory:/docker/f00\n1:name=systemd:/docker/f00\n",
        "33 31 0:30 /docker/f00 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
         35 31 0:32 /docker/f00 /mnt/odd\\040name ro - cgroup cgroup rw,memory\n",
    );
    let text = dir(&places);
    assert_eq!(text.matches(r#"dir: "/sys/fs/cgroup/cpu,cpuacct/""#).count(), 2, "{text}");
    assert!(text.contains(r#"dir: "/mnt/odd name/""#) && text.contains("unified: None"), "{text}");
}

#[test]
fn a_group_out_of_sight_is_its_mount() {
    for path in ["/../../elsewhere", "/kubepods/x/../../y"] {
        let text = dir(&locate(&format!("0::{path}"), V2_MOUNT));
        assert!(text.contains(r#"dir: "/sys/fs/cgroup""#), "{path}: {text}");
    }
    assert_eq!(locate("0::/", "not a mount line"), Places::default());
    assert_eq!(locate("", V2_MOUNT), Places::default());
}

#[test]
fn limits_of_every_spelling() {
    assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
    assert_eq!(parse_cpu_max("50000"), Some(0.5));
    for none in ["max 100000\n", "", "x y", "0 100000", "-1 100000", "100000 0", "100000 x"] {
        assert_eq!(parse_cpu_max(none), None, "{none:?}");
    }
    assert_eq!(v1_quota("200000\n", "100000\n"), Some(2.0));
    assert_eq!(v1_quota("-1\n", "100000\n"), None);
    assert_eq!(parse_limit("1048576\n"), Some(1_048_576));
    assert_eq!(parse_limit("max\n"), None);
    assert_eq!(keyed("usage_usec 12\nuser_usec 3\n", "user_usec"), Some(3));
    assert_eq!(keyed("usage_usec_x 12\nusage_usec torn", "usage_usec"), None);
    assert_eq!(memory_share(700, 200, 1000), Some(0.5));
    assert_eq!(memory_share(100, 200, 1000), Some(0.0));
    assert_eq!(memory_share(1, 0, 0), None);
}

#[test]
fn a_tighter_ancestor_holds() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let leaf = root.path().join("pod/container");
    fs::create_dir_all(&leaf).expect("a tree");
    let write = |path: &str, text: &str| fs::write(root.path().join(path), text).expect("a file");
    write("pod/cpu.max", "50000 100000");
    write("pod/container/cpu.max", "max 100000");
    write("pod/container/cpu.stat", "usage_usec 2500000\n");
    write("pod/memory.max", "1000");
    write("pod/memory.current", "900");
    write("pod/memory.stat", "inactive_file 100\n");
    write("pod/container/memory.max", "max");
    let mount = format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw", root.path().display());
    let places = locate("0::/pod/container", &mount);
    assert_eq!(places.cpu_quota(), Some(0.5));
    assert_eq!(places.cpu_usage(), Some(Duration::from_millis(2500)));
    assert_eq!(places.memory_fraction(u64::MAX), Some(0.8));
    assert_eq!(places.memory_fraction(1000), None, "a limit of the whole host is none");
}

const STAT: &str = "cpu  9 9 9 9\ncpu0 10 0 10 80 0 0 0 0 0 0\ncpu1 5 5 5 5 5 5 5 5 5 5\n\
                    cpu2 90 0 0 10\nintr 1 2\n";

#[test]
fn only_cpus_that_we_may_run_on_count() {
    let cpus = parse_cpus(STAT, "Name:\tx\nCpus_allowed_list:\t0,2-4294967295\n").expect("two CPUs");
    let idle = parse_cpus("cpu0 0 0 0 0\ncpu2 0 0 0 0", "").expect("two CPUs").ticks.expect("ticks");
    assert_eq!((cpus.allowed, cpus.machine), (2.0, 3.0));
    assert_eq!(cpus.ticks.expect("ticks").share_since(idle), Some(110.0 / 200.0));
    assert_eq!(idle.share_since(cpus.ticks.expect("ticks")), None, "backwards");
    for nothing in ["", "cpu  1 2 3 4", "cpu0 1 2 3", "cpu0 a b c d", "cpu-1 1 2 3 4"] {
        assert_eq!(parse_cpus(nothing, ""), None, "{nothing:?}");
    }
}

#[test]
fn meminfo() {
    let text = "MemTotal:       1000 kB\nMemFree:         1 kB\nMemAvailable:    250 kB\n";
    assert_eq!(parse_meminfo(text).expect("memory").fraction(), 0.75);
    for nothing in
        ["", "MemTotal: 5 kB", "MemTotal: 0 kB\nMemAvailable: 0 kB", "MemTotal: x\nMemAvailable: y"]
    {
        assert_eq!(parse_meminfo(nothing), None, "{nothing:?}");
    }
}

/// Half a second in which the group used `used_ms`, on 8 CPUs of which 4 are ours.
fn pair(used_ms: u64, quota: Option<f64>) -> (Reading, Reading) {
    let stat = |busy: u64, idle: u64| {
        let cpu = |n| format!("cpu{n} {busy} 0 0 {idle}\n");
        parse_cpus(&(0..8).map(cpu).collect::<String>(), "Cpus_allowed_list: 0-3").expect("CPUs").ticks
    };
    let before = Reading {
        at: Duration::from_secs(1),
        used: Some(Duration::from_secs(10)),
        quota,
        host: stat(100, 100),
        allowed: 4.0,
        machine: 8.0,
    };
    let now = Reading {
        at: Duration::from_millis(1500),
        used: Some(Duration::from_millis(10_000 + used_ms)),
        host: stat(112, 138),
        ..before.clone()
    };
    (before, now)
}

#[test]
fn cpu_load_against_what_limits_it() {
    let load = |(before, now): (Reading, Reading), num_cpus| cpu_load(&before, &now, num_cpus);
    assert_eq!(load(pair(250, Some(1.0)), None), Some(0.5), "the quota");
    assert_eq!(load(pair(250, Some(64.0)), None), Some(0.125), "a quota beyond our CPUs is our CPUs");
    assert_eq!(load(pair(600, Some(1.0)), None), Some(1.0), "a burst is the whole, no more");
    assert_eq!(load(pair(250, Some(1.0)), Some(2.0)), Some(0.25), "NUM_CPUS overrides");
    assert_eq!(load(pair(2000, None), Some(1.0)), Some(1.0), "NUM_CPUS below what is used is no tear");
    assert_eq!(load(pair(250, None), None), Some(0.24), "no quota: the host");
}

#[test]
fn impossible_readings_are_discarded() {
    let (before, now) = pair(250, Some(1.0));
    assert_eq!(cpu_load(&now, &before, None), None, "time backwards");
    assert_eq!(cpu_load(&before, &before, None), None, "no time");
    let torn = Reading { used: Some(Duration::from_secs(9)), ..now.clone() };
    assert_eq!(cpu_load(&before, &torn, None), None, "usage backwards");
    let torn = Reading { used: Some(Duration::from_millis(10_000 + 6001)), ..now.clone() };
    assert_eq!(cpu_load(&before, &torn, None), None, "more than 8 CPUs can do");
    let blind = Reading { host: before.host, quota: None, ..now };
    assert_eq!(cpu_load(&before, &blind, None), Some(0.125), "a host that counts nothing");
}

#[test]
fn the_window_forgets() {
    let mut window = Window::default();
    assert_eq!(window.mean(), 0.0);
    for sample in [1.0, 1.0, 0.0, 0.0, 0.0, 0.5, 0.5] {
        window.push(sample);
    }
    assert_eq!(window.mean(), 0.2);
}

#[test]
fn num_cpus() {
    assert_eq!(parse_num_cpus(" 2.5 "), Some(2.5));
    for none in ["", "0", "-1", "nan", "inf", "two"] {
        assert_eq!(parse_num_cpus(none), None, "{none:?}");
    }
}

#[test]
fn samples_this_machine() {
    let mut sampler = LoadSampler::new();
    let current = sampler.current();
    sampler.sample();
    assert!(current.get() > Load::IDLE, "some memory is always in use: {sampler:?}");
    let before = sampler.before.clone().expect("a reading");
    assert!(before.allowed >= 1.0 && before.host.or(before.used.map(|_| Ticks::default())).is_some());
}

#[test]
fn no_file_makes_a_parser_panic() {
    bolero::check!().with_type::<(Vec<u8>, Vec<u8>)>().for_each(|(a, b)| {
        let (a, b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
        let _ = locate(&a, &b);
        let _ = locate(&format!("0::{a}\n1:cpu,memory:{b}"), &format!("1 1 1 {b} {a} - cgroup2 x rw"));
        let _ = (parse_cpu_max(&a), v1_quota(&a, &b), parse_limit(&a), keyed(&a, &b), parse_num_cpus(&a));
        let _ = parse_cpus(&format!("cpu0 {a}\ncpu1 {b}"), &format!("Cpus_allowed_list: {b}"));
        let _ = parse_meminfo(&format!("MemTotal: {a}\nMemAvailable: {b}"));
    });
}
