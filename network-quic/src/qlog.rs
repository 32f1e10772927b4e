//! Logs of QUIC connections in files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    net::SocketAddr,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use quinn::{QlogConfig, QlogStream};

/// Why there are to be no logs of QUIC connections.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QlogError {
    /// The folder is not there and cannot be made, or it is none.
    #[error("{} cannot be used as a folder for logs of QUIC connections", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A folder with a file for each QUIC connection.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Result<Self, QlogError> {
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(QlogError::Folder { path, source }),
        }
    }

    /// A new file in it. A connection does without where there can be none: it is not worth less
    /// than its log.
    pub(crate) fn log(&self, side: &str, remote: SocketAddr) -> Option<QlogStream> {
        // Of all backends in this process: they may have one folder.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Other processes may have the folder too, and a process id comes again.
        let path = self.0.join(format!("{now}-{}-{number}-{side}.sqlog", process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = match options.open(&path) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a QUIC connection has no log");
                return None;
            }
        };
        let mut config = QlogConfig::default();
        config
            .title(Some(format!("{side} {remote}")))
            .writer(Box::new(Log { path, file: Some(BufWriter::new(file)) }));
        config.into_stream()
    }
}

/// A file that is written as long as that works: else each packet would be told of as an error.
struct Log {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Log {
    fn with(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        if let Some(file) = &mut self.file
            && let Err(error) = write(file)
        {
            tracing::warn!(path = %self.path.display(), %error, "a log of a QUIC connection ends");
            if let Some(file) = self.file.take() {
                // Without another try to write what is left.
                drop(file.into_parts());
            }
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(BufWriter::flush);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_log_that_cannot_be_written_ends_and_is_no_error() {
        let path = PathBuf::from("/dev/full");
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let mut log = Log { path, file: Some(BufWriter::new(file)) };
        log.write_all(b"a line").unwrap();
        assert!(log.file.is_some());
        log.flush().unwrap();
        assert!(log.file.is_none());
        log.write_all(b"another").unwrap();
        log.flush().unwrap();
    }
}
