//! Every bound on what a peer or a program can use, in one place.

use std::time::Duration;

/// The bounds of a network and of its connections.
///
/// Each has a default and a `with_` setter. What concerns both sides (windows, record and
/// ack sizes) is told to the peer in the opening frame, and each side keeps to the smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest record this side takes and sends, in bytes. Default: 4 MiB.
    pub max_record_len: usize,
    /// The longest ack this side takes and gives, in bytes. Default: 64 KiB: a peer can make
    /// this side hold a window of acks that the program has not taken yet.
    pub max_ack_len: usize,
    /// How many records may be un-acked in each direction of a connection.
    /// Default: 1,024; at most [`Limits::MAX_WINDOW_RECORDS`].
    pub window_records: u32,
    /// How many bytes of records may be un-acked in each direction of a connection. At least
    /// one record of `max_record_len` always fits. Default: 16 MiB.
    pub window_bytes: u64,
    /// How many bytes of records that came in and have no answer yet a network holds at a
    /// time, all its connections together. A record beyond that is not taken, and its sender
    /// gets [`SendError::NoRoom`](crate::SendError::NoRoom). Each connection may hold 64 KiB
    /// whatever the others hold, so that small records always get through. Default: 1 GiB.
    pub memory: usize,
    /// How long a connect may take in all, names and handshakes included. Default: 20 s.
    pub connect_time: Duration,
    /// How long a remote may take over its part of a handshake. Default: 10 s.
    pub handshake_time: Duration,
    /// How long a listener may take to decide over an attempt. Default: 60 s.
    pub accept_time: Duration,
    /// After how long without a sign of the remote a sign is asked for. Default: 15 s.
    pub keepalive_time: Duration,
    /// After how long without a sign of the remote a connection counts as lost. It is
    /// noticed within one more `keepalive_time`. Default: 45 s.
    pub idle_time: Duration,
    /// How long a close waits for the remote's closing word. Default: 5 s.
    pub close_time: Duration,
    /// How many connections a network holds at a time, both directions. Default: 65,536.
    pub max_connections: usize,
    /// How many inbound handshakes, and attempts not yet decided over, a network has in
    /// progress. Default: 4,096.
    pub max_handshakes: usize,
    /// How many ports a network binds. Default: 65,536.
    pub max_ports: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_record_len: 4 << 20,
            max_ack_len: 64 << 10,
            window_records: 1024,
            window_bytes: 16 << 20,
            memory: 1 << 30,
            connect_time: Duration::from_secs(20),
            handshake_time: Duration::from_secs(10),
            accept_time: Duration::from_secs(60),
            keepalive_time: Duration::from_secs(15),
            idle_time: Duration::from_secs(45),
            close_time: Duration::from_secs(5),
            max_connections: 65_536,
            max_handshakes: 4_096,
            max_ports: 65_536,
        }
    }
}

macro_rules! setters {
    ($($setter:ident sets $field:ident: $type:ty;)*) => {
        impl Limits {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $setter(mut self, value: $type) -> Self {
                    self.$field = value;
                    self
                }
            )*
        }
    };
}

setters! {
    with_max_record_len sets max_record_len: usize;
    with_max_ack_len sets max_ack_len: usize;
    with_window_records sets window_records: u32;
    with_window_bytes sets window_bytes: u64;
    with_memory sets memory: usize;
    with_connect_time sets connect_time: Duration;
    with_handshake_time sets handshake_time: Duration;
    with_accept_time sets accept_time: Duration;
    with_keepalive_time sets keepalive_time: Duration;
    with_idle_time sets idle_time: Duration;
    with_close_time sets close_time: Duration;
    with_max_connections sets max_connections: usize;
    with_max_handshakes sets max_handshakes: usize;
    with_max_ports sets max_ports: usize;
}

impl Limits {
    /// The largest window, in records: ids on the wire keep 16 bits for the slot.
    pub const MAX_WINDOW_RECORDS: u32 = 32_768;
    /// The longest record or ack that the frame header can carry, in bytes.
    pub const MAX_FRAME_LEN: usize = 1 << 30;

    /// The nearest limits that can work: a window of at least one record, room for one
    /// record of the longest size, times that are not zero.
    #[must_use]
    pub(crate) fn sane(mut self) -> Self {
        self.max_record_len = self.max_record_len.min(Self::MAX_FRAME_LEN);
        self.max_ack_len = self.max_ack_len.min(Self::MAX_FRAME_LEN);
        self.window_records = self.window_records.clamp(1, Self::MAX_WINDOW_RECORDS);
        self.window_bytes = self.window_bytes.max(self.max_record_len as u64);
        // Else the longest record could never come in.
        self.memory = self.memory.max(self.max_record_len);
        self.keepalive_time = self.keepalive_time.max(Duration::from_millis(1));
        self.idle_time = self.idle_time.max(self.keepalive_time);
        self
    }
}
