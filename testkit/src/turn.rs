//! Owns a real TURN server, coturn, as a child process on loopback: its ports, its one user and its certificate.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::certificate::Certificate;
use crate::child::Child;
use crate::launch::Launch;
use crate::livekit::Settings;
use crate::udp_relay::UdpRelay;

/// How long it may take to listen.
const START: Duration = Duration::from_secs(30);
const USER: &str = "caller";
const PASSWORD: &str = "password-of-a-relay-that-only-tests-know";

/// Ports that one server relays from, and how many servers have some of their own.
const RELAYS: u32 = 100;
const SERVERS: u32 = 160;

/// A running TURN server. Killed when dropped.
#[derive(Debug)]
pub struct TurnServer {
    port: u16,
    tls_port: u16,
    /// Its certificate and key are there.
    directory: PathBuf,
    _child: Child,
}

/// How participants reach a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnTransport {
    /// `turn:` over UDP.
    Udp,
    /// `turn:` over TCP.
    Tcp,
    /// `turns:`, over TLS.
    Tls,
}

impl TurnServer {
    /// Starts a server on free ports; where coturn is missing, the test is [skipped](crate::skip()).
    ///
    /// # Errors
    /// When it is there and does not listen in half a minute: with what it said.
    ///
    /// # Panics
    /// As [`skip`](crate::skip()).
    pub fn or_skip() -> Result<Option<Self>> {
        let name = "turnserver";
        if !std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|directory| directory.join(name).is_file())
        {
            crate::skip(anyhow::anyhow!("no turnserver (coturn): run `cargo xtask setup --install`"));
            return Ok(None);
        }
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (one, other) = (free()?, free()?);
        let (port, tls_port) = (one.local_addr()?.port(), other.local_addr()?.port());
        drop((one, other));
        let directory = std::env::temp_dir().join(format!("last-call-turn-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).context("no place for a certificate")?;
        let certificate = Certificate::localhost()?;
        std::fs::write(directory.join("cert.pem"), certificate.pem())?;
        std::fs::write(directory.join("key.pem"), certificate.key_pem())?;
        // Two that start at once would take the same ports for their relays: coturn shares ports, and its peers' answers
        // reach one of the two.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let index = std::process::id().wrapping_add(STARTED.fetch_add(1, Ordering::Relaxed)) % SERVERS;
        let first = 49_152 + index * RELAYS;
        let child = Launch::new(name)
            .args([
                "-n",
                "--no-cli",
                "--fingerprint",
                "--lt-cred-mech",
                "--allow-loopback-peers",
                "--simple-log",
            ])
            .args(["--realm", "test", "--user", &format!("{USER}:{PASSWORD}"), "--log-file", "stdout"])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
            .args(["--min-port", &first.to_string(), "--max-port", &(first + RELAYS - 1).to_string()])
            .args(["--listening-port", &port.to_string(), "--tls-listening-port", &tls_port.to_string()])
            .arg("--cert")
            .arg(directory.join("cert.pem"))
            .arg("--pkey")
            .arg(directory.join("key.pem"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .arg("--userdb")
            .arg(directory.join("db"))
            .spawn()?;
        let deadline = Instant::now() + START;
        while [port, tls_port]
            .into_iter()
            .any(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err())
        {
            if child.try_wait().is_some() || Instant::now() > deadline {
                bail!("turnserver does not listen on {port} and {tls_port}:\n{}", child.output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(Self { port, tls_port, directory, _child: child }))
    }

    /// What a livekit-server is configured with to name this relay to its participants.
    pub fn settings(&self, transport: TurnTransport) -> Settings {
        match transport {
            TurnTransport::Udp => named("udp", self.port),
            TurnTransport::Tcp => named("tcp", self.port),
            TurnTransport::Tls => named("tls", self.tls_port),
        }
    }

    /// The same, by way of a bad network that ends at [`TurnServer::address`].
    pub fn settings_behind(&self, network: &UdpRelay) -> Settings {
        named("udp", network.address().port())
    }

    /// Where it takes datagrams.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The certificate of its TLS, for who is to trust it.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("cert.pem")
    }
}

impl Drop for TurnServer {
    fn drop(&mut self) {
        // Of a directory that stays nobody comes to harm.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn named(protocol: &str, port: u16) -> Settings {
    let rtc = format!(
        ", turn_servers: [{{host: localhost, port: {port}, protocol: {protocol}, username: {USER}, \
         credential: {PASSWORD}}}]"
    );
    Settings { rtc, ..Settings::default() }
}
