//! The page in a headless Chromium: what stands in it and where, by DOM and geometry. Pictures are kept under
//! target/page/.

use std::path::PathBuf;

use last_call_server::{Event, Reply, What, page};
use last_call_testkit::proto::JobStatus;
use last_call_testkit::{Child, Node, skip};
use serde_json::{Value, json};

use crate::running::{PATIENCE, Running, Worker};

const PHONE: (u32, u32) = (360, 740);
const DESK: (u32, u32) = (1280, 800);

/// A browser with one page. Dropped, it ends.
struct Browser(Child);

impl Browser {
    /// None where there is no browser: the test is skipped then.
    fn start() -> Option<Self> {
        let program = Node::browser().map_err(skip).ok()?;
        let node = Node::find("puppeteer-core").map_err(skip).ok()?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testkit/node/page.js");
        Some(Self(node.script(script).arg(program).stdin().spawn().expect("node starts")))
    }

    fn ask(&mut self, order: &Value) -> Value {
        let mark = self.0.mark();
        self.0.write_stdin(format!("{order}\n").as_bytes()).expect("it reads");
        let answer = self.0.wait_for_line_after(mark, |line| line.starts_with("{\"answer\""), 2 * PATIENCE);
        let mut answer: Value = serde_json::from_str(&answer.expect("an answer").text).expect("JSON");
        answer["answer"].take()
    }

    fn open(&mut self, url: &str, (width, height): (u32, u32), dark: bool) {
        self.ask(&json!({"open": url, "width": width, "height": height, "dark": dark}));
    }

    fn until(&mut self, expression: &str) {
        self.ask(&json!({"until": expression}));
    }

    fn value(&mut self, expression: &str) -> Value {
        self.ask(&json!({"value": expression}))
    }

    fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!(
            "[...document.querySelectorAll('{selector}')].map((e) => e.textContent).join('|')"
        ));
        text.as_str().unwrap_or_default().to_owned()
    }

    #[expect(clippy::print_stdout, reason = "whoever runs the test wants to look")]
    fn shot(&mut self, name: &str) {
        let path = kept(&format!("{name}.png"));
        self.ask(&json!({"shot": path}));
        println!("picture: {}", path.display());
    }

    fn assert_clean(&mut self) {
        assert_eq!(self.ask(&json!({"problems": true})), json!([]));
    }
}

/// A file that outlives the test.
fn kept(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("page");
    std::fs::create_dir_all(&folder).expect("a folder under target");
    folder.join(name)
}

/// A report on disk, and its address.
fn report(name: &str, title: &str, events: &[Event], facts: &[(String, String)]) -> String {
    let path = kept(&format!("{name}.html"));
    std::fs::write(&path, page::recorded(title, events, facts)).expect("it is written");
    format!("file://{}", path.display())
}

/// Events of a drain: two workers, 40 calls, SIGTERM for one after 20 s, and what can go wrong.
struct Story(Vec<Event>);

