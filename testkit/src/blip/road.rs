//! Owns one cell's server and the way to it: how it fails, how that shows, how it heals. Refuses to know what the worker is at.

use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use super::dice::Dice;
use super::gate::Gate;
use super::{Fault, KEY, SOON, Server};
use crate::certificate::Certificate;
use crate::cut::Cut;
use crate::dns::Dns;
use crate::launch::Launch;
use crate::netns::Netns;
use crate::relay::{Direction, Faults, Relay};
use crate::stub::{Options, Stub};

/// A name that only the cell's own DNS server knows.
const NAME: &str = "livekit.test";
const BOTH: [Direction; 2] = [Direction::ToServer, Direction::ToClient];

/// Dropped in this order: the namespaces behind what is in them.
pub(super) struct Road {
    pub(super) stub: Stub,
    fault: Fault,
    url: String,
    secret: String,
    way: Way,
    trusted: Option<NamedTempFile>,
}

/// What lies between worker and server.
enum Way {
    Nothing,
    Relay { relay: Relay, gate: Option<Gate> },
    Cable { dns: Dns, resolver: NamedTempFile, net: Netns },
}

/// Where things stood when the fault began.
pub(super) struct Struck {
    /// Events of the stub.
    pub(super) mark: usize,
    /// The relay's oldest connection, which is the worker's: a stranger's is short.
    held: u64,
    /// The relay's newest connection.
    newest: u64,
    /// Questions to the DNS server.
    asked: usize,
}

impl Road {
    pub(super) fn build(fault: Fault) -> Result<Self> {
        match fault {
            Fault::Restart => {
                let secret = secret();
                let stub = Stub::start(options(&secret))?;
                Ok(Self { fault, url: stub.url(), secret, stub, way: Way::Nothing, trusted: None })
            }
            Fault::NoDns => Self::cable(fault),
            Fault::SlowTls => Self::relayed(fault, Some(Certificate::localhost()?)),
            Fault::Rst
            | Fault::Fin
            | Fault::Drop
            | Fault::DropOneWay
            | Fault::HalfOpen
            | Fault::Trickle
            | Fault::Freeze => Self::relayed(fault, None),
        }
    }

    fn relayed(fault: Fault, certificate: Option<Certificate>) -> Result<Self> {
        let trusted = certificate.as_ref().map(|certificate| file(certificate.pem())).transpose()?;
        let secret = secret();
        let stub = Stub::start(Options { certificate, ..options(&secret) })?;
        let (scheme, relay, gate) = if trusted.is_some() {
            ("wss", Relay::start(stub.address())?, None)
        } else {
            let (gate, judge) = Gate::new();
            ("ws", Relay::scripted(stub.address(), judge)?, Some(gate))
        };
        let url = format!("{scheme}://{}", relay.address());
        Ok(Self { stub, fault, url, secret, way: Way::Relay { relay, gate }, trusted })
    }

    fn cable(fault: Fault) -> Result<Self> {
        let net = Netns::pair()?;
        let IpAddr::V4(address) = net.server_ip() else { bail!("the cable has no IPv4 address") };
        let certificate = Certificate::for_host(NAME)?;
        let trusted = Some(file(certificate.pem())?);
        let (secret, netns) = (secret(), Some(net.server().to_owned()));
        let options =
            Options { bind: Some(address.into()), netns, certificate: Some(certificate), ..options(&secret) };
        let stub = Stub::start(options)?;
        let dns = Dns::start(net.server(), address.into(), NAME, address)?;
        let resolver = file(&format!("nameserver {address}\noptions timeout:1 attempts:1\n"))?;
        let url = format!("wss://{NAME}:{}", stub.address().port());
        Ok(Self { stub, fault, url, secret, way: Way::Cable { dns, resolver, net }, trusted })
    }

