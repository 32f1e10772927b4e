//! The input: the files of this repository.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use network::Bytes;
use sha2::{Digest, Sha256};

use crate::table::bytes;

/// The kinds of files that are read.
const KINDS: [&str; 3] = ["rs", "md", "toml"];

/// A file, and what its ack must be.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) contents: Bytes,
    pub(crate) sha256: [u8; 32],
}

/// At least one file, each short enough for a record.
pub(crate) struct Files {
    files: Vec<File>,
    /// Files that no record can hold.
    too_long: usize,
}

impl Files {
    pub(crate) fn of_this_repository(max_len: usize) -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut paths = Vec::new();
        walk(root, &mut paths)?;
        paths.sort();
        let mut found = Self { files: Vec::new(), too_long: 0 };
        for path in paths {
            let contents = match fs::read(&path) {
                Ok(contents) => Bytes::from(contents),
                // Removed or made unreadable since the directory was read.
                Err(_) => continue,
            };
            if contents.len() > max_len {
                found.too_long += 1;
                continue;
            }
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let sha256 = Sha256::digest(&contents).into();
            found.files.push(File { name, contents, sha256 });
        }
        if found.files.is_empty() {
            let problem = format!("{} holds no *.rs, *.md or *.toml", root.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, problem));
        }
        Ok(found)
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// One after the other, for ever.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = &File> {
        self.files.iter().cycle()
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.files.iter().map(|file| file.contents.len() as u64).sum();
        let longest = self.files.iter().map(|file| file.contents.len() as u64).max();
        writeln!(
            f,
            "{} files of this repository are the records: {}, the longest has {}.",
            self.files.len(),
            bytes(total),
            bytes(longest.unwrap_or(0)),
        )?;
        write!(f, "The handler acks each with its SHA-256, and every ack is checked.")?;
        if self.too_long > 0 {
            write!(f, "\n{} files are too long for a record and were left out.", self.too_long)?;
        }
        Ok(())
    }
}

/// Adds the files below `directory`, without build output and whatever is hidden.
fn walk(directory: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = entry.path();
        let kind = entry.file_type()?;
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            walk(&path, paths)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|extension| KINDS.iter().any(|kind| extension == *kind))
        {
            paths.push(path);
        }
    }
    Ok(())
}
