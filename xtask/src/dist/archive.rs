//! A tar.gz whose bytes depend on nothing but what is in it.
//!
//! Owns order, owners, times and modes. Refuses links, directories of their own, and the name of whoever packs.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// One file of the archive.
pub(super) struct Entry {
    path: String,
    mode: u32,
    bytes: Vec<u8>,
}

impl Entry {
    /// A file to run.
    pub(super) fn program(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o755, bytes }
    }

    /// A file to read.
    pub(super) fn text(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o644, bytes }
    }
}

/// Writes the archive, with everything under `top` and from the second `time`.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(path: &Path, top: &str, time: u64, entries: Vec<Entry>) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    pack(file, top, time, entries).with_context(|| format!("cannot write {}", path.display()))
}

fn pack(to: impl Write, top: &str, time: u64, mut entries: Vec<Entry>) -> std::io::Result<()> {
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let mut tar = Builder::new(GzEncoder::new(to, Compression::best()));
    for Entry { path, mode, bytes } in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, format!("{top}/{path}"), bytes.as_slice())?;
    }
    tar.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: Vec<Entry>) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(&mut bytes, "top", 1_000_000_000, entries).expect("memory takes all");
        bytes
    }

    #[test]
    fn the_order_of_packing_does_not_show() {
        let one = || Entry::program("b", b"1".to_vec());
        let other = || Entry::text("a/c", b"2".to_vec());
        let archive = packed(vec![one(), other()]);
        assert_eq!(archive, packed(vec![other(), one()]));
        // The header of gzip holds no time, and no system's name.
        assert_eq!((&archive[4..8], archive[9]), (&[0; 4][..], 255));
        let mut read = tar::Archive::new(flate2::read::GzDecoder::new(archive.as_slice()));
        let seen: Vec<_> = read
            .entries()
            .expect("an archive")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                let owners = (header.uid().expect("a number"), header.gid().expect("a number"));
                let path = entry.path().expect("a path").display().to_string();
                (path, header.mode().expect("a mode"), header.mtime().expect("a time"), owners)
            })
            .collect();
        let expected = |path: &str, mode| (path.to_owned(), mode, 1_000_000_000, (0, 0));
        assert_eq!(seen, [expected("top/a/c", 0o644), expected("top/b", 0o755)]);
    }
}