impl Story {
    fn at(&mut self, ms: f64, what: What) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds")]
        let us = (ms * 1e3) as u64;
        self.0.push(Event { at_us: 1_795_000_000_000_000 + us, what });
    }

    fn register(&mut self, ms: f64, worker: &str, agent_name: &str) {
        let (worker, agent_name) = (worker.to_owned(), agent_name.to_owned());
        self.at(ms, What::WorkerRegistered { worker, agent_name, version: "0.1.0".into() });
    }

    fn offer(
        &mut self,
        ms: f64,
        number: u32,
        room: &str,
        worker: &str,
        reply: Option<Reply>,
    ) -> (String, String) {
        let (job, dispatch) = (format!("AJ_{number}"), format!("AD_{number}"));
        let worker = worker.to_owned();
        self.at(
            ms,
            What::Offered {
                job: job.clone(),
                dispatch: dispatch.clone(),
                room: room.into(),
                worker: worker.clone(),
            },
        );
        if let Some(reply) = reply {
            self.at(ms + 1.0, What::Answered { job: job.clone(), worker, reply });
        }
        (job, dispatch)
    }

    /// A call from its dispatch to its end; none where it is still running.
    fn call(&mut self, ms: f64, number: u32, room: &str, worker: &str, end: Option<(f64, bool)>) {
        let dispatch = format!("AD_{number}");
        self.at(ms - 2.0, What::DispatchCreated { dispatch, room: room.into(), agent_name: "probe".into() });
        let (job, dispatch) = self.offer(ms - 2.0, number, room, worker, Some(Reply::Accepted));
        let worker = worker.to_owned();
        let (room, identity) = (room.to_owned(), String::new());
        self.at(ms, What::Assigned { job: job.clone(), dispatch, room, worker: worker.clone(), identity });
        if let Some((took, success)) = end {
            let error = if success { String::new() } else { "the model is gone".into() };
            self.at(ms + took, What::JobEnded { job, worker, success, error });
        }
    }

    fn drain() -> Self {
        let mut story = Self(Vec::new());
        story.register(0.0, "AW_leaving", "probe");
        story.register(50.0, "AW_staying", "probe");
        for number in 0..40 {
            let begin = 1_000.0 + 850.0 * f64::from(number);
            let worker = if number % 2 == 0 && begin < 19_000.0 { "AW_leaving" } else { "AW_staying" };
            if worker == "AW_staying" && begin > 19_900.0 && number % 3 == 0 {
                story.at(
                    begin - 4.0,
                    What::DispatchCreated {
                        dispatch: format!("AD_{number}"),
                        room: format!("call-{number}"),
                        agent_name: "probe".into(),
                    },
                );
                story.offer(
                    begin - 4.0,
                    number,
                    &format!("call-{number}"),
                    "AW_leaving",
                    Some(Reply::Declined),
                );
            }
            let took = 1_500.0 + 700.0 * f64::from(number * 7 % 11);
            let end = (begin + took < 36_000.0).then_some((took, number % 13 != 12));
            story.call(begin, number, &format!("call-{number}"), worker, end);
        }
        let leaving = || "AW_leaving".to_owned();
        story.at(19_900.0, What::Noted { worker: Some(leaving()), text: "SIGTERM".into() });
        story.at(
            19_900.64,
            What::WorkerStatus { worker: leaving(), available: false, draining: true, load: 0.4, jobs: 4 },
        );
        story.at(24_000.0, What::Noted { worker: Some(leaving()), text: "second SIGTERM".into() });
        story.at(30_000.0, What::WorkerGone { worker: leaving() });
        for (number, ms) in [(100, 8_000.0), (101, 12_000.0)] {
            let room = format!("lost-{number}");
            story.at(
                ms,
                What::DispatchCreated {
                    dispatch: format!("AD_{number}"),
                    room: room.clone(),
                    agent_name: "probe".into(),
                },
            );
            let (job, dispatch) = story.offer(ms, number, &room, "AW_staying", None);
            story.at(ms + 3_000.0, What::Unanswered { job, dispatch, room });
        }
        story.0.sort_by_key(|event| event.at_us);
        story
    }
}

/// Pairs of visible elements that lie on each other, within one lane or over the page.
const OVERLAPS: &str = "((selector, within) => {
  const boxes = [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility() && e.getBoundingClientRect().width)
    .map((e) => [e.textContent, within ? e.closest(within) : null, e.getBoundingClientRect()]);
  const meet = (a, b) => a.left < b.right - .5 && b.left < a.right - .5 && a.top < b.bottom - .5 && b.top < a.bottom - .5;
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => a[1] === b[1] && meet(a[2], b[2])).map((b) => a[0] + ' / ' + b[0]));
})";

