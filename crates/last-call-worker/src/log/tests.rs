//! Lines as a collector reads them, levels as people write them, and a reader that stopped.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;
use tracing::{Span, debug, error, info, info_span, trace, warn};

use super::*;

/// No test waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file in memory.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic while locked").clone()).expect("text")
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while locked").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(level: &str, work: impl FnOnce()) -> Page {
    let page = Page::default();
    let writer = page.clone();
    let subscriber = json(filter(level).expect("a level"), move || writer.clone());
    tracing::subscriber::with_default(subscriber, work);
    page
}

#[test]
fn span_fields_stand_on_every_line() {
    let page = logged("info", || {
        let job =
            info_span!("job", job_id = "AJ_1", room = "lobby", attempt = 1, late = tracing::field::Empty);
        job.in_scope(|| {
            info!(answer = 42, "took a \"call\"\n");
            Span::current().record("late", true);
            info_span!("mine", customer = "acme", attempt = 2).in_scope(|| warn!(room = "attic", "moved"));
        });
        info!("outside");
    });
    let lines = page.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["message"], "took a \"call\"\n");
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[0]["target"], module_path!());
    assert_eq!((&lines[0]["job_id"], &lines[0]["answer"]), (&"AJ_1".into(), &42.into()));
    assert!(lines[0].get("late").is_none() && lines[0].get("span").is_none(), "{}", lines[0]);
    assert_eq!(lines[1]["late"], true, "recorded since");
    assert_eq!(lines[1]["customer"], "acme");
    assert_eq!((&lines[1]["room"], &lines[1]["attempt"]), (&"attic".into(), &2.into()), "the inner one wins");
    assert!(lines[2].get("job_id").is_none(), "{}", lines[2]);
}

#[test]
fn fixed_keys_are_not_for_fields() {
    let page = logged("info", || error!(level = "mine", timestamp = 5, target = "else", "x"));
    let line = &page.lines()[0];
    assert_eq!((&line["level"], &line["target"]), (&"ERROR".into(), &module_path!().into()));
    let time = line["timestamp"].as_str().expect("a text");
    assert!(time.contains('T') && time.ends_with('Z'), "RFC 3339: {time}");
    assert_eq!(page.text().matches("\"level\"").count(), 1);
}

#[test]
fn a_line_without_message_or_with_bytes_is_still_an_object() {
    let page = logged("info", || {
        info!(n = f64::NAN);
        info!("\u{1}\u{7f}\u{fffd}");
    });
    assert_eq!(page.lines()[0]["message"], "");
    assert_eq!(page.lines()[1]["message"], "\u{1}\u{7f}\u{fffd}");
}

#[test]
fn levels_of_every_spelling() {
    for level in
        ["trace", "DEBUG", "Info", "warn", "WARNING", "error", "CRITICAL", "info,hyper=off", "a=debug"]
    {
        assert!(filter(level).is_ok(), "{level}");
    }
    for (level, lines) in [("TRACE", 4), ("debug", 3), ("info", 2), ("Warning", 1), ("critical", 0)] {
        let page = logged(level, || {
            trace!("a");
            debug!("b");
            info!("c");
            warn!("d");
        });
        assert_eq!(page.lines().len(), lines, "{level}");
    }
}

#[test]
fn a_bad_level_names_the_good_ones() {
    for level in ["inof", "", "5"] {
        let text = filter(level).expect_err("no level").to_string();
        assert!(text.contains(&format!("{level:?}")) && text.contains("error or critical"), "{text}");
    }
    let text = filter("info,agent=loud").expect_err("no directive").to_string();
    assert!(text.starts_with("--log-level \"info,agent=loud\": "), "{text}");
}

#[test]
fn tokens_are_not_traced() {
    let page = logged("trace,tungstenite=trace,ureq_proto=trace", || {
        trace!(target: "tungstenite::handshake::client", "Authorization: Bearer ey");
        trace!(target: "tungstenite::protocol::frame", "frame ey");
        debug!(target: "tungstenite::protocol", "closed");
        trace!(target: "tungstenite_like", "fine");
        trace!(target: "ureq_proto::util", "41 75 74 68");
        debug!(target: "ureq::run", "authorization: ey");
        info!(target: "ureq::pool", "full");
        debug!(target: "is::agent", "Set remote credentials: pass");
    });
    let messages: Vec<_> = page.lines().into_iter().map(|line| line["message"].clone()).collect();
    assert_eq!(messages, ["closed", "fine", "full"]);
}

/// A file that holds each write until it is let go.
struct Stuck {
    page: Page,
    entered: Sender<()>,
    go: Receiver<()>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        let _ = self.go.recv();
        self.page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_stopped_costs_lines_and_no_time() {
    let (page, (entered, at_write), (go, gate)) = (Page::default(), channel(), channel());
    let file = Stuck { page: page.clone(), entered, go: gate };
    let queue = LineQueue::start(file, Format::Json).expect("a thread");
    let subscriber = json(filter("info").expect("a level"), Arc::clone(&queue));
    tracing::subscriber::with_default(subscriber, || {
        info!("first");
        at_write.recv_timeout(PATIENCE).expect("the writer is at the first line");
        let megabyte = "x".repeat(1024 * 1024);
        for _ in 0..10 {
            info!("{megabyte}");
        }
        assert!(!queue.flush(Duration::from_millis(1)), "nothing has been written");
        drop(go);
        assert!(queue.flush(PATIENCE));
        info!("last");
        assert!(queue.flush(PATIENCE));
    });
    let messages: Vec<String> =
        page.lines().iter().map(|line| line["message"].as_str().expect("a text").to_owned()).collect();
    let notice = messages.iter().find(|text| text.contains("dropped")).expect("the loss is told");
    assert!(notice.starts_with("7 log lines dropped"), "{notice}");
    assert_eq!(messages.len(), 1 + 3 + 2, "the first, what fitted, the notice, the last");
    assert_eq!((messages[0].as_str(), messages[5].as_str()), ("first", "last"));
}

#[test]
fn a_reader_that_is_gone_is_survived() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let queue = LineQueue::start(Gone, Format::Pretty).expect("a thread");
    for _ in 0..3 {
        (&*queue).write_all(b"line\n").expect("the queue takes it");
        assert!(queue.flush(PATIENCE));
    }
}

/// The only test that touches the process's subscriber.
#[test]
fn a_subscriber_of_the_users_stays() {
    assert!(matches!(init(Format::Json, "loud"), Err(LogError::Level(_))));
    let page = Page::default();
    let writer = page.clone();
    let theirs = fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::set_global_default(theirs).expect("the first one");
    init(Format::Json, "info").expect("no error");
    info!("theirs");
    assert!(page.text().contains("theirs") && flush(Duration::ZERO), "nothing of ours to wait for");
}
