//! A server that is older than the single connection.

use anyhow::Result;
use last_call_rtc::{DataOptions, RoomEvent, RoomOptions};
use last_call_testkit::LiveKit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::scene::{event, join, soon};

/// Says of `/rtc/v1` that there is no such thing, as servers before it do, and passes on the rest.
async fn older(server: &LiveKit) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (url, target) = (format!("ws://{}", listener.local_addr()?), server.address());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut begin = [0; 12];
                client.read_exact(&mut begin).await?;
                if begin.starts_with(b"GET /rtc/v1") {
                    return client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
                }
                let mut server = TcpStream::connect(target).await?;
                server.write_all(&begin).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
            });
        }
    });
    Ok(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_gets_two_connections_by_itself() -> Result<()> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(()) };
    let url = older(&server).await?;
    let token = server.token("older", "alice")?;
    let alice = soon(last_call_rtc::Room::connect(&url, &token, RoomOptions::default())).await??;
    let bob = join(&server, "older", "bob", RoomOptions::default()).await?;
    let mut events = bob.events();
    alice.publish_data(vec![1], DataOptions::default()).await?;
    event(&mut events, |event| matches!(event, RoomEvent::DataReceived { .. }).then_some(())).await?;
    Ok(())
}
