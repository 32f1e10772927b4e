//! Files with keys and certificates.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a pipe, or something else that is no file.
    #[error("{} is no regular file: give the path of one", path.display())]
    NotAFile {
        /// What is none.
        path: PathBuf,
    },
    /// It is longer than such a file can be.
    #[error("{} is longer than {max} bytes, which such a file never is", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        max: usize,
    },
    /// It holds a private key, and others than its owner can read it.
    #[error(
        "{} holds a private key and has mode {mode:04o}, so that others than its owner may use \
         it: run `chmod 600` on it",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is a file already, and it is not overwritten.
    #[error("{} exists, and a key is never overwritten: move it away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FileError {
    /// Whether there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The longest file with a private key, in bytes.
const MAX_KEY_LEN: usize = 16 * 1024;

/// The longest file with certificates, in bytes.
const MAX_CHAIN_LEN: usize = 256 * 1024;

/// Reads a private key. On Unix only its owner may be able to read the file.
pub(crate) fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read(path, MAX_KEY_LEN, true)
}

/// Reads certificates, which are no secret.
pub(crate) fn read_chain(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read(path, MAX_CHAIN_LEN, false)
}

fn read(path: &Path, max: usize, secret: bool) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    // Asked before it is opened: to open a pipe waits for who writes to it.
    let is_file = fs::metadata(path).map_err(failed)?.is_file();
    let not_a_file = || FileError::NotAFile { path: path.to_owned() };
    if !is_file {
        return Err(not_a_file());
    }
    let file = File::open(path).map_err(failed)?;
    // And of what was opened, which may be another by now.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(not_a_file());
    }
    if secret {
        refuse_exposed(path, &metadata)?;
    }
    // It never grows, which would leave a copy of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        return Err(FileError::TooLong { path: path.to_owned(), max });
    }
    Ok(bytes)
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &fs::Metadata) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_exposed(_path: &Path, _metadata: &fs::Metadata) -> Result<(), FileError> {
    Ok(())
}

/// Writes a private key to a new file that on Unix only its owner can read.
pub(crate) fn create_key(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists { path: path.to_owned() },
        _ => FileError::Write { path: path.to_owned(), source },
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|source| {
        // Half a key is of no use, and would be in the way.
        let _ = fs::remove_file(path);
        failed(source)
    })
}
