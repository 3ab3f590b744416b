//! What is said to systemd and when, on instants made up here; and that a socket of any kind holds nobody.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::SystemTime;

use last_call_proto::Phase;

use super::*;
use crate::observe::DrainProgress;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A worker's life, as it is told.
struct Told {
    news: News,
    now: Instant,
    shown: Snapshot,
}

impl Told {
    fn new(watchdog: Option<Duration>) -> Self {
        let news = News::new("lk:7880".to_owned(), watchdog);
        Self { news, now: Instant::now(), shown: Snapshot::default() }
    }

    fn register(&mut self) {
        self.shown.registered = true;
        self.shown.worker_id = Some("AW_1".to_owned());
    }

    fn drain(&mut self, budget: Duration) {
        self.shown.phase = Phase::Draining;
        self.shown.drain = Some(DrainProgress {
            started: SystemTime::UNIX_EPOCH + MINUTE,
            budget,
            jobs_at_start: 0,
            jobs_finished: 0,
            declined: 0,
        });
    }

    /// Everything said in `time`, asked every `step`, as lines with the time since the start.
    fn says_in(&mut self, time: Duration, step: Duration) -> Vec<(Duration, String)> {
        let (start, mut said) = (self.now, Vec::new());
        while self.now - start < time {
            let text = self.news.next(&self.shown, self.now).unwrap_or_default();
            said.extend(text.lines().map(|line| (self.now - start, line.to_owned())));
            self.now += step;
        }
        said
    }

    fn says(&mut self) -> Vec<String> {
        self.says_in(SECOND, SECOND).into_iter().map(|(_, line)| line).collect()
    }
}

fn named<'a>(said: &'a [(Duration, String)], name: &str) -> Vec<(Duration, &'a str)> {
    said.iter().filter_map(|(at, line)| Some((*at, line.strip_prefix(name)?.strip_prefix('=')?))).collect()
}

#[test]
fn ready_comes_with_the_first_registration_and_once() {
    let mut told = Told::new(None);
    let waiting = told.says_in(MINUTE, SECOND);
    assert!(named(&waiting, "READY").is_empty(), "{waiting:?}");
    assert_eq!(named(&waiting, "STATUS"), [(Duration::ZERO, "not registered at lk:7880 yet")]);
    told.register();
    assert_eq!(told.says(), ["READY=1", "STATUS=registered as AW_1 at lk:7880, 0 jobs"]);
    told.shown.registered = false;
    assert_eq!(told.says(), ["STATUS=lost lk:7880, trying again; 0 jobs"]);
    told.shown.registered = true;
    assert_eq!(told.says(), ["STATUS=registered as AW_1 at lk:7880, 0 jobs"]);
    assert!(told.says_in(10 * MINUTE, SECOND).is_empty(), "no watchdog, no start and no end: no news");
}

#[test]
fn stopping_comes_once_and_ready_never_after_it() {
    let mut told = Told::new(None);
    told.says();
    told.drain(10 * MINUTE);
    told.shown.active_jobs = 1;
    let begun = told.says();
    assert_eq!(
        begun,
        [
            "STOPPING=1",
            "EXTEND_TIMEOUT_USEC=20000000",
            "STATUS=draining: taking no jobs, 1 job left, until 1970-01-01T00:11:00Z"
        ]
    );
    told.register();
    told.shown.phase = Phase::Drained;
    let rest = told.says_in(MINUTE, SECOND);
    assert!(named(&rest, "STOPPING").is_empty() && named(&rest, "READY").is_empty(), "{rest:?}");
}

#[test]
fn a_worker_that_drains_between_two_looks_still_says_stopping() {
    let mut told = Told::new(None);
    told.register();
    told.says();
    told.drain(MINUTE);
    told.shown.phase = Phase::Drained;
    assert_eq!(told.says()[0], "STOPPING=1");
}

#[test]
fn an_extension_is_renewed_long_before_it_runs_out_and_none_reaches_beyond_the_budget() {
    let budget = 30 * MINUTE;
    let mut told = Told::new(None);
    let starting = told.says_in(10 * MINUTE, SECOND);
    assert!(
        named(&starting, "EXTEND_TIMEOUT_USEC").len() >= 60,
        "it may wait for its server as long as it takes"
    );
    told.register();
    told.says();
    assert!(named(&told.says_in(10 * MINUTE, SECOND), "EXTEND_TIMEOUT_USEC").is_empty());
    told.drain(budget);
    told.shown.active_jobs = 1;
    let draining = told.says_in(2 * budget, SECOND);
    let mut covered = Duration::ZERO;
    for (at, micros) in named(&draining, "EXTEND_TIMEOUT_USEC") {
        let extension = Duration::from_micros(micros.parse().expect("a number"));
        let late = covered.saturating_sub(at) < 10 * SECOND && !at.is_zero() && covered < budget;
        assert!(!late, "renewed at {at:?}, when {covered:?} were covered");
        covered = covered.max(at + extension);
    }
    assert!(covered >= budget && covered <= budget + 10 * SECOND, "{covered:?}");
}

