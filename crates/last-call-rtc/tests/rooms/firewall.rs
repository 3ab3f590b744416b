//! Networks that let no plain UDP through: media goes over TCP, or by a relay.

use std::net::UdpSocket;
use std::process::Command;

use anyhow::{Context, Result};
use last_call_rtc::{AudioSource, DataOptions, PublishOptions, RoomEvent, RoomOptions};
use last_call_testkit::{LiveKit, Settings, TurnServer, TurnTransport};

use super::audio::{first_track, hears, sing};
use super::scene::{MODES, Mode, event, join};

/// A tone, and data, from one participant to another.
async fn a_call(server: &LiveKit, name: &str, options: RoomOptions) -> Result<()> {
    let alice = join(server, name, "alice", options.clone()).await?;
    let bob = join(server, name, "bob", options).await?;
    let mut heard = bob.events();
    let source = AudioSource::new(48_000, 1);
    alice.publish_audio(&source, PublishOptions { dtx: false, ..PublishOptions::default() }).await?;
    let singer = sing(source, 440.0);
    let track = first_track(&bob).await?;
    let purity = hears(&bob, &track, 440.0).await?;
    assert!(purity > 0.95, "{name}: {purity}");
    alice.publish_data(b"through the wall".to_vec(), DataOptions::default()).await?;
    event(&mut heard, |event| matches!(event, RoomEvent::DataReceived { .. }).then_some(())).await?;
    singer.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_udp_is_reached_over_tcp() -> Result<()> {
    let settings = Settings { rtc: ", force_tcp: true".to_owned(), ..Settings::default() };
    let Some(server) = LiveKit::with_or_skip(settings)? else { return Ok(()) };
    for mode in MODES {
        a_call(&server, &format!("tcp-{mode:?}"), mode.options()).await?;
    }
    Ok(())
}

/// livekit-server's own relay, which lets nobody talk to loopback unless it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_own_relay_carries_a_call() -> Result<()> {
    let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let lines = format!(
        "turn: {{enabled: true, udp_port: {port}, bind_addresses: [127.0.0.1], \
         allow_restricted_peer_cidrs: [127.0.0.0/8]}}\n"
    );
    let Some(server) = LiveKit::with_or_skip(Settings { lines, ..Settings::default() })? else {
        return Ok(());
    };
    for mode in MODES {
        let options = RoomOptions { relay_only: true, ..mode.options() };
        a_call(&server, &format!("embedded-{mode:?}"), options).await?;
    }
    Ok(())
}

async fn by_coturn(relay: &TurnServer, transport: TurnTransport) -> Result<()> {
    let Some(server) = LiveKit::with_or_skip(relay.settings(transport))? else { return Ok(()) };
    for mode in MODES {
        let options = RoomOptions { relay_only: true, ..mode.options() };
        a_call(&server, &format!("{transport:?}-{mode:?}"), options).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn coturn_carries_a_call_over_udp_and_tcp() -> Result<()> {
    let Some(relay) = TurnServer::or_skip()? else { return Ok(()) };
    by_coturn(&relay, TurnTransport::Udp).await?;
    by_coturn(&relay, TurnTransport::Tcp).await
}

/// In a process of its own, which trusts the relay's certificate: what is trusted is read from the environment.
#[tokio::test(flavor = "multi_thread")]
async fn coturn_carries_a_call_over_tls() -> Result<()> {
    const TRUST: &str = "SSL_CERT_FILE";
    const RELAY: &str = "LAST_CALL_TEST_RELAY";
    if let Some(settings) = std::env::var(RELAY).ok().filter(|_| std::env::var_os(TRUST).is_some()) {
        let settings = Settings { rtc: settings, ..Settings::default() };
        let server = LiveKit::with_or_skip(settings)?.context("the parent has one")?;
        let options = RoomOptions { relay_only: true, ..Mode::Single.options() };
        return a_call(&server, "tls", options).await;
    }
    let (Some(relay), Ok(_)) = (TurnServer::or_skip()?, LiveKit::binary().map_err(last_call_testkit::skip))
    else {
        return Ok(());
    };
    let child = tokio::task::block_in_place(|| {
        Command::new(std::env::current_exe()?)
            .args(["--exact", "firewall::coturn_carries_a_call_over_tls"])
            .env(TRUST, relay.certificate())
            .env(RELAY, relay.settings(TurnTransport::Tls).rtc)
            .output()
    })?;
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    Ok(())
}

/// A relay that is not there costs the call nothing where the direct way stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_not_there_is_not_missed() -> Result<()> {
    let rtc =
        ", turn_servers: [{host: localhost, port: 9, protocol: tcp, username: u, credential: p}]".to_owned();
    let Some(server) = LiveKit::with_or_skip(Settings { rtc, ..Settings::default() })? else {
        return Ok(());
    };
    a_call(&server, "direct", RoomOptions::default()).await
}
