//! Logs of QUIC connections.

#![cfg(feature = "qlog")]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{fs, path::PathBuf, time::Duration};

use network_core::{Limits, Network, accept_all, handler_fn};
use network_quic::{QlogError, Quic};
use network_tls::{Identity, Tls};
use serde_json::Value;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(10);
const ANY: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// A folder of its own for a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("network-quic-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    /// What was written of connections of this side, a value for each line.
    fn logs(&self, side: &str) -> Vec<Vec<Value>> {
        let files = fs::read_dir(&self.0).unwrap().map(|file| file.unwrap().path());
        let of_side = format!("-{side}.sqlog");
        let files = files.filter(|path| path.to_str().unwrap().ends_with(&of_side));
        let read = |path| {
            let text = fs::read_to_string(path).unwrap();
            // RFC 7464: each value has a record separator before it. The last may not be whole yet.
            let values = text.lines().map(|line| line.trim_start_matches('\u{1e}'));
            values.map_while(|value| serde_json::from_str(value).ok()).collect()
        };
        files.map(read).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn quic() -> Quic {
    Quic::new(Tls::new().with_identity(Identity::generate().unwrap()))
}

fn network(quic: Quic) -> Network {
    let limits = Limits::default().with_close_time(Duration::from_millis(500));
    Network::builder().limits(limits).protocol(quic).build().unwrap()
}

#[tokio::test]
async fn each_connection_has_a_file_with_its_packets() {
    let folder = Folder::new("qlog");
    // Made with what leads to it.
    let nested = Folder(folder.0.join("a/b"));
    let logging = || network(quic().with_qlog(&nested.0).unwrap());
    let (there, here) = (logging(), logging());
    let server = there.bind(ANY).await.unwrap();
    server.listen(accept_all(handler_fn(|record| async move { Ok(record) }))).await.unwrap();
    for _ in 0..2 {
        // Each from a socket of its own, so that none is shared.
        let client = here.bind(ANY).await.unwrap();
        let connection = client.connect(server.local_endpoint(), ()).await.unwrap();
        let record = vec![b'x'; 100_000];
        let error = connection.send(record).await.unwrap_err();
        println!("as its ack is too long: {error}");
        assert_eq!(connection.send("secret").await.unwrap(), "secret");
    }
    let quiet = network(quic()).bind(ANY).await.unwrap();
    quiet.connect(server.local_endpoint(), ()).await.unwrap();
    here.shutdown(Duration::ZERO).await;
    there.shutdown(Duration::ZERO).await;
    let complete = async {
        // A file is written when the last of its connection has gone.
        let ends = |log: &Vec<Value>| log.len() > 20;
        while nested.logs("accepted").iter().filter(|log| ends(log)).count() < 3
            || nested.logs("dialed").iter().filter(|log| ends(log)).count() < 2
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, complete).await.unwrap();
    let (dialed, accepted) = (nested.logs("dialed"), nested.logs("accepted"));
    // That of the backend that logs nothing is in the log of the listener only.
    assert_eq!((dialed.len(), accepted.len()), (2, 3));
    for log in dialed.iter().chain(&accepted) {
        let title = log[0]["title"].as_str().unwrap();
        assert!(title.contains(" 127.0.0.1:"), "{title}");
        let sizes = |name: &str| {
            let events = log[1..].iter().filter(|event| event["name"] == name);
            events.map(|event| event["data"]["header"]["length"].as_u64()).collect::<Vec<_>>()
        };
        let (sent, received) = (sizes("transport:packet_sent"), sizes("transport:packet_received"));
        println!("{title}: {} packets sent, {} received", sent.len(), received.len());
        assert!(sent.len() > 2 && received.len() > 2, "{:?}", log.last());
        assert!(sent.iter().chain(&received).flatten().any(|size| *size >= 1_200), "{sent:?}");
    }
    for file in fs::read_dir(&nested.0).unwrap() {
        let path = file.unwrap().path();
        assert!(!fs::read_to_string(&path).unwrap().contains("secret"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_told_and_one_that_goes_costs_no_connection() {
    let folder = Folder::new("qlog-none");
    fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("file");
    fs::write(&file, "").unwrap();
    for bad in [&file, &file.join("below")] {
        let error = quic().with_qlog(bad).unwrap_err();
        let QlogError::Folder { path, .. } = &error else { panic!("{error:?}") };
        assert_eq!(path, bad);
        assert!(error.to_string().contains(bad.to_str().unwrap()), "{error}");
    }
    let logs = folder.0.join("logs");
    let logging = || network(quic().with_qlog(&logs).unwrap());
    let server = logging().bind(ANY).await.unwrap();
    server.listen(accept_all(handler_fn(|record| async move { Ok(record) }))).await.unwrap();
    let client = logging().bind(ANY).await.unwrap();
    fs::remove_dir(&logs).unwrap();
    let connection = timeout(SOON, client.connect(server.local_endpoint(), ())).await.unwrap();
    assert_eq!(connection.unwrap().send("hello").await.unwrap(), "hello");
    assert!(!logs.exists());
}