/// Texts whose colour is too near to their ground's: WCAG AA, 4.5.
const FAINT: &str = "(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (colour) => { const [r, g, b] = colour.map((c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const colour = rgba(getComputedStyle(e).backgroundColor); if (colour[3] === 255) return colour; } return [255, 255, 255]; };
  const texts = [...document.querySelectorAll('h1, dt, dd, small, strong, .phase, .name, .bar b, .legend li, #link, .grid, summary, #detail')].filter((e) => e.checkVisibility() && e.textContent);
  return texts.flatMap((e) => {
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    return ratio < 4.5 ? [`${e.className} ${e.textContent}: ${ratio.toFixed(2)}`] : [];
  });
})()";

/// Nothing is wider than the screen, nothing lies on something else, and bars are in their lanes, whose right end is now
/// where the page is live.
fn assert_fits(browser: &mut Browser) {
    let wider = browser.value("document.documentElement.scrollWidth - innerWidth");
    assert!(wider.as_i64().is_some_and(|wider| wider <= 0), "{wider} px wider than the screen");
    assert_eq!(browser.value(&format!("{OVERLAPS}('.name')")), json!([]), "names");
    assert_eq!(browser.value(&format!("{OVERLAPS}('.grid')")), json!([]), "times");
    assert_eq!(browser.value(&format!("{OVERLAPS}('.lane .bar', '.plot')")), json!([]), "bars");
    let outside = browser.value(
        "[...document.querySelectorAll('.lane .bar')].filter((e) => { const bar = e.getBoundingClientRect(), lane = \
         e.closest('.plot').getBoundingClientRect(); return bar.top < lane.top || bar.bottom > lane.bottom || bar.left < \
         lane.left || !document.querySelector('#spans').checkVisibility() && bar.right > lane.right; }).map((e) => e.textContent)",
    );
    assert_eq!(outside, json!([]), "bars out of their lanes");
}

#[test]
fn a_recorded_drain_is_drawn_true_on_a_desk_and_a_phone_by_day_and_by_night() {
    let Some(mut browser) = Browser::start() else { return };
    let facts = [("Time to WS_FULL", "0.64 ms"), ("Calls finished", "33 of 33"), ("Exit code", "0")];
    let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let url = report("drain", "A drain under load", &Story::drain().0, &facts);
    for (screen, name) in [(DESK, "desk"), (PHONE, "phone")] {
        for dark in [false, true] {
            browser.open(&url, screen, dark);
            browser.until("document.querySelectorAll('.lane .bar').length > 30");
            assert_eq!(browser.text(".counts dd[id]"), "2|40|33|48|6|2");
            assert_eq!(browser.text(".facts dd"), "0.64 ms|33 of 33|0");
            assert_eq!(browser.value("document.title"), "A drain under load");
            assert_fits(&mut browser);
            assert_true_to_time(&mut browser);
            assert_eq!(browser.value(FAINT), json!([]), "{name}, dark: {dark}");
            let light = browser.value(
                "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + +b, 0)",
            );
            assert_eq!(light.as_u64().expect("a colour") < 200, dark, "{light}");
            browser.shot(&format!("{name}-{}", if dark { "dark" } else { "light" }));
        }
    }
    browser.assert_clean();
}

/// Every bar begins where its call does and is as long; the marks stand in their order.
fn assert_true_to_time(browser: &mut Browser) {
    let bars = browser.value(
        "[...document.querySelectorAll('.lane:not(#lost) .bar[data-end]')].map((e) => { const box = e.getBoundingClientRect(); \
         return [+e.dataset.start % 1e9, +e.dataset.end % 1e9, box.left, box.width]; })",
    );
    let bars: Vec<[f64; 4]> = serde_json::from_value(bars).expect("bars");
    assert!(bars.len() > 30, "{}", bars.len());
    let longest = bars.iter().max_by(|a, b| a[3].total_cmp(&b[3])).expect("one");
    let scale = longest[3] / (longest[1] - longest[0]);
    let origin = longest[2] - longest[0] * scale;
    for [start, end, left, width] in bars {
        assert!(
            (left - origin - start * scale).abs() < 1.5,
            "at {left} px, wanted {}",
            origin + start * scale
        );
        assert!((width - ((end - start) * scale).max(3.0)).abs() < 1.5, "{width} px for {} µs", end - start);
    }
    let marks = browser.value(
        "[...document.querySelectorAll('[data-worker=AW_leaving] .mark')].map((e) => e.getBoundingClientRect().left)",
    );
    let marks: Vec<f64> = serde_json::from_value(marks).expect("marks");
    assert!(marks.len() == 3 && marks.is_sorted() && marks[0] < marks[1], "{marks:?}");
    assert_eq!(
        browser.text("[data-worker=AW_leaving] .name"),
        "SIGTERM|WS_FULL, draining +640 µs|second SIGTERM"
    );
    assert_eq!(browser.text("#lost .bar b"), "lost-100|lost-101");
}

