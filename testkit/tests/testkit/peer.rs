//! The workers of LiveKit's own SDKs do as their settings say.

use std::time::Duration;

use last_call_testkit::{Job, Peer, Stub, skip};

const PROMPT: Duration = Duration::from_secs(60);

#[test]
fn a_worker_of_each_sdk_takes_jobs_and_does_what_they_say() {
    for peer in Peer::ALL {
        let launch = match peer.worker() {
            Ok(launch) => launch,
            Err(missing) => return skip(missing),
        };
        let file = std::env::temp_dir().join(format!("last-call-peer-{}", std::process::id()));
        let stub = Stub::auto().unwrap();
        let launch = launch.env("LIVEKIT_URL", stub.url()).env("LIVEKIT_API_KEY", "devkey");
        let launch = launch.env("LIVEKIT_API_SECRET", "a secret that is as long as it has to be");
        let launch = launch.env("PEER_BUSY", "0.3").env("PEER_REQUEST", "0.1").env("PEER_ENTRY", "return");
        let worker = launch.spawn().unwrap();
        stub.wait_registered(0, PROMPT).unwrap();
        stub.offer(Job::new("AJ_waits").metadata(&format!("wait {}", file.display()))).unwrap();
        let said = |event, job| Peer::event(&worker, event, Some(job), PROMPT).unwrap().0.at;
        said("started", "AJ_waits");
        stub.offer(Job::new("AJ_quick")).unwrap();
        let quick = said("ended", "AJ_quick");
        std::fs::write(&file, "").unwrap();
        let waited = said("ended", "AJ_waits");
        std::fs::remove_file(&file).unwrap();
        assert!(quick < waited, "{}", peer.name());
    }
}
