//! Owns a real livekit-server as a child process: its binary, ports, keys and end. Refuses to share it: each test has its own,
//! without Redis, on loopback or at the server's end of a [`Netns`].

mod api;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use livekit_token::{AccessToken, VideoGrants};

pub use self::api::Api;
use crate::child::{Child, Exit};
use crate::launch::{Launch, Signal};
use crate::netns::{self, Netns};

/// The release that everything is measured on.
const VERSION: &str = "1.13.5";
/// Names another binary.
const BINARY: &str = "LAST_CALL_LIVEKIT_SERVER";
/// How long a server may take to answer over HTTP; on a free machine it takes a quarter of a second.
const START: Duration = Duration::from_secs(60);
const KEY: &str = "devkey";
const SECRET: &str = "secret-of-a-server-that-only-tests-know";

/// A running, or ended, livekit-server. Killed when dropped.
#[derive(Debug)]
pub struct LiveKit {
    binary: PathBuf,
    site: Site,
    ports: Ports,
    api: Api,
    child: Child,
}

/// Where a server is reached. Its API is always on loopback too, of its own namespace.
#[derive(Clone, Debug)]
struct Site {
    netns: Option<String>,
    ip: IpAddr,
    settings: Settings,
}

/// What a server is configured with beyond what every test needs, in YAML.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Entries of the `rtc` map, each behind a comma: ", force_tcp: true".
    pub rtc: String,
    /// Lines of their own, each with its end.
    pub lines: String,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    http: u16,
    rtc_tcp: u16,
    rtc_udp: u16,
}

impl Ports {
    /// Three ports that are free now. Another program may take one before the server does: then the server does not start.
    fn free() -> Result<Self> {
        let loopback = (Ipv4Addr::LOCALHOST, 0);
        let (http, rtc_tcp) = (TcpListener::bind(loopback)?, TcpListener::bind(loopback)?);
        let rtc_udp = UdpSocket::bind(loopback)?.local_addr()?.port();
        Ok(Self { http: http.local_addr()?.port(), rtc_tcp: rtc_tcp.local_addr()?.port(), rtc_udp })
    }
}

impl LiveKit {
    /// Where the binary is.
    ///
    /// # Errors
    /// When it is missing: with the command that fetches it, in words for [`skip`](crate::skip()).
    pub fn binary() -> Result<PathBuf> {
        if let Some(path) = std::env::var_os(BINARY) {
            return Ok(path.into());
        }
        let path = cache()?.join(format!("livekit-server-{VERSION}"));
        if path.is_file() {
            return Ok(path);
        }
        bail!("no livekit-server at {}: run `cargo xtask setup`, or name one in {BINARY}", path.display())
    }

    /// As [`LiveKit::start`]; where the binary is missing, the test is [skipped](crate::skip()), and there is no server.
    ///
    /// # Errors
    /// When it is there and does not start.
    ///
    /// # Panics
    /// As [`skip`](crate::skip()).
    pub fn or_skip() -> Result<Option<Self>> {
        Self::with_or_skip(Settings::default())
    }

    /// As [`LiveKit::or_skip`], with settings of the test's own.
    ///
    /// # Errors
    /// As [`LiveKit::or_skip`].
    ///
    /// # Panics
    /// As [`skip`](crate::skip()).
    pub fn with_or_skip(settings: Settings) -> Result<Option<Self>> {
        let site = Site { netns: None, ip: Ipv4Addr::LOCALHOST.into(), settings };
        match Self::binary() {
            Ok(_) => Self::start_at(site).map(Some),
            Err(missing) => {
                crate::skip(missing);
                Ok(None)
            }
        }
    }

    /// Starts a server on free ports and waits until it answers.
    ///
    /// # Errors
    /// When the binary is missing or the server does not answer in a minute: with its log.
    pub fn start() -> Result<Self> {
        Self::start_at(Site { netns: None, ip: Ipv4Addr::LOCALHOST.into(), settings: Settings::default() })
    }

    /// Starts a server at the server's end of `net`, which workers reach over the cable. [`LiveKit::api`] works from
    /// anywhere, and no cut disturbs it.
    ///
    /// # Errors
    /// As [`LiveKit::start`].
    pub fn start_in(net: &Netns) -> Result<Self> {
        let netns = Some(net.server().to_owned());
        Self::start_at(Site { netns, ip: net.server_ip(), settings: Settings::default() })
    }

