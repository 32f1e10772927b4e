//! The conformance suite, on the backend of `examples/custom_protocol`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

#[path = "../examples/custom_protocol/backend.rs"]
mod backend;

use std::{
    env, fs, io,
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use backend::Unix;
use network_core::{Endpoint, Limits, Network};
use network_testkit::{Fixture, Impostor, RawStream, Wire, conformance};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

conformance!(UnixFixture::new());

/// A directory of its own, which all networks of the fixture share.
#[derive(Debug)]
struct UnixFixture(UnixWire);

impl UnixFixture {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // A short path: the name of a socket has little room.
        let path = env::temp_dir().join(format!("network-unix-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(UnixWire(Arc::new(Directory(path, AtomicU64::new(0)))))
    }
}

#[async_trait]
impl Fixture for UnixFixture {
    async fn network(&self, limits: Limits) -> Network {
        let unix = Unix::new(&self.0.0.0);
        Network::builder().limits(limits).protocol(unix).build().unwrap()
    }

    fn listen_at(&self) -> Endpoint {
        Endpoint::parse("/unix/").unwrap()
    }

    fn wire(&self) -> Option<&dyn Wire> {
        Some(&self.0)
    }
}

/// Raw access to the sockets, for the cases with hostile peers.
#[derive(Debug)]
struct UnixWire(Arc<Directory>);

#[async_trait]
impl Wire for UnixWire {
    async fn dial(&self, listening: &Endpoint) -> io::Result<Box<dyn RawStream>> {
        let name = listening.value_of("unix").unwrap();
        Ok(Box::new(UnixStream::connect(self.0.0.join(name)).await?))
    }

    fn path(&self, listening: &Endpoint) -> String {
        let name = listening.value_of("unix").unwrap();
        listening.as_str()["/unix/".len() + name.len()..].to_owned()
    }

    async fn impostor(&self) -> io::Result<Impostor> {
        let name = format!("impostor{}", self.0.1.fetch_add(1, Ordering::Relaxed));
        let listener = UnixListener::bind(self.0.0.join(&name))?;
        let (come, victims) = mpsc::channel::<Box<dyn RawStream>>(16);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if come.send(Box::new(stream)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Impostor { endpoint: Endpoint::parse(&format!("/unix/{name}")).unwrap(), victims })
    }
}

/// Removed when the last who uses it is gone. The number is that of the next impostor.
#[derive(Debug)]
struct Directory(PathBuf, AtomicU64);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
