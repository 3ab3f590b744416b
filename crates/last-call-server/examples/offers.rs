//! How many offers a second the server makes and has answered, and what it weighs with 100 workers and 1,000 jobs.
//!
//! Server and workers are two processes, this program twice, so that the weight is the server's alone. Every dispatch
//! is declined by all workers, so one dispatch is 100 offers; 1,000 calls are taken before.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use last_call_server::{Config, Keys, Server};
use last_call_testkit::{Api, proto};
use livekit_token::{AccessToken, VideoGrants};
use prost::Message as _;
use proto::server_message::Message as Down;
use proto::worker_message::Message as Up;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, block_in_place};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const KEY: &str = "devkey";
const SECRET: &str = "secret-of-a-server-that-only-tests-know";
const WORKERS: usize = 100;
const CALLS: usize = 1_000;
const DISPATCHES: usize = 400;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if std::env::args().nth(1).as_deref() == Some("server") {
        return runtime.block_on(serve());
    }
    let mut server = Command::new(std::env::current_exe()?).arg("server").stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    let said = BufReader::new(server.stdout.take().context("its output")?).read_line(&mut address);
    let measured =
        said.context("no address").and_then(|_| runtime.block_on(measure(address.trim(), server.id())));
    server.kill()?;
    server.wait()?;
    measured
}

async fn serve() -> Result<()> {
    let keys = Keys { key: KEY.into(), secret: SECRET.into() };
    let server = Server::bind(Config::new(([127, 0, 0, 1], 0).into(), keys))?;
    writeln!(std::io::stdout(), "{}", server.address())?;
    server.run(std::future::pending()).await;
    Ok(())
}

async fn measure(address: &str, server: u32) -> Result<()> {
    let (offered, mut offers) = mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(address.to_owned(), offered.clone()));
    }
    for _ in 0..WORKERS {
        offers.recv().await.context("a worker registered")?;
    }
    let idle = rss_mib(server)?;
    let api = Api::new(format!("http://{address}"), KEY, SECRET);
    for call in 0..CALLS {
        block_in_place(|| api.create_dispatch(&format!("call-{call}"), "a", "take", &[]))?;
        offers.recv().await.context("an offer")?;
    }
    let busy = rss_mib(server)?;
    let started = Instant::now();
    let mut asked = Vec::new();
    for thread in 0..4 {
        let api = api.clone();
        asked.push(std::thread::spawn(move || -> Result<()> {
            for dispatch in 0..DISPATCHES / 4 {
                api.create_dispatch(&format!("declined-{thread}-{dispatch}"), "a", "", &[])?;
            }
            Ok(())
        }));
    }
    for _ in 0..DISPATCHES * WORKERS {
        let next = tokio::time::timeout(Duration::from_secs(30), offers.recv()).await;
        if next.is_err() {
            bail!("offers are missing: the budget of 3 s was too short for so many workers");
        }
    }
    let took = started.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(DISPATCHES * WORKERS)?) / took;
    let mut out = std::io::stdout();
    writeln!(out, "{rate:.0} offers/s, each answered, over {WORKERS} workers")?;
    writeln!(out, "RSS with {WORKERS} workers {idle:.1} MiB, with {CALLS} jobs {busy:.1} MiB")?;
    writeln!(out, "RSS afterwards {:.1} MiB", rss_mib(server)?)?;
    Ok(())
}

/// A worker that takes what says so and declines the rest.
async fn work(address: String, offered: mpsc::UnboundedSender<()>) -> Result<()> {
    let grants = VideoGrants { agent: true, ..Default::default() };
    let token = AccessToken::with_api_key(KEY, SECRET).with_grants(grants).to_jwt()?;
    let mut request = format!("ws://{address}/agent").into_client_request()?;
    request.headers_mut().insert("Authorization", format!("Bearer {token}").parse()?);
    let stream = tokio::net::TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::client_async(request, stream).await?.0;
    let frame =
        |message| Message::Binary(proto::WorkerMessage { message: Some(message) }.encode_to_vec().into());
    let register = proto::RegisterWorkerRequest { agent_name: "a".into(), ..Default::default() };
    socket.send(frame(Up::Register(register))).await?;
    while let Some(message) = socket.next().await {
        let Message::Binary(bytes) = message? else { continue };
        match proto::ServerMessage::decode(bytes)?.message {
            Some(Down::Register(_)) => offered.send(())?,
            Some(Down::Availability(offer)) => {
                let job = offer.job.context("a job")?;
                let answer = proto::AvailabilityResponse {
                    available: job.metadata == "take",
                    participant_identity: format!("agent-{}", job.id),
                    job_id: job.id,
                    ..Default::default()
                };
                socket.send(frame(Up::Availability(answer))).await?;
                offered.send(())?;
            }
            Some(Down::Assignment(_) | Down::Termination(_) | Down::Pong(_) | Down::GoAway(_)) | None => {}
        }
    }
    Ok(())
}

/// What a process holds of the machine's memory.
fn rss_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
