//! `last-call server`: the embedded server from the command line.
//!
//! Owns its options and what it says at the start. Refuses keys that everyone knows where other machines reach it.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args};
use last_call_server::{Config, Keys, Rooms, Server};
use last_call_worker::{LogOptions, StartError, api_secret};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::told;

/// What livekit-server's own development mode takes.
const KEY: &str = "devkey";
const SECRET: &str = "secret";

/// Run a small LiveKit-compatible server: dispatch without rooms, and a page to watch it
///
/// Agent workers of any SDK register with it, and calls are dispatched by the server API of any SDK. It keeps
/// livekit-server's rules, and has a live page of workers, calls and drains. It has no media: agents cannot join
/// rooms here, unless --rooms-url names a real LiveKit server whose rooms they join instead.
///
/// It listens on this machine only, with the keys of livekit-server's development mode, until told otherwise.
/// SIGTERM or Ctrl-C ends it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The API secret is read from LIVEKIT_API_SECRET or --api-secret-file, that of --rooms-url from
LAST_CALL_ROOMS_API_SECRET or --rooms-api-secret-file; a flag would show it to every process.

Examples:
    last-call server
    last-call server --port 7000 --webhook http://127.0.0.1:9000/hook
    LIVEKIT_API_SECRET=… last-call server --bind 0.0.0.0 --api-key staging

Exit codes: 0 told to end; 1 the port is taken, or a file cannot be read; 2 usage.")]
pub(crate) struct Options {
    /// The address to listen on; 0.0.0.0 lets other machines in, and needs a secret of your own
    #[arg(long, env = "LAST_CALL_SERVER_BIND", value_name = "IP", default_value_t = Ipv4Addr::LOCALHOST.into(), help_heading = "Server")]
    bind: IpAddr,
    /// The port for workers, the API and the page; 0 takes a free one
    #[arg(
        long,
        env = "LAST_CALL_SERVER_PORT",
        value_name = "PORT",
        default_value_t = 7880,
        help_heading = "Server"
    )]
    port: u16,
    /// The API key that workers and callers of the API have
    #[arg(long, env = "LIVEKIT_API_KEY", value_name = "KEY", default_value = KEY, help_heading = "Server")]
    api_key: String,
    /// A file with the API secret, in place of LIVEKIT_API_SECRET [default secret: "secret"]
    #[arg(long, env = "LAST_CALL_API_SECRET_FILE", value_name = "PATH", help_heading = "Server")]
    api_secret_file: Option<PathBuf>,
    /// The load from which a group of workers is offered nothing, 0 to 1
    #[arg(
        long,
        env = "LAST_CALL_SERVER_TARGET_LOAD",
        value_name = "LOAD",
        default_value_t = 0.7,
        help_heading = "Server"
    )]
    target_load: f64,
    /// Where to post webhooks, signed as LiveKit's; several are separated by commas
    #[arg(long, env = "LAST_CALL_WEBHOOKS", hide_env_values = true, value_name = "URL", value_delimiter = ',', action = ArgAction::Set, help_heading = "Server")]
    webhook: Option<Vec<String>>,
    /// The LiveKit server whose rooms the agents join: ws://… or wss://…
    #[arg(
        long,
        env = "LAST_CALL_ROOMS_URL",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Rooms"
    )]
    rooms_url: Option<String>,
    /// The API key of --rooms-url [default: --api-key]
    #[arg(
        long,
        env = "LAST_CALL_ROOMS_API_KEY",
        value_name = "KEY",
        requires = "rooms_url",
        help_heading = "Rooms"
    )]
    rooms_api_key: Option<String>,
    /// A file with the API secret of --rooms-url, in place of LAST_CALL_ROOMS_API_SECRET [default: the server's own]
    #[arg(
        long,
        env = "LAST_CALL_ROOMS_API_SECRET_FILE",
        value_name = "PATH",
        requires = "rooms_url",
        help_heading = "Rooms"
    )]
    rooms_api_secret_file: Option<PathBuf>,
    #[command(flatten)]
    log: LogOptions,
}

/// Serves until a signal says that it is enough.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let config = options.config()?;
    let known = config.keys.secret == SECRET;
    let server = Server::bind(config)?;
    let _logs = options.log.start()?;
    let told = told::to_end()?;
    let runtime = Runtime::new().map_err(|error| StartError::System { what: "runtime", error })?;
    runtime.block_on(async {
        if io::stdout().is_terminal() {
            options.welcome(&server, known)?;
        } else {
            let only_here = server.address().ip().is_loopback();
            tracing::info!(address = %server.address(), url = server.url(), only_this_machine = only_here, "listening");
        }
        server.run(told).await;
        Ok(ExitCode::SUCCESS)
    })
}

impl Options {
    fn config(&self) -> Result<Config, Failure> {
        let secret = api_secret(self.api_secret_file.as_deref(), "LIVEKIT_API_SECRET")?;
        let secret = secret.unwrap_or_else(|| SECRET.to_owned());
        if secret == SECRET && !self.bind.is_loopback() {
            let bind = self.bind;
            return Err(Failure::Usage(format!(
                "--bind {bind} lets other machines in, and everyone knows the default secret; put one of your own in LIVEKIT_API_SECRET or --api-secret-file"
            )));
        }
        let keys = Keys { key: self.api_key.clone(), secret };
        let rooms = self.rooms_url.clone().map(|url| self.rooms(url, &keys)).transpose()?;
        Ok(Config {
            target_load: self.target_load,
            rooms,
            webhooks: self.webhook.clone().unwrap_or_default(),
            ..Config::new(SocketAddr::new(self.bind, self.port), keys)
        })
    }

    fn rooms(&self, url: String, keys: &Keys) -> Result<Rooms, StartError> {
        let secret = api_secret(self.rooms_api_secret_file.as_deref(), "LAST_CALL_ROOMS_API_SECRET")?;
        let key = self.rooms_api_key.clone().unwrap_or_else(|| keys.key.clone());
        Ok(Rooms { url, keys: Keys { key, secret: secret.unwrap_or_else(|| keys.secret.clone()) } })
    }

    /// What a person needs next. The secret is shown only where everyone knows it.
    fn welcome(&self, server: &Server, known: bool) -> io::Result<()> {
        let (address, url) = (server.address(), server.url());
        let page = url.replacen("ws", "http", 1);
        let who = if address.ip().is_loopback() {
            "this machine only; --bind 0.0.0.0 lets others in"
        } else {
            "open to other machines"
        };
        let secret = if known { SECRET } else { "(the secret that you chose)" };
        writeln!(
            io::stdout(),
            "listening on {address} ({who})\n\n\
             watch     {page}/\n\n\
             for a worker's terminal:\n\
             export LIVEKIT_URL={url}\n\
             export LIVEKIT_API_KEY={}\n\
             export LIVEKIT_API_SECRET={secret}\n",
            self.api_key,
        )
    }
}