    /// The worker at this end of it.
    pub(super) fn launch(&self, launch: impl FnOnce(&Server<'_>) -> Launch) -> Launch {
        let launch = launch(&Server {
            url: &self.url,
            secret: &self.secret,
            trusted: self.trusted.as_ref().map(NamedTempFile::path),
        });
        match &self.way {
            Way::Nothing | Way::Relay { .. } => launch,
            Way::Cable { resolver, net, .. } => launch.in_netns(net.client()).resolver(resolver.path()),
        }
    }

    /// Whether a connection cannot outlive the fault.
    pub(super) fn breaks(&self) -> bool {
        self.fault != Fault::Trickle
    }

    /// The gate for the last report; none where the relay sees no frames, or is not there.
    pub(super) fn gate(&self) -> Option<&Gate> {
        match &self.way {
            Way::Relay { gate, .. } => gate.as_ref(),
            Way::Nothing | Way::Cable { .. } => None,
        }
    }

    /// Begins the fault; `for_good` is for a worker that is not to come back before it leaves.
    pub(super) fn strike(&self, dice: &mut Dice, for_good: bool) -> Result<Struck> {
        let mark = self.stub.mark();
        let struck = Struck { mark, held: self.oldest(), newest: self.newest(), asked: self.asked() };
        match &self.way {
            Way::Nothing => {
                self.stub.close_port()?;
                self.drop_connections(dice);
            }
            Way::Relay { relay, .. } => self.spoil(relay, dice, for_good),
            Way::Cable { dns, .. } => {
                dns.set_gone(true);
                self.drop_connections(dice);
            }
        }
        Ok(struck)
    }

    fn spoil(&self, relay: &Relay, dice: &mut Dice, for_good: bool) {
        let one_way = if dice.coin() { Direction::ToServer } else { Direction::ToClient };
        match self.fault {
            Fault::Rst => relay.cut(Cut::Rst),
            Fault::Fin => relay.cut(Cut::Fin),
            Fault::Drop => BOTH.into_iter().for_each(|direction| relay.freeze(direction)),
            Fault::DropOneWay => relay.freeze(one_way),
            Fault::HalfOpen => relay.abandon(),
            Fault::Trickle => {
                let rate = Some(dice.number(500, 2000));
                for direction in BOTH {
                    relay.set(direction, Faults { chunk: Some(1), rate, ..Faults::default() });
                }
            }
            // Every frame with a payload is longer.
            Fault::Freeze => relay.freeze_after(one_way, dice.number(1, 5)),
            Fault::SlowTls => {
                // A server's part of the handshake is nearly a thousand bytes.
                let rate = Some(if for_good { 20 } else { dice.number(300, 1000) });
                relay.set(Direction::ToClient, Faults { chunk: Some(10), rate, ..Faults::default() });
                relay.cut(either(dice));
            }
            Fault::NoDns | Fault::Restart => {}
        }
    }

    fn drop_connections(&self, dice: &mut Dice) {
        for connection in self.stub.connections() {
            // One that has ended meanwhile is dropped too.
            let _ = self.stub.drop_connection(connection, either(dice));
        }
    }

    /// Waits until the worker runs into the fault, as far as that can be seen before it heals.
    pub(super) fn noticed(&self, struck: &Struck) -> Result<()> {
        match self.fault {
            // The next registration shows these, or that there is none.
            Fault::Rst | Fault::Fin | Fault::HalfOpen | Fault::Trickle => Ok(()),
            Fault::Drop | Fault::DropOneWay | Fault::Freeze => {
                until("the worker to give its connection up", || self.given_up(struck.held))
            }
            Fault::SlowTls => until("the worker to try another connection", || self.newest() > struck.newest),
            Fault::NoDns => until("the worker to ask for the server's name", || self.asked() > struck.asked),
            Fault::Restart => until("the connection to end", || self.stub.connections().is_empty()),
        }
    }

    /// Ends the fault, as far as a worker that comes back may need it.
    pub(super) fn heal(&self) -> Result<()> {
        match &self.way {
            Way::Nothing => self.stub.reopen()?,
            Way::Relay { relay, .. } => BOTH.into_iter().for_each(|direction| relay.thaw(direction)),
            Way::Cable { dns, .. } => dns.set_gone(false),
        }
        Ok(())
    }

    /// The worker is back: what made its return slow is over.
    pub(super) fn calm(&self) {
        match &self.way {
            Way::Relay { relay, .. } if self.breaks() => {
                BOTH.into_iter().for_each(|direction| relay.set(direction, Faults::default()));
            }
            Way::Nothing | Way::Relay { .. } | Way::Cable { .. } => {}
        }
    }

    fn connections(&self) -> Vec<u64> {
        match &self.way {
            Way::Relay { relay, .. } => relay.connections(),
            Way::Nothing | Way::Cable { .. } => Vec::new(),
        }
    }

    fn oldest(&self) -> u64 {
        self.connections().first().copied().unwrap_or_default()
    }

    fn newest(&self) -> u64 {
        self.connections().last().copied().unwrap_or_default()
    }

    fn given_up(&self, connection: u64) -> bool {
        match &self.way {
            Way::Relay { relay, .. } => relay.left().contains(&connection),
            Way::Nothing | Way::Cable { .. } => false,
        }
    }

    fn asked(&self) -> usize {
        match &self.way {
            Way::Cable { dns, .. } => dns.asked().len(),
            Way::Nothing | Way::Relay { .. } => 0,
        }
    }
}

/// No other cell's, of this process or another.
fn secret() -> String {
    static CELLS: AtomicU32 = AtomicU32::new(1);
    let (process, cell) = (std::process::id(), CELLS.fetch_add(1, Ordering::Relaxed));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("the-secret-of-cell-{cell}-{process}-{}", now.as_nanos())
}

fn options(secret: &str) -> Options {
    Options { keys: Some((KEY.to_owned(), secret.to_owned())), ..Options::auto() }
}

fn either(dice: &mut Dice) -> Cut {
    if dice.coin() { Cut::Rst } else { Cut::Fin }
}

fn file(text: &str) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new().context("cannot make a temporary file")?;
    file.write_all(text.as_bytes()).context("cannot write a temporary file")?;
    Ok(file)
}

fn until(what: &str, so: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while !so() {
        if Instant::now() > deadline {
            bail!("waited {SOON:?} for {what}");
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}