#[test]
fn a_call_is_told_to_finger_keyboard_and_ear() {
    let Some(mut browser) = Browser::start() else { return };
    browser.open(&report("keys", "Keys", &Story::drain().0, &[]), PHONE, false);
    browser.until("document.querySelector('.lane .bar')");
    assert_eq!(browser.value("document.querySelector('#detail').checkVisibility()"), false);
    // Beside the bar, as a finger lands.
    browser.value(
        "(() => { const box = document.querySelector('[data-job=AJ_0]').getBoundingClientRect(); const to = document.elementFromPoint(box.left + 2, box.top - 6); \
         to.dispatchEvent(new MouseEvent('click', { bubbles: true, clientX: box.left + 2, clientY: box.top - 6 })); })()",
    );
    assert!(
        browser
            .text("#detail")
            .starts_with("call-0worker probe AW_leaving · began at 1 s · 1.5 s · finished")
    );
    browser.value("document.querySelector('[data-worker=AW_leaving] .plot').focus()");
    browser.ask(&json!({"press": "ArrowRight"}));
    let detail = browser.text("#detail");
    assert!(detail.starts_with("call-2worker"), "{detail}");
    let told = browser.value(
        "(() => { const plot = document.activeElement; return [plot.getAttribute('role'), plot.ariaLabel, document.getElementById(plot.getAttribute('aria-activedescendant')).ariaLabel]; })()",
    );
    assert_eq!((&told[0], &told[1]), (&json!("listbox"), &json!("Calls of probe")));
    assert!(
        told[2]
            .as_str()
            .is_some_and(|label| label.starts_with("call-2, worker probe") && label.ends_with("finished")),
        "{told}"
    );
    assert_eq!(browser.value(FAINT), json!([]));
    browser.ask(&json!({"press": "Escape"}));
    assert_eq!(browser.text("#detail"), "");
    browser.value("document.querySelector('summary').click()");
    browser.until("document.querySelectorAll('tbody tr').length === 42");
    assert_fits(&mut browser);
    browser.shot("phone-table");
    browser.assert_clean();
}

