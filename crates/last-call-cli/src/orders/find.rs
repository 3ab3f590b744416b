//! Which admin sockets a command is about.
//!
//! Owns the search of directories. Refuses to connect: what a socket is worth, its worker says.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::shown;

/// Sockets, and how they came to be meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sockets {
    paths: Vec<PathBuf>,
    /// The directories that were searched.
    searched: Vec<PathBuf>,
}

/// The sockets among `given`, and those in its directories by name. A path that is not there counts as a socket:
/// its worker may have left.
pub(super) fn sockets(given: &[PathBuf]) -> Result<Sockets, Failure> {
    let given: Vec<&PathBuf> = given.iter().filter(|path| !path.as_os_str().is_empty()).collect();
    if given.is_empty() {
        return Err(Failure::Usage(
            "no worker is named; give the path that is its --admin-socket, or set LAST_CALL_ADMIN_SOCKET to it"
                .to_owned(),
        ));
    }
    let mut found = Sockets { paths: Vec::new(), searched: Vec::new() };
    for path in given {
        if !path.is_dir() {
            found.paths.push(path.clone());
            continue;
        }
        let within = within(path).map_err(|error| Failure::Search { path: path.clone(), error })?;
        found.paths.extend(within);
        found.searched.push(path.clone());
    }
    let mut seen = std::collections::BTreeSet::new();
    found.paths.retain(|path| seen.insert(path.clone()));
    Ok(found)
}

fn within(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    use std::os::unix::fs::FileTypeExt;
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let ours = path.extension().is_some_and(|extension| extension == "sock");
        if ours && fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_socket()) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl Sockets {
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Whether each was given by its own path.
    pub(super) fn named(&self) -> bool {
        self.searched.is_empty()
    }

    /// What to say where no worker is found.
    pub(super) fn nobody(&self) -> String {
        let mut text = "no worker is found in ".to_owned();
        for (at, directory) in self.searched.iter().enumerate() {
            let _ = write!(text, "{}{}", if at == 0 { "" } else { ", " }, shown::path(directory));
        }
        text + ": a worker makes its socket there when its --admin-socket is the directory, or a *.sock in it"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_directory_stands_for_the_sockets_in_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let _living: Vec<UnixListener> =
            ["b.sock", "a.sock", "other"].map(|name| UnixListener::bind(at(name)).expect("bound")).into();
        fs::write(at("file.sock"), "").expect("a file");
        fs::create_dir(at("below.sock")).expect("a directory");
        let found = sockets(&[directory.path().to_owned(), at("b.sock")]).expect("found");
        assert_eq!(found.paths(), [at("a.sock"), at("b.sock")]);
        assert!(!found.named());
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        let gone = PathBuf::from("/nowhere/gone.sock");
        let found = sockets(&[PathBuf::new(), gone.clone(), gone.clone()]).expect("found");
        assert_eq!((found.paths(), found.named()), ([gone].as_slice(), true));
    }

    #[test]
    fn nothing_given_is_a_mistake_that_says_what_to_give() {
        for given in [vec![], vec![PathBuf::new()]] {
            let error = sockets(&given).expect_err("nothing").to_string();
            assert!(error.contains("--admin-socket") && error.contains("LAST_CALL_ADMIN_SOCKET"), "{error}");
        }
    }
}
