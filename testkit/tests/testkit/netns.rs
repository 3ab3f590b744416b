//! Network namespaces: a cable that can be cut.

use std::time::Duration;

use anyhow::Result;
use last_call_testkit::{Child, Launch, Netns, Options, Stub, skip};

const LONG: Duration = Duration::from_secs(30);

/// Sends each line of its standard input and waits a second for its echo.
const CLIENT: &str = "
import socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
peer.settimeout(1)
print('connected', flush=True)
echoed = b''
for line in sys.stdin:
    try:
        peer.sendall(line.encode())
        while line.encode() not in echoed:
            echoed += peer.recv(100)
        print('echo', flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
";

const SERVER: &str = "
import socket, sys
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
peer = listener.accept()[0]
while data := peer.recv(100):
    peer.sendall(data)
";

fn connected(net: &Netns) -> Result<(Child, Child)> {
    let server = Launch::new("python3")
        .args(["-c", SERVER, &net.server_ip().to_string()])
        .in_netns(net.server())
        .spawn()?;
    let port = server.wait_for_line(|line| line.parse::<u16>().is_ok(), LONG)?.text;
    let client = Launch::new("python3").args(["-c", CLIENT, &net.server_ip().to_string(), &port]);
    let client = client.in_netns(net.client()).stdin().spawn()?;
    client.wait_for_line(|line| line == "connected", LONG)?;
    Ok((client, server))
}

/// What the client says to one more line.
fn say(client: &mut Child) -> Result<String> {
    let mark = client.mark();
    // The number of its answers so far makes each line another.
    client.write_stdin(format!("<{mark}>\n").as_bytes())?;
    Ok(client.wait_for_line_after(mark, |_| true, LONG)?.text)
}

fn possible() -> bool {
    Netns::possible().map_err(skip).is_ok()
}

#[test]
fn a_cut_silences_and_healing_brings_back() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let net = Netns::pair()?;
    let (mut client, _server) = connected(&net)?;
    assert_eq!(say(&mut client)?, "echo");
    for cut in [Netns::cut, Netns::cut_to_server, Netns::cut_to_client] {
        cut(&net)?;
        assert_eq!(say(&mut client)?, "TimeoutError");
        net.heal()?;
        let mark = client.mark();
        while say(&mut client)? != "echo" {
            assert!(client.mark() < mark + 30, "healed, and still silent:\n{}", client.output());
        }
    }
    net.reset_to_server()?;
    assert_eq!(say(&mut client)?, "ConnectionResetError");
    Ok(())
}

#[test]
fn a_stub_serves_in_the_servers_namespace_only() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let net = Netns::pair()?;
    let options =
        Options { bind: Some(net.server_ip()), netns: Some(net.server().to_owned()), ..Options::auto() };
    let stub = Stub::start(options)?;
    let (ip, port) = (stub.address().ip().to_string(), stub.address().port().to_string());
    let client = Launch::new("python3").args(["-c", CLIENT, &ip, &port]).in_netns(net.client()).spawn()?;
    client.wait_for_line(|line| line == "connected", LONG)?;
    Ok(())
}

#[test]
fn a_dropped_pair_is_gone() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let net = Netns::pair()?;
    let path = format!("/run/netns/{}", net.client());
    assert!(std::fs::exists(&path)?);
    drop(net);
    assert!(!std::fs::exists(&path)?);
    Ok(())
}