#[test]
fn hostile_names_are_text() {
    let Some(mut browser) = Browser::start() else { return };
    let mut story = Story(Vec::new());
    let names = [
        "<img src=x onerror=\"document.title='broken in'\">".to_owned(),
        "</script><script>document.title='broken in'</script>".to_owned(),
        "x".repeat(10_000),
        "\u{202e}right to left \u{5e9}\u{5dc}\u{5d5}\u{5dd}".to_owned(),
        "👩‍👩‍👧‍👦🏳️‍🌈".repeat(200),
        "a\u{301}\u{323}".repeat(500) + "\u{0}\u{7}",
        "  ".to_owned(),
    ];
    for (number, name) in (0..).zip(&names) {
        let worker = format!("AW_{number}{}", name.chars().take(3).collect::<String>());
        story.register(f64::from(number), &worker, name);
        story.at(500.0 + f64::from(number), What::Noted { worker: Some(worker.clone()), text: name.clone() });
        story.call(1_000.0, number, name, &worker, Some((9_000.0, number % 2 == 0)));
    }
    story.at(5_000.0, What::Noted { worker: None, text: names[0].clone() });
    story.0.sort_by_key(|event| event.at_us);
    let facts: Vec<_> = names.iter().map(|name| (name.clone(), name.clone())).collect();
    let url = report("hostile", &names[1], &story.0, &facts);
    for screen in [DESK, PHONE] {
        browser.open(&url, screen, false);
        browser.until("document.querySelectorAll('.lane .bar').length === 7");
        assert_eq!(browser.value("document.title"), names[1]);
        assert_eq!(browser.value("document.querySelectorAll('img').length + document.scripts.length"), 2);
        assert!(browser.text(".lane .bar b").contains("<img src=x onerror="));
        assert_fits(&mut browser);
        let tallest =
            browser.value("Math.max(...[...document.querySelectorAll('.lane')].map((e) => e.offsetHeight))");
        assert!(tallest.as_u64().is_some_and(|height| height < 160), "{tallest}");
        browser.shot(if screen == DESK { "hostile-desk" } else { "hostile-phone" });
    }
    browser.assert_clean();
}

#[test]
fn a_live_page_follows_through_a_restart() {
    let Some(mut browser) = Browser::start() else { return };
    let server = Running::start(|_| {});
    let url = format!("http://{}/", server.authority);
    browser.open(&url, PHONE, true);
    browser.until("document.querySelector('#empty').checkVisibility()");
    assert!(browser.text("#exports").contains(&format!("export LIVEKIT_URL=ws://{}\n", server.authority)));
    browser.shot("live-empty");
    let mut worker = Worker::start(&server, "agent");
    browser.until("document.querySelectorAll('.lane').length === 1");
    server.api().create_dispatch("first-room", "agent", "", &[]).expect("a dispatch");
    let job = worker.take("agent-1").job.expect("a job");
    browser.until(
        "document.querySelector('.lane .bar.running') && document.querySelector('#n-running').textContent === '1'",
    );
    browser.until("new DOMMatrix(getComputedStyle(document.querySelector('.track')).transform).m41 < 0");
    worker.report(&job.id, JobStatus::JsSuccess, "");
    browser.until(
        "document.querySelector('.lane .bar.finished') && !document.querySelector('.lane .bar.running')",
    );
    server.api().create_dispatch("second-room", "nobody", "", &[]).expect("a dispatch");
    browser.until("document.querySelector('#lost .bar')?.checkVisibility()");
    assert_eq!(browser.text(".counts dd[id]"), "1|0|1|1|0|1");
    assert_fits(&mut browser);
    browser.shot("live");
    browser.assert_clean();
    let address = server.authority.parse().expect("an address");
    drop((worker, server));
    browser.until("document.querySelector('#link').className === 'lost'");
    let again = Running::start(|config| config.address = address);
    let _worker = Worker::start(&again, "agent");
    browser.until(
        "document.querySelector('#link').className === '' && document.querySelectorAll('.lane').length === 1",
    );
    assert_eq!(browser.text(".counts dd[id]"), "1|0|0|0|0|0");
    assert_eq!(browser.value("document.querySelectorAll('.lane .bar').length"), 0);
}

#[test]
fn a_thousand_calls_are_drawn() {
    let Some(mut browser) = Browser::start() else { return };
    let mut story = Story(Vec::new());
    story.register(0.0, "AW_busy", "probe");
    for number in 0..1_000 {
        story.call(100.0 + 30.0 * f64::from(number), number, "room", "AW_busy", Some((1_000.0, true)));
    }
    story.0.sort_by_key(|event| event.at_us);
    browser.open(&report("thousand", "A thousand calls", &story.0, &[]), PHONE, false);
    browser.until("document.querySelectorAll('.lane .bar').length === 1000");
    assert_fits(&mut browser);
    browser.shot("thousand");
    browser.assert_clean();
}
