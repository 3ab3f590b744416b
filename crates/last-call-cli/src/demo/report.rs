//! The file that the timeline goes into, as a page.
//!
//! Owns its place, from before the demo to its end, so that a demo is not played for a file that cannot be written.
//! Refuses to leave half a page where a whole one was.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file to be.
#[derive(Debug)]
pub(crate) struct Report {
    path: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// Beside its place, which it takes at the end.
    Beside(NamedTempFile),
    /// A device, which cannot be replaced.
    Device(File),
}

impl Report {
    /// Makes sure that `path` can be written; none for "off".
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Failure> {
        if path.as_os_str() == "off" {
            return Ok(None);
        }
        let target = target(path).map_err(|error| Failure::Html { path: path.to_owned(), error })?;
        Ok(Some(Self { path: path.to_owned(), target }))
    }

    /// Writes the page; where it lies.
    pub(crate) fn write(self, page: &str) -> Result<PathBuf, Failure> {
        let Self { path, target } = self;
        let written = match target {
            Target::Device(mut file) => file.write_all(page.as_bytes()),
            Target::Beside(mut file) => {
                file.write_all(page.as_bytes()).and_then(|()| Ok(file.persist(&path).map(drop)?))
            }
        };
        match written {
            Ok(()) => Ok(fs::canonicalize(&path).unwrap_or(path)),
            Err(error) => Err(Failure::Html { path, error }),
        }
    }
}

fn target(path: &Path) -> io::Result<Target> {
    let refused = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    match fs::metadata(path).map(|meta| meta.file_type()) {
        Ok(kind) if kind.is_dir() => refused("it is a directory"),
        Ok(kind) if kind.is_fifo() || kind.is_socket() => refused("it is no file"),
        Ok(kind) if !kind.is_file() => OpenOptions::new().write(true).open(path).map(Target::Device),
        Ok(_) | Err(_) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let beside = tempfile::Builder::new()
                .prefix(".last-call-demo")
                .permissions(Permissions::from_mode(0o644))
                .tempfile_in(parent.unwrap_or(Path::new(".")))?;
            Ok(Target::Beside(beside))
        }
    }
}
