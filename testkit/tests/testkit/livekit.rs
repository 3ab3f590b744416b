//! The real server: dispatches, and the stub as its stand-in.

use std::time::Duration;

use anyhow::{Context, Result};
use last_call_testkit::LiveKit;

#[test]
fn a_dispatch_lives_until_its_server_dies() -> Result<()> {
    let Some(mut server) = LiveKit::or_skip()? else { return Ok(()) };
    let api = server.api().clone();
    assert_eq!(api.create_room("kitchen")?.name, "kitchen");
    let made = api.create_dispatch("kitchen", "concierge", "{}", &[("lineage", "first")])?;
    let listed =
        |id: &str| Ok::<_, anyhow::Error>(api.list_dispatch("kitchen")?.into_iter().find(|one| one.id == id));
    let found = listed(&made.id)?.context("the dispatch is not listed")?;
    assert_eq!(found.attributes.get("lineage").map(String::as_str), Some("first"));
    assert!(api.list_participants("kitchen")?.is_empty());
    assert!(api.remove_participant("kitchen", "nobody").is_err());
    api.delete_dispatch("kitchen", &made.id)?;
    assert!(listed(&made.id)?.is_none());
    api.delete_room("kitchen")?;

    api.create_room("cellar")?;
    server.kill()?;
    assert!(api.create_room("attic").is_err(), "nobody listens");
    server.restart()?;
    assert!(api.list_dispatch("cellar").is_err() || api.list_dispatch("cellar")?.is_empty());
    assert_eq!(server.stop(Duration::from_secs(30))?.code, Some(0));
    Ok(())
}
