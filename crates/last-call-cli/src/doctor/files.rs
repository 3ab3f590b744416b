//! Files of others, read whole.
//!
//! Owns how much of one is read. Refuses to judge what is in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More is no manifest and no program that somebody wrote.
const MOST: u64 = 1 << 20;

/// # Errors
/// As the system says, or where it is too large; bytes that are no text are replaced.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other(format!(
            "it is larger than {} MiB, which is the most that is read",
            MOST >> 20
        )));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_not_read() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a.py");
        for (size, read_whole) in [(MOST, true), (MOST + 1, false)] {
            std::fs::write(&path, vec![b'x'; usize::try_from(size).expect("small")]).expect("a file");
            assert_eq!(read(&path).is_ok(), read_whole, "{size}");
        }
        let error = read(Path::new("/dev/zero")).expect_err("it has no end").to_string();
        assert!(error.contains("larger than 1 MiB"), "{error}");
        std::fs::write(&path, b"a\xff").expect("a file");
        assert_eq!(read(&path).expect("a text"), "a\u{fffd}");
    }
}
