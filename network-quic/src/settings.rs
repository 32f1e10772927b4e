//! What a program chooses, and what becomes of it in the terms of QUIC.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use network_core::Limits;
use quinn::{IdleTimeout, TransportConfig, VarInt, congestion};

/// How a sender learns how much the path carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Congestion {
    /// CUBIC ([RFC 9438](https://www.rfc-editor.org/rfc/rfc9438)), as most TCP has it.
    #[default]
    Cubic,
    /// NewReno, as RFC 9002 §7 describes it.
    NewReno,
    /// BBR, which keeps its speed where packets are lost without congestion. Experimental in
    /// quinn.
    Bbr,
}

/// Who says or takes an opening before the handshake of QUIC is over. See
/// [`Quic::with_early_data`](crate::Quic::with_early_data).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EarlyData {
    /// Nobody.
    #[default]
    Never,
    /// This side where it dials.
    Dialing,
    /// This side where it listens.
    Listening,
    /// This side, whatever it does.
    Both,
}

impl EarlyData {
    pub(crate) fn dials(self) -> bool {
        matches!(self, Self::Dialing | Self::Both)
    }

    pub(crate) fn listens(self) -> bool {
        matches!(self, Self::Listening | Self::Both)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) congestion: Congestion,
    pub(crate) early_data: EarlyData,
    pub(crate) unordered: bool,
    pub(crate) pooling: bool,
    pub(crate) pool_idle: Duration,
    pub(crate) socket_buffers: usize,
    pub(crate) max_streams: u32,
    pub(crate) max_ports_per_socket: usize,
    #[cfg(feature = "qlog")]
    pub(crate) qlog: Option<Arc<crate::qlog::Folder>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            congestion: Congestion::default(),
            early_data: EarlyData::default(),
            unordered: false,
            pooling: true,
            pool_idle: Duration::from_secs(20),
            socket_buffers: 4 << 20,
            max_streams: 4_096,
            max_ports_per_socket: 4_096,
            #[cfg(feature = "qlog")]
            qlog: None,
        }
    }
}

/// How much of one stream may be under way, in bytes, whatever the window of records is. With more
/// than the buffers of the sockets hold, the kernel drops what comes, and quinn gives a stream up
/// that has too many gaps: at 128 MiB a fifth of the speed of large records went to that. It is
/// 640 Mbit/s where a round trip takes 100 ms.
const MAX_STREAM_WINDOW: VarInt = VarInt::from_u32(8 << 20);

/// How many streams the other side of a QUIC connection may have open at first. Quinn keeps a
/// place in two tables for each that may be: with 4,096 of them from the start, an idle QUIC
/// connection had 390 KB at each end.
pub(crate) const FIRST_STREAMS: u32 = 32;

impl Settings {
    /// Whether each connection has a [log](Self::log).
    pub(crate) fn logs(&self) -> bool {
        #[cfg(feature = "qlog")]
        return self.qlog.is_some();
        #[cfg(not(feature = "qlog"))]
        false
    }

    /// Has a connection logged, where they are to be.
    #[cfg_attr(not(feature = "qlog"), expect(unused_variables))]
    pub(crate) fn log(&self, transport: &mut TransportConfig, side: &str, remote: SocketAddr) {
        #[cfg(feature = "qlog")]
        if let Some(folder) = &self.qlog {
            transport.qlog_stream(folder.log(side, remote));
        }
    }

    /// The limits of a network in the terms of RFC 9000 §18.2.
    pub(crate) fn transport(&self, limits: &Limits) -> TransportConfig {
        let mut transport = TransportConfig::default();
        // No more can be un-acked on a connection, so no more need be on its way; and a peer
        // that leaves out the first byte makes this side keep no more than that.
        let window = VarInt::from_u64(limits.window_bytes.max(1 << 16)).unwrap_or(VarInt::MAX);
        transport
            .max_concurrent_bidi_streams(FIRST_STREAMS.min(self.max_streams).into())
            .max_concurrent_uni_streams(0_u32.into())
            .datagram_receive_buffer_size(None)
            .stream_receive_window(window.min(MAX_STREAM_WINDOW))
            .receive_window(window)
            .send_window(window.into_inner())
            // Longer than a connection waits for a sign of life, for that has a name to tell.
            .max_idle_timeout(IdleTimeout::try_from(limits.idle_time).ok());
        match self.congestion {
            Congestion::Cubic => &mut transport,
            Congestion::NewReno => transport
                .congestion_controller_factory(Arc::new(congestion::NewRenoConfig::default())),
            Congestion::Bbr => {
                transport.congestion_controller_factory(Arc::new(congestion::BbrConfig::default()))
            }
        };
        transport
    }
}