    fn start_at(site: Site) -> Result<Self> {
        let binary = Self::binary()?;
        let mut failed = None;
        for _ in 0..3 {
            let ports =
                netns::within(site.netns.as_deref(), Ports::free).context("no free port on loopback")?;
            match launch(&binary, &site, ports) {
                Ok(child) => {
                    let api = Api::new(format!("http://127.0.0.1:{}", ports.http), KEY, SECRET);
                    let api = match &site.netns {
                        Some(name) => api.in_netns(name),
                        None => api,
                    };
                    return Ok(Self { binary, site, ports, api, child });
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.context("three attempts leave an error")?)
    }

    /// What a worker takes as LIVEKIT_URL.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// Where workers and participants connect to.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.site.ip, self.ports.http)
    }

    /// The API key; what a worker takes as LIVEKIT_API_KEY.
    pub fn key(&self) -> &str {
        KEY
    }

    /// The API secret; what a worker takes as LIVEKIT_API_SECRET.
    pub fn secret(&self) -> &str {
        SECRET
    }

    /// The three variables that the SDKs of all languages read.
    pub fn env(&self) -> [(&'static str, String); 3] {
        let (key, secret) = (KEY.to_owned(), SECRET.to_owned());
        [("LIVEKIT_URL", self.url()), ("LIVEKIT_API_KEY", key), ("LIVEKIT_API_SECRET", secret)]
    }

    /// Rooms, participants and dispatches.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The server's process and its log.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// A token with which `identity` may join `room`, publish and subscribe.
    ///
    /// # Errors
    /// When one of the two is empty.
    pub fn token(&self, room: &str, identity: &str) -> Result<String> {
        let grants = VideoGrants { room_join: true, room: room.to_owned(), ..Default::default() };
        let token = AccessToken::with_api_key(KEY, SECRET).with_identity(identity).with_grants(grants);
        token.to_jwt().with_context(|| format!("no token for {identity:?} in room {room:?}"))
    }

    /// Ends the server as Kubernetes does: it waits for its participants.
    ///
    /// # Errors
    /// When it runs on after `timeout`.
    pub fn stop(&self, timeout: Duration) -> Result<Exit> {
        self.end(Signal::SIGTERM, timeout)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Kills the server: its sockets close, nobody is told.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill(&self) -> Result<Exit> {
        self.end(Signal::SIGKILL, START)
    }

    fn end(&self, signal: Signal, timeout: Duration) -> Result<Exit> {
        self.child.signal(signal)?;
        self.child.wait(timeout)
    }

    /// Starts a server on the same ports again, after [`LiveKit::stop`] or [`LiveKit::kill`]. It has forgotten all rooms, and its log begins anew.
    ///
    /// # Errors
    /// When the old one still runs, or the new one does not answer in a minute.
    pub fn restart(&mut self) -> Result<()> {
        self.child.try_wait().context("livekit-server still runs: stop or kill it first")?;
        self.child = launch(&self.binary, &self.site, self.ports)?;
        Ok(())
    }
}

/// Starts the server and waits until its port answers. The configuration goes by the environment: it holds the secret.
fn launch(binary: &PathBuf, site: &Site, ports: Ports) -> Result<Child> {
    let Ports { http, rtc_tcp, rtc_udp } = ports;
    let Site { netns, ip, settings: Settings { rtc, lines } } = site;
    let addresses = if ip.is_loopback() { format!("[{ip}]") } else { format!("[127.0.0.1, {ip}]") };
    // Where several interfaces stand for one `node_ip`, the server takes media on one of them, which one differs from start
    // to start, and names that address all the same.
    let media_at = format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 });
    let config = format!(
        "port: {http}\n\
         bind_addresses: {addresses}\n\
         keys: {{{KEY}: {SECRET}}}\n\
         logging: {{level: info, component_levels: {{agents: debug}}, json: true}}\n\
         rtc: {{tcp_port: {rtc_tcp}, udp_port: {rtc_udp}, node_ip: {ip}, \
         enable_loopback_candidate: true, ips: {{includes: [\"{media_at}\"]}}{rtc}}}\n\
         {lines}"
    );
    let launch = Launch::new(binary).env("LIVEKIT_CONFIG", config);
    let launch = match netns {
        Some(name) => launch.in_netns(name),
        None => launch,
    };
    let child = launch.spawn()?;
    let address = SocketAddr::new(*ip, http);
    let reach = || TcpStream::connect_timeout(&address, START).context("not reached");
    let deadline = Instant::now() + START;
    while netns::within(netns.as_deref(), reach).is_err() {
        if let Some(exit) = child.try_wait() {
            bail!("livekit-server ended at its start with {exit:?}:\n{}", child.output());
        }
        if Instant::now() > deadline {
            bail!("livekit-server does not answer on {address} after {START:?}:\n{}", child.output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(child)
}

/// Where `cargo xtask setup` puts what tests need.
pub(crate) fn cache() -> Result<PathBuf> {
    let named =
        ["LAST_CALL_CACHE", "XDG_CACHE_HOME"].into_iter().find_map(std::env::var_os).map(PathBuf::from);
    let base = named.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    Ok(base.context("neither LAST_CALL_CACHE, XDG_CACHE_HOME nor HOME is set")?.join("last-call"))
}
