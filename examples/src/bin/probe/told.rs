//! What a job was given, written down for a test to judge.
//!
//! Owns `<job id>.json` beside the job's diary, readable by its owner only: the join token is in it. Refuses
//! to be written unless the job's orders say so.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::Value;

use crate::diary::file_name;

pub(crate) fn write(dir: &Path, job: &str, told: &Value) -> io::Result<()> {
    let path = dir.join(format!("{}.json", file_name(job)));
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(told.to_string().as_bytes())
}
