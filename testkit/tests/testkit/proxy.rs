//! The proxy: tunnels recorded, routed and refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use last_call_testkit::{Proxy, Stub};

const LONG: Duration = Duration::from_secs(30);

/// Asks for a tunnel, and if one opens, for an upgrade through it; everything that came back.
fn ask(proxy: &Proxy) -> Result<String> {
    let mut stream = TcpStream::connect(proxy.url().trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(LONG))?;
    let head = "CONNECT livekit.test:443 HTTP/1.1\r\nHost: livekit.test:443\r\nProxy-Authorization: Basic c2VzYW1l\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"GET /agent HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    // The end may be a reset, where the proxy has left bytes unread.
    let _ = stream.read_to_string(&mut answer);
    Ok(answer)
}

#[test]
fn a_name_that_only_the_proxy_knows_leads_to_the_route() -> Result<()> {
    let stub = Stub::auto()?;
    let proxy = Proxy::start(Some(stub.address()))?;
    let answer = ask(&proxy)?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let connect = proxy.wait(LONG)?;
    assert_eq!((connect.target.as_str(), connect.status), ("livekit.test:443", 200));
    assert_eq!(connect.authorization.as_deref(), Some("Basic c2VzYW1l"));
    assert!(!format!("{connect:?}").contains("c2VzYW1l"));
    Ok(())
}

#[test]
fn a_refusal_opens_no_tunnel() -> Result<()> {
    let stub = Stub::auto()?;
    let proxy = Proxy::start(Some(stub.address()))?;
    proxy.refuse(407);
    let answer = ask(&proxy)?;
    assert!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
    assert_eq!(proxy.seen().len(), 1);
    assert!(stub.events().is_empty());
    Ok(())
}