#[test]
fn a_budget_beyond_all_clocks_is_no_panic() {
    let mut told = Told::new(None);
    told.drain(Duration::MAX);
    assert_eq!(told.says()[2], "STATUS=draining: taking no jobs, 0 jobs left");
    let mut told = Told::new(None);
    told.drain(Duration::from_secs(400_000_000_000));
    assert_eq!(told.says()[2], "STATUS=draining: taking no jobs, 0 jobs left");
}

#[test]
fn a_sign_of_life_is_never_later_than_half_its_time() {
    for watchdog in [Duration::from_millis(100), SECOND, MINUTE] {
        let mut told = Told::new(Some(watchdog));
        let every = told.news.look_every().expect("a watchdog").min(SECOND);
        let said = told.says_in(10 * watchdog, every);
        let alive = named(&said, "WATCHDOG");
        assert!(alive.len() >= 20, "{alive:?}");
        for pair in alive.windows(2) {
            assert!(pair[1].0 - pair[0].0 <= watchdog / 2, "{pair:?}");
        }
    }
}

#[test]
fn a_thousand_jobs_a_second_are_one_status_a_second() {
    let mut told = Told::new(None);
    told.register();
    told.says();
    let mut statuses = 0;
    for jobs in 0..10_000 {
        told.shown.active_jobs = jobs;
        let step = Duration::from_millis(1);
        statuses += named(&told.says_in(step, step), "STATUS").len();
    }
    assert!((9..=11).contains(&statuses), "{statuses}");
}

#[test]
fn what_the_server_calls_the_worker_adds_no_line() {
    let mut told = Told::new(None);
    told.register();
    told.shown.worker_id = Some(format!("AW\nMAINPID=1\r\n{}", "x".repeat(1 << 20)));
    let said = told.says();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].starts_with("STATUS=registered as AW MAINPID=1") && said[1].len() < 300, "{said:?}");
}

fn watchdog_of(variables: &[(&str, &str)]) -> Option<Duration> {
    watchdog(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()), 42)
}

#[test]
fn the_watchdog_is_ours_by_process_number_and_sensible() {
    assert_eq!(watchdog_of(&[]), None);
    assert_eq!(watchdog_of(&[("WATCHDOG_USEC", "30000000")]), Some(Duration::from_secs(30)));
    assert_eq!(
        watchdog_of(&[("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", "42")]),
        Some(Duration::from_micros(1))
    );
    for other in ["43", "", "x"] {
        assert_eq!(watchdog_of(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", other)]), None);
    }
    for nonsense in ["0", "-1", "", "30s", "99999999999999999999999"] {
        assert_eq!(watchdog_of(&[("WATCHDOG_USEC", nonsense)]), None);
    }
}

#[test]
fn an_address_is_a_path_or_an_abstract_name() {
    assert!(address("/run/systemd/notify".as_ref()).expect("a path").as_pathname().is_some());
    #[cfg(target_os = "linux")]
    assert!(address("@name".as_ref()).expect("a name").as_pathname().is_none());
    let long = OsString::from_vec(vec![b'/'; 200]);
    for nonsense in ["notify".as_ref(), "vsock:2:1234".as_ref(), long.as_os_str(), "/a\0b".as_ref()] {
        assert!(address(nonsense).is_err(), "{nonsense:?}");
    }
}

#[test]
fn a_systemd_that_does_not_read_holds_nobody_and_hears_later_what_it_missed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let stuffing = UnixDatagram::unbound().expect("a socket");
    stuffing.set_nonblocking(true).expect("a socket that does not block");
    while stuffing.send_to(b"x", &path).is_ok() {}
    let news = News::new("lk:7880".to_owned(), None);
    let mut systemd = Systemd::at(path.as_os_str(), news).expect("an address");
    let mut told = Told::new(None);
    told.register();
    systemd.look(&told.shown, told.now);
    assert!(systemd.warned);
    socket.set_nonblocking(true).expect("a socket that does not block");
    let mut buffer = [0; 1024];
    while socket.recv(&mut buffer).is_ok() {}
    systemd.look(&told.shown, told.now);
    assert!(socket.recv(&mut buffer).is_err(), "not at every turn of a busy link");
    systemd.look(&told.shown, told.now + AGAIN_AFTER);
    let length = socket.recv(&mut buffer).expect("a message");
    assert!(buffer[..length].starts_with(b"READY=1\n"), "{:?}", String::from_utf8_lossy(&buffer[..length]));
}
