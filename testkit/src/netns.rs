//! Owns a pair of network namespaces joined by a cable, and the cuts in it. Refuses to touch the machine's own network: both ends of the
//! cable are inside.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

const CABLE: &str = "cable";

/// Two namespaces: a client's and a server's. Every pair has the same two addresses and can see no other pair. Removed when dropped.
#[derive(Debug)]
pub struct Netns {
    client: String,
    server: String,
}

impl Netns {
    /// Whether [`Netns::pair`] works here: makes one and removes it.
    ///
    /// # Errors
    /// What is missing, in words for [`skip`](crate::skip()).
    pub fn possible() -> Result<()> {
        for (tool, package) in [("ip", "iproute2"), ("nft", "nftables")] {
            let found = Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.with_context(|| {
                format!("network namespaces need the program `{tool}` (package {package})")
            })?;
        }
        let pair = Self::pair().context("network namespaces need root and CAP_NET_ADMIN")?;
        pair.cut_to_server()
            .and_then(|()| pair.heal())
            .context("network namespaces need nf_tables in the kernel")
    }

    /// Makes a pair.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn pair() -> Result<Self> {
        static PAIRS: AtomicU32 = AtomicU32::new(1);
        let (process, number) = (std::process::id(), PAIRS.fetch_add(1, Ordering::Relaxed));
        let name = |side| format!("lastcall-{process}-{number}-{side}");
        let pair = Self { client: name("client"), server: name("server") };
        let Self { client, server } = &pair;
        ip(&["netns", "add", client])?;
        ip(&["netns", "add", server])?;
        ip(&["-n", client, "link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", server])?;
        for (name, address) in [(client, pair.client_ip()), (server, pair.server_ip())] {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", CABLE])?;
            ip(&["-n", name, "link", "set", CABLE, "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        Ok(pair)
    }

    /// The client's namespace, for [`Launch::in_netns`](crate::Launch::in_netns).
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The server's namespace, for [`Options::netns`](crate::Options::netns).
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The client's address on the cable.
    pub fn client_ip(&self) -> IpAddr {
        Ipv4Addr::new(10, 203, 0, 1).into()
    }

    /// The server's address on the cable.
    pub fn server_ip(&self) -> IpAddr {
        Ipv4Addr::new(10, 203, 0, 2).into()
    }

    /// Drops every packet, both ways.
    ///
    /// # Errors
    /// What `nft` says; so with every method below.
    pub fn cut(&self) -> Result<()> {
        self.cut_to_server()?;
        self.cut_to_client()
    }

    /// Drops every packet to the server; its own still arrive.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn cut_to_server(&self) -> Result<()> {
        nft(&self.server, "drop")
    }

    /// Drops every packet to the client; its own still arrive.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn cut_to_client(&self) -> Result<()> {
        nft(&self.client, "drop")
    }

    /// Answers every TCP segment to the server with a reset; the server itself notices nothing.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn reset_to_server(&self) -> Result<()> {
        nft(&self.server, "meta l4proto tcp reject with tcp reset")
    }

    /// Lets every packet through again.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn heal(&self) -> Result<()> {
        nft(&self.server, "accept")?;
        nft(&self.client, "accept")
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        for name in [&self.client, &self.server] {
            // One that was never made cannot be removed.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("cannot start `ip`")?;
    if !output.status.success() {
        bail!("`ip {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Replaces what becomes of the packets that arrive over the cable. A packet dropped where it arrives, not where it leaves, is lost as in a
/// network: the sender's kernel does not know.
fn nft(netns: &str, fate: &str) -> Result<()> {
    let rules = format!(
        "table inet lastcall {{}}\n\
         delete table inet lastcall\n\
         table inet lastcall {{\n\
           chain arriving {{\n\
             type filter hook input priority 0; policy accept;\n\
             iifname {CABLE} {fate}\n\
           }}\n\
         }}\n"
    );
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, "nft", "-f", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut nft = command.spawn().context("cannot start `ip`")?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(rules.as_bytes()).context("cannot write to `nft`")?;
    }
    let output = nft.wait_with_output().context("`nft` was lost")?;
    if !output.status.success() {
        bail!("`nft` refused \"{fate}\" in {netns}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Runs `work` on a thread in the network namespace `name`, and waits for it; without a name, right here.
///
/// # Errors
/// What `work` returns, or why the namespace cannot be entered.
pub(crate) fn within<R: Send>(name: Option<&str>, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    let Some(name) = name else { return work() };
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| enter(name).and_then(|()| work()));
        inside.join().ok().with_context(|| format!("a thread in network namespace {name} panicked"))?
    })
}

/// Moves the calling thread into a network namespace made by `ip netns`.
///
/// # Errors
/// When there is none of this name, or the thread has no right to enter.
pub(crate) fn enter(name: &str) -> Result<()> {
    let file =
        File::open(format!("/run/netns/{name}")).with_context(|| format!("no network namespace {name}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter network namespace {name}"))
}
