//! The examples of rooms, each dispatched to a caller by the real server.

use std::time::Duration;

use anyhow::{Context, Result};
use last_call::rooms::{Room, RoomOptions, TOPIC_CHAT, TOPIC_TRANSCRIPTION, TextOptions};
use last_call_testkit::{Child, Launch, LiveKit, Sdk, Signal, skip};

use crate::scene::LONG;
use crate::server_log::{self, JOB_ENDED};

/// The example, registered, with a server of its own.
fn example(program: &str, variables: &[(&str, &str)]) -> Result<Option<(LiveKit, Child)>> {
    let Some(server) = LiveKit::or_skip()? else { return Ok(None) };
    let launch = Launch::new(program).args(["start", "--http", "off", "--load-threshold", "off"]);
    let launch = server.env().into_iter().fold(launch, |launch, (name, value)| launch.env(name, value));
    let launch = variables.iter().fold(launch, |launch, (name, value)| launch.env(name, value));
    let worker = launch.spawn()?;
    worker.wait_for_line(|line| line.contains("\"message\":\"registered\""), LONG)?;
    Ok(Some((server, worker)))
}

/// Its one job has ended well, and it drains.
fn ends_well(server: &LiveKit, worker: &Child) -> Result<()> {
    let ended = server_log::wait_for(server, "", JOB_ENDED, 1)?;
    assert_eq!(ended[0]["status"], "JS_SUCCESS");
    worker.signal(Signal::SIGTERM)?;
    assert_eq!(worker.wait(LONG)?.code, Some(0));
    Ok(())
}

/// A caller of ours.
async fn caller(server: &LiveKit) -> Result<Room> {
    let token = server.token("examples", "caller")?;
    Ok(Room::connect(&server.url(), &token, RoomOptions::default()).await?)
}

/// The identity of the agent that comes.
async fn agent(room: &Room) -> Result<String> {
    let agent = tokio::time::timeout(LONG, room.wait_for(|_| true)).await??;
    Ok(agent.identity().to_owned())
}

#[test]
fn tone_is_heard() -> Result<()> {
    let Ok(sdk) = Sdk::python().map_err(skip) else { return Ok(()) };
    let Some((server, worker)) = example(env!("CARGO_BIN_EXE_tone"), &[])? else { return Ok(()) };
    let caller = sdk.join_listening(&server, "examples", "caller")?;
    let agent = |line: &str| line.starts_with("hears agent-") && line.contains(" 880 ");
    caller.child().wait_for_line(agent, LONG)?;
    caller.leave()?;
    ends_well(&server, &worker)
}

#[test]
fn transcribe_to_wav_writes_what_was_said() -> Result<()> {
    let Ok(sdk) = Sdk::python().map_err(skip) else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let directory = folder.path().to_str().context("a path")?;
    let program = env!("CARGO_BIN_EXE_transcribe_to_wav");
    let Some((server, worker)) = example(program, &[("WAV_DIR", directory)])? else { return Ok(()) };
    let caller = sdk.join_listening(&server, "examples", "caller")?;
    let written = || std::fs::read_dir(folder.path()).into_iter().flatten().flatten().next();
    let long = || written().and_then(|file| file.metadata().ok()).is_some_and(|file| file.len() > 100_000);
    last_call_testkit::until("three seconds are written", LONG, long);
    caller.leave()?;
    ends_well(&server, &worker)?;
    let mut file = hound::WavReader::open(written().context("a file")?.path())?;
    let samples: Vec<i16> = file.samples().collect::<Result<_, _>>()?;
    // A tone of 440 Hz crosses zero 880 times a second.
    let second = samples.get(32_000..48_000).context("three seconds")?;
    let crossings = second.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
    assert!((870..=890).contains(&crossings), "{crossings}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_answers() -> Result<()> {
    let Some((server, worker)) = example(env!("CARGO_BIN_EXE_chat"), &[])? else { return Ok(()) };
    let room = caller(&server).await?;
    let agent = agent(&room).await?;
    let mut answers = room.text_streams(TOPIC_TRANSCRIPTION);
    let options = || TextOptions { topic: TOPIC_CHAT.to_owned(), ..TextOptions::default() };
    let mut heard = None;
    // A question from before the agent listens is nobody's.
    while heard.is_none() {
        room.send_text("is anybody there?", options()).await?;
        heard = tokio::time::timeout(Duration::from_secs(1), answers.next()).await.ok();
    }
    let mut answer = heard.flatten().context("the room ended")?;
    assert_eq!(answer.info().sender, agent);
    assert_eq!(answer.read_all(1000).await?, "You wrote: is anybody there?");
    room.leave().await;
    tokio::task::block_in_place(|| ends_well(&server, &worker))
}

#[tokio::test(flavor = "multi_thread")]
async fn rpc_adds() -> Result<()> {
    let Some((server, worker)) = example(env!("CARGO_BIN_EXE_rpc"), &[])? else { return Ok(()) };
    let room = caller(&server).await?;
    let mut greet = room.rpc_method("greet");
    let agent = agent(&room).await?;
    // The agent offers its method as soon as it is in: a call may be earlier.
    let mut sum = room.perform_rpc(&agent, "add", "1+2", LONG).await;
    while sum.as_ref().is_err_and(|error| error.code == last_call::rooms::RpcError::UNSUPPORTED_METHOD) {
        sum = room.perform_rpc(&agent, "add", "1+2", LONG).await;
    }
    assert_eq!(sum.as_deref(), Ok("3"));
    let wrong = room.perform_rpc(&agent, "add", "one", LONG).await.expect_err("no number");
    assert_eq!(wrong.code, last_call::rooms::RpcError::APPLICATION_ERROR);
    let call = tokio::time::timeout(LONG, greet.next()).await?.context("the room ended")?;
    assert_eq!(call.payload(), "agent");
    call.answer(Ok("hello".to_owned()));
    tokio::task::block_in_place(|| worker.wait_for_line(|line| line.contains("the caller says"), LONG))?;
    room.leave().await;
    tokio::task::block_in_place(|| ends_well(&server, &worker))
}
