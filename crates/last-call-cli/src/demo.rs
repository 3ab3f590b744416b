//! `last-call demo`: the whole idea in half a minute.
//!
//! Owns its options, what is printed and the file that is written. Refuses to judge another's worker by its exit code:
//! `check` is for that.

mod agent;
mod child;
mod lines;
mod picture;
mod report;
mod script;
mod stage;
mod story;
mod strays;
mod tap;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgAction, Args};
use last_call_server::page;
use last_call_worker::{Exit, StartError};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::told;
use lines::Lines;
use picture::Paper;
use report::Report;
use stage::{Site, Stage};
use story::Story;

pub(crate) use agent::worker as demo_worker;

/// See the idea: calls, a SIGTERM in the middle of them, and none is lost
///
/// Starts an embedded server and a worker, and has callers call. In the middle a release is played: a new worker
/// starts, calls come forty a second, every thread of the old worker's own code is held for three seconds, and it
/// gets SIGTERM, and two seconds later another one. It must tell the server at once that it is full, take nothing
/// more, finish every call that it has, and leave with 0. The timeline is drawn here and as one HTML file.
///
/// It takes about 16 seconds, uses this machine only, and leaves nothing running.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
With --worker yours gets the same calls and the same signals, beside ours:
    last-call demo --worker 'python agent.py start'
Its agents cannot join rooms on the embedded server. For that, take a real one:
    livekit-server --dev
    last-call demo --url ws://127.0.0.1:7880 --api-key devkey --worker 'python agent.py start'
with LIVEKIT_API_SECRET=secret. Calls go to every worker of that agent name, in rooms that are
called last-call-demo-…: do not use a name that serves people.

Exit codes: 0 our worker kept its promises; 1 it did not, or something failed; 2 usage; 130 interrupted.")]
pub(crate) struct Options {
    /// Your worker, as a command line: it gets LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET
    #[arg(long, value_name = "COMMAND", help_heading = "Demo")]
    worker: Option<String>,
    /// Where to write the timeline as a page; "off" is nowhere
    #[arg(
        long,
        env = "LAST_CALL_DEMO_HTML",
        value_name = "PATH",
        default_value = "last-call-demo.html",
        help_heading = "Demo"
    )]
    html: PathBuf,
    /// A LiveKit server to do it on, in place of the embedded one
    #[arg(long, value_name = "URL", help_heading = "Server")]
    url: Option<String>,
    /// The API key of --url; its secret is read from LIVEKIT_API_SECRET or --api-secret-file
    #[arg(long, env = "LIVEKIT_API_KEY", value_name = "KEY", help_heading = "Server")]
    api_key: Option<String>,
    /// A file with the API secret of --url
    #[arg(long, env = "LAST_CALL_API_SECRET_FILE", value_name = "PATH", help_heading = "Server")]
    api_secret_file: Option<PathBuf>,
    /// Allow ws:// to another machine: tokens cross the network in the clear
    #[arg(long, action = ArgAction::SetTrue, requires = "url", help_heading = "Server")]
    insecure_ws: bool,
}

/// Plays the demo, and shows what came of it.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let theirs = options.worker.as_deref().map(words).transpose()?;
    let report = Report::open(&options.html)?;
    let site = match &options.url {
        None => Site::embedded()?,
        Some(url) => Site::remote(url, options)?,
    };
    let lacks = |what| move |error| StartError::System { what, error };
    let runtime = Runtime::new().map_err(lacks("runtime"))?;
    let lines = Lines::start().map_err(lacks("thread"))?;
    strays::adopt();
    let mut told = told::to_end()?;
    let (played, story, lines) = runtime.block_on(async {
        let mut stage = Stage::new(site, lines);
        let played = tokio::select! {
            played = stage.play(theirs) => played,
            () = &mut told => Err(Failure::Interrupted),
        };
        let (story, lines) = stage.end().await;
        (played, story, lines)
    });
    strays::end();
    drop(told);
    // A name that resolves for ever holds nobody.
    runtime.shutdown_background();
    match played {
        Ok(()) => show(&story, report, lines),
        Err(Failure::Output(_)) => {
            let why = lines.finish().err().map_or_else(String::new, |error| format!(" ({error})"));
            Err(Failure::Demo(format!("nobody reads what is shown{why}: the demo was not played to its end")))
        }
        Err(failure) => Err(failure),
    }
}

/// Prints the timeline and the figures, and writes the page.
fn show(story: &Story, report: Option<Report>, lines: Lines) -> Result<ExitCode, Failure> {
    let paper = Paper::of_stdout();
    let said = picture::timeline(story, paper).into_iter().chain([String::new()]);
    for line in [String::new()].into_iter().chain(said).chain(picture::table(story, paper)) {
        lines.say(line)?;
    }
    let html = page::recorded("Last Call: a release amid calls", &story.events, &picture::facts(story));
    let written = report.map(|report| report.write(&html)).transpose();
    if let Ok(Some(path)) = &written {
        lines.say(format!("\nthe timeline as a page: {}", path.display()))?;
    }
    lines.finish()?;
    written?;
    Ok(if story.shown() { Exit::Finished } else { Exit::Failed }.into())
}

/// Microseconds since 1970.
fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// A command line in words, as a shell takes them.
fn words(text: &str) -> Result<Vec<String>, Failure> {
    let words = shell_words::split(text)
        .map_err(|error| Failure::Usage(format!("--worker {text:?} makes no sense: {error}")))?;
    if words.is_empty() {
        return Err(Failure::Usage(
            "--worker is empty; it is a command such as 'python agent.py start'".into(),
        ));
    }
    Ok(words)
}

impl Paper {
    /// What standard output can show.
    fn of_stdout() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let terminal = io::stdout().is_terminal() && set("TERM").is_none_or(|term| term != "dumb");
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let width = terminal_size::terminal_size().map(|(columns, _)| usize::from(columns.0));
        Self {
            columns: width.unwrap_or(100),
            colours: terminal && set("NO_COLOR").is_none(),
            unicode: locale.to_ascii_lowercase().replace('-', "").contains("utf8"),
        }
    }
}
