//! What a job was given, written down for a test to judge.
//!
//! Owns `<job id>.json` beside the job's diary, readable by its owner only: the join token is in it. Refuses
//! to be written unless the job's orders say so.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use last_call::ParticipantInfo;
use last_call::prelude::*;
use serde_json::json;

use crate::diary::file_name;

pub(crate) fn write(dir: &Path, job: &JobContext) -> Result<(), Error> {
    let info = job.info();
    let participant = job.participant();
    let told = json!({
        "job": info.id(),
        "dispatch": info.dispatch_id(),
        "type": info.job_type().as_str(),
        "room": job.room().name(),
        "participant": participant.map(ParticipantInfo::identity),
        "metadata": job.metadata(),
        "attributes": job.attributes(),
        "agent_name": info.agent_name(),
        "deployment": info.deployment(),
        "identity": job.identity(),
        "url": job.url(),
        "worker": job.worker_id(),
        "token": job.token(),
    });
    let path = dir.join(format!("{}.json", file_name(job.id())));
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(told.to_string().as_bytes())?;
    Ok(())
}
