//! The static binary where there is nothing but itself: no libc, no /etc, no /proc, no user of its number.
//!
//! Owns what an image without a system has to do: find names, keep localhost at home, trust certificates. Refuses to
//! build the binary, which takes minutes: `cargo xtask test` and `cargo xtask dist` do, and name it.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use last_call_testkit::{Certificate, Child, Dns, Launch, Netns, Options, Signal, Stub, skip};
use tempfile::TempDir;

const VARIABLE: &str = "LAST_CALL_STATIC_BINARY";
const SOON: Duration = Duration::from_secs(30);
const NAME: &str = "worker.test";
const KEY: &str = "devkey";
const SECRET: &str = "a-secret-of-thirty-two-characters";

/// A root directory with one file in it, and a network.
struct Empty {
    root: TempDir,
    net: Netns,
}

impl Empty {
    /// None where the test cannot run here, which has been said then.
    fn new() -> Option<Self> {
        let Some(binary) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
            skip(format_args!("{VARIABLE} names no static binary; `cargo xtask test` builds one"));
            return None;
        };
        if let Err(missing) = Netns::possible() {
            skip(missing);
            return None;
        }
        let root = TempDir::new().expect("a directory");
        // The user inside is another one.
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).expect("our own directory");
        fs::copy(&binary, root.path().join("last-call")).expect("the static binary");
        Some(Self { root, net: Netns::pair().expect("a pair of namespaces") })
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a file has one")).expect("our own directory");
        fs::write(path, text).expect("our own file");
    }

    fn server_ip(&self) -> Ipv4Addr {
        match self.net.server_ip() {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => panic!("{address} is no answer of type A"),
        }
    }

    /// A DNS server across the cable, which the root's resolv.conf names, and at which `name` is.
    fn dns(&self, name: &str) -> Dns {
        let address = self.server_ip();
        self.write("etc/resolv.conf", &format!("nameserver {address}\n"));
        Dns::start(self.net.server(), address.into(), name, address).expect("a DNS server")
    }

    /// A LiveKit server across the cable.
    fn stub(&self, certificate: Option<Certificate>) -> Stub {
        let netns = Some(self.net.server().to_owned());
        let options = Options { bind: Some(self.net.server_ip()), netns, certificate, ..Options::auto() };
        Stub::start(options).expect("a stub")
    }

    /// The program, as a user whom no file knows, with these variables and no others.
    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
        let launch = Launch::new("chroot").arg("--userspec=65532:65532").arg(self.root.path());
        let foreign = std::env::vars_os().map(|(name, _)| name).filter(|name| name != "PATH");
        let launch = foreign.fold(launch, Launch::env_remove);
        let launch = variables.iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        let launch = launch.arg("/last-call").args(arguments).in_netns(self.net.client());
        launch.spawn().expect("the program starts")
    }

    fn worker(&self, url: &str, variables: &[(&str, &str)]) -> Child {
        let arguments = ["demo-agent", "start", "--url", url, "--insecure-ws", "--log-level=debug"];
        let keys = [("LIVEKIT_API_KEY", KEY), ("LIVEKIT_API_SECRET", SECRET)];
        self.run(&arguments, &[&keys, variables].concat())
    }
}

/// Waits for a line that has all of these words.
#[track_caller]
fn says(child: &Child, words: &[&str]) {
    child.wait_for_line(|line| words.iter().all(|word| line.contains(word)), SOON).expect("the line");
}

/// The worker leaves in peace when it is told to.
#[track_caller]
fn leaves(child: &Child) {
    child.signal(Signal::SIGTERM).expect("it runs");
    let exit = child.wait(SOON).expect("it leaves");
    assert_eq!((exit.code, exit.signal), (Some(0), None), "{}", child.output());
}

#[test]
fn a_name_is_found_by_dns() {
    let Some(empty) = Empty::new() else { return };
    let (dns, stub) = (empty.dns(NAME), empty.stub(None));
    // This C library loads no modules to look names up.
    empty.write("etc/nsswitch.conf", "hosts: unheard-of\n");
    let port = stub.address().port();
    let worker = empty.worker(&format!("ws://{NAME}:{port}"), &[]);
    stub.wait_registered(0, SOON).expect("registered");
    assert!(dns.asked().contains(&NAME.to_owned()), "{:?}", dns.asked());
    leaves(&worker);

    // A short name, as Kubernetes has its services found.
    let address = empty.server_ip();
    empty.write(
        "etc/resolv.conf",
        &format!("search default.example test\nnameserver {address}\noptions ndots:5\n"),
    );
    let mark = stub.mark();
    let worker = empty.worker(&format!("ws://worker:{port}"), &[]);
    stub.wait_registered(mark, SOON).expect("registered");
    assert!(dns.asked().contains(&"worker.default.example".to_owned()), "{:?}", dns.asked());
    leaves(&worker);
}

#[test]
fn a_name_is_found_in_the_file_of_hosts() {
    let Some(empty) = Empty::new() else { return };
    let stub = empty.stub(None);
    empty.write("etc/hosts", &format!("{} {NAME}\n", empty.server_ip()));
    let worker = empty.worker(&format!("ws://{NAME}:{}", stub.address().port()), &[]);
    stub.wait_registered(0, SOON).expect("registered");
    leaves(&worker);
}

#[test]
fn without_dns_the_worker_says_so_and_can_be_ended() {
    let Some(empty) = Empty::new() else { return };
    let worker = empty.worker(&format!("ws://{NAME}:9"), &[]);
    says(&worker, &["not connected", NAME, "failed to lookup address information"]);
    leaves(&worker);
}

#[test]
fn localhost_is_asked_of_nobody() {
    let Some(empty) = Empty::new() else { return };
    let dns = empty.dns("localhost");
    let netns = Some(empty.net.client().to_owned());
    let stub = Stub::start(Options { netns, ..Options::auto() }).expect("a stub");
    let worker = empty.worker(&format!("ws://localhost:{}", stub.address().port()), &[]);
    stub.wait_registered(0, SOON).expect("registered");
    assert_eq!(dns.asked(), Vec::<String>::new());
    leaves(&worker);
}

#[test]
fn without_files_of_roots_the_built_in_ones_hold() {
    let Some(empty) = Empty::new() else { return };
    let certificate = Certificate::for_host(NAME).expect("a certificate");
    let (_dns, stub) = (empty.dns(NAME), empty.stub(Some(certificate.clone())));
    let url = format!("wss://{NAME}:{}", stub.address().port());

    let worker = empty.worker(&url, &[]);
    says(&worker, &["the system has no trusted roots"]);
    says(&worker, &["not connected", "TLS with worker.test failed", "UnknownIssuer"]);
    leaves(&worker);

    empty.write("roots.pem", certificate.pem());
    let worker = empty.worker(&url, &[("SSL_CERT_FILE", "/roots.pem")]);
    stub.wait_registered(0, SOON).expect("registered");
    leaves(&worker);
}

#[test]
fn the_embedded_server_and_a_worker_need_nothing_else() {
    let Some(empty) = Empty::new() else { return };
    let server = empty.run(&["server"], &[("LIVEKIT_API_SECRET", SECRET)]);
    says(&server, &["listening", "127.0.0.1:7880"]);
    let worker = empty.worker("ws://localhost:7880", &[]);
    says(&worker, &["\"registered\""]);
    leaves(&worker);
    leaves(&server);
}
