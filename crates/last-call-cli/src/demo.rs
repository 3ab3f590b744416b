//! `last-call demo`: the whole idea in half a minute.
//!
//! Owns its options, what is printed and the file that is written. Refuses to judge another's worker by its exit code:
//! `check` is for that.

mod agent;
mod api;
mod child;
mod exchange;
mod picture;
mod script;
mod stage;
mod story;
mod tap;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgAction, Args};
use last_call_server::page;
use last_call_worker::{Exit, StartError};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::told;
use picture::Paper;
use stage::{Site, Stage};
use story::Story;

pub(crate) use agent::worker as demo_worker;
pub(crate) use api::ApiError;

/// See the idea: calls, a SIGTERM in the middle of them, and none is lost
///
/// Starts an embedded server and a worker, and has callers call. In the middle a release is played: a new worker
/// starts, calls come twenty a second, every thread of the old worker's own code is held for three seconds, and it
/// gets SIGTERM, and two seconds later another one. It must tell the server at once that it is full, take nothing
/// more, finish every call that it has, and leave with 0. The timeline is drawn here and as one HTML file.
///
/// It takes about 20 seconds, uses this machine only, and leaves nothing running.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
With --worker yours gets the same calls and the same signals, beside ours:
    last-call demo --worker 'python agent.py start'
Its agents cannot join rooms on the embedded server. For that, take a real one:
    livekit-server --dev
    last-call demo --url ws://127.0.0.1:7880 --api-key devkey --worker 'python agent.py start'
with LIVEKIT_API_SECRET=secret. Calls go to every worker of that agent name, and the rooms are called
last-call-demo-…: do not use a name that serves people.

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
    let runtime = Runtime::new().map_err(|error| StartError::System { what: "runtime", error })?;
    let told = told::to_end()?;
    let played = runtime.block_on(async {
        tokio::select! {
            played = play(options, theirs) => played,
            () = told => Err(Failure::Interrupted),
        }
    });
    // A name that resolves for ever holds nobody.
    runtime.shutdown_background();
    let story = played?;
    let kept = show(&story)?;
    write(&story, options)?;
    Ok(if kept { Exit::Finished } else { Exit::Failed }.into())
}

async fn play(options: &Options, theirs: Option<Vec<String>>) -> Result<Story, Failure> {
    let site = match &options.url {
        None => Site::embedded()?,
        Some(url) => Site::remote(url, options)?,
    };
    Stage::new(site).play(theirs).await
}

/// Prints the timeline and the figures; whether ours kept its promises.
fn show(story: &Story) -> io::Result<bool> {
    let paper = Paper::of_stdout();
    let mut out = io::stdout().lock();
    writeln!(out)?;
    for line in
        picture::timeline(story, paper).iter().chain([&String::new()]).chain(&picture::table(story, paper))
    {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(story
        .workers
        .iter()
        .zip(0..)
        .filter(|(member, _)| member.ours)
        .all(|(member, who)| member.signals_us.is_empty() || story.kept(who)))
}

fn write(story: &Story, options: &Options) -> Result<(), Failure> {
    if options.html.as_os_str() == "off" {
        return Ok(());
    }
    let path = &options.html;
    let html = page::recorded("Last Call: a release amid calls", &story.events, &picture::facts(story));
    fs::write(path, html).map_err(|error| Failure::Html { path: path.clone(), error })?;
    let shown = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    writeln!(io::stdout(), "\nthe timeline as a page: {}", shown.display())?;
    Ok(())
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
