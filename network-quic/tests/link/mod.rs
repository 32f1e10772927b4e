//! A link that loses, delays and reorders packets, in a network namespace of the test's own.
//!
//! Whoever is at 10.9.0.1 and talks to 10.9.0.2 talks to itself, through the kernel's IP, UDP and
//! TCP and a TUN device: what is read there goes back with source and destination swapped, which
//! leaves the checksums right.

use std::{
    env,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_tun::Tun;

pub(crate) const HERE: &str = "10.9.0.1";
pub(crate) const THERE: &str = "10.9.0.2";
/// Where a client seems to be once its network has changed.
const ELSEWHERE: u8 = 3;
const CHILD: &str = "NETWORK_LOSS_TEST";
/// As much as waits for its turn on the link, and no more.
const QUEUE: Duration = Duration::from_millis(100);

/// Runs a test in a network namespace of its own: as a child of this one.
pub(crate) fn alone<T: Future<Output = ()>>(name: &str, test: impl FnOnce(Arc<Link>) -> T) {
    if env::var_os(CHILD).is_none() {
        let child = Command::new("unshare")
            .args(["-n", "--"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(CHILD, name)
            .status()
            .expect("`unshare` makes the network namespace: install util-linux");
        assert!(child.success(), "in a network namespace (this needs root): {child}");
        return;
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let link = Link::new();
        timeout(Duration::from_secs(110), test(link)).await.expect("the test hangs");
    });
}

/// What the link does to packets. Can be changed while it runs.
#[derive(Debug)]
pub(crate) struct Link {
    /// Of a thousand packets, so many get lost.
    pub(crate) loss: AtomicU32,
    /// Of a thousand packets, so many are 10 ms late.
    pub(crate) late: AtomicU32,
    /// Milliseconds, one way.
    pub(crate) delay: AtomicU64,
    /// Nothing gets through.
    pub(crate) dark: AtomicBool,
    /// The UDP port whose packets come from another address.
    pub(crate) moved: AtomicU32,
}

/// Bits a second.
const RATE: u64 = 20_000_000;

impl Link {
    fn new() -> Arc<Self> {
        let address = HERE.parse().unwrap();
        let tun = Tun::builder().name("loss").address(address).mtu(1500);
        let tun = tun.netmask([255, 255, 255, 0].into()).up().build();
        let tun = Arc::new(tun.expect("a TUN device (this needs root)").remove(0));
        let link = Arc::new(Self {
            loss: AtomicU32::new(0),
            late: AtomicU32::new(0),
            delay: AtomicU64::new(25),
            dark: AtomicBool::new(false),
            moved: AtomicU32::new(0),
        });
        tokio::spawn(link.clone().carry(tun));
        link
    }

    async fn carry(self: Arc<Self>, tun: Arc<Tun>) {
        let (usual, late) = (line(tun.clone()), line(tun.clone()));
        let (mut packet, mut random, mut free_at) = ([0; 2048], 0x9e37_79b9_u32, Instant::now());
        while let Ok(len) = tun.recv(&mut packet).await {
            let packet = &mut packet[..len];
            if len < 28 || packet[0] != 0x45 {
                continue;
            }
            self.readdress(packet);
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let now = Instant::now();
            let full = free_at > now + QUEUE;
            if self.dark.load(Relaxed) || full || random % 1000 < self.loss.load(Relaxed) {
                continue;
            }
            free_at =
                free_at.max(now) + Duration::from_nanos(len as u64 * 8 * 1_000_000_000 / RATE);
            let due = free_at + Duration::from_millis(self.delay.load(Relaxed));
            let is_late = (random >> 10) % 1000 < self.late.load(Relaxed);
            let (line, due) = match is_late {
                true => (&late, due + Duration::from_millis(10)),
                false => (&usual, due),
            };
            let _ = line.send((due, packet.to_vec()));
        }
    }

    fn readdress(&self, packet: &mut [u8]) {
        let (from, to) = packet[12..20].split_at_mut(4);
        from.swap_with_slice(to);
        let moved = self.moved.load(Relaxed);
        let is_udp = packet[9] == 17;
        let came_from = u32::from(u16::from_be_bytes([packet[20], packet[21]]));
        if moved == 0 || !is_udp {
            return;
        }
        // From the client: from elsewhere. To elsewhere: as if to the client where it was.
        let source = &mut packet[15];
        match *source {
            2 if came_from == moved => *source = ELSEWHERE,
            ELSEWHERE => *source = 2,
            _ => return,
        }
        // UDP may go without a checksum; the header of IP may not.
        packet[26..28].fill(0);
        packet[10..12].fill(0);
        let words = packet[..20].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let sum = words.sum::<u32>();
        let sum = (sum & 0xffff) + (sum >> 16);
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Sends packets when they are due, one behind the other.
fn line(tun: Arc<Tun>) -> mpsc::UnboundedSender<(Instant, Vec<u8>)> {
    let (line, mut packets) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, packet)) = packets.recv().await {
            sleep_until(due).await;
            let _ = tun.send(&packet).await;
        }
    });
    line
}
