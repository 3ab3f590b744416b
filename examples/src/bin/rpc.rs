//! An agent whose methods its callers call: `add` takes "1+2". And it calls one of theirs, `greet`, where they have it.
//!
//! Run it against a server with `cargo run --bin rpc -- dev`, and call it from a client.

use std::process::ExitCode;
use std::time::Duration;

use last_call::prelude::*;
use last_call::rooms::RpcError;

/// What the official SDKs wait for.
const WITHIN: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    last_call::run(Worker::new("").entrypoint(rpc))
}

async fn rpc(job: JobContext) -> Result<(), Error> {
    let room = job.connect().await?;
    let mut add = room.rpc_method("add");
    let caller = room.wait_for_participant().await?;
    let calls = async {
        while let Some(call) = add.next().await {
            let sum = call.payload().split('+').map(str::trim).map(str::parse::<i64>).sum::<Result<i64, _>>();
            let result = sum.map(|sum| sum.to_string());
            call.answer(result.map_err(|error| RpcError::application(error.to_string())));
        }
    };
    let greeting = async {
        match room.perform_rpc(caller.identity(), "greet", "agent", WITHIN).await {
            Ok(greeting) => tracing::info!(greeting, "the caller says"),
            Err(error) => tracing::info!(%error, "the caller says nothing"),
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = calls => {}
        () = greeting => {}
        () = room.left(caller.identity()) => {}
        _ = job.stopping() => {}
    }
    Ok(())
}
