//! One bidirectional stream as a byte stream.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::session::{Inbound, Lease};

/// What a stream is for: the first byte that who opens it says.
///
/// Registered in `docs/wire-format.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// A connection with records in order; its opening follows.
    Ordered = 0,
    /// A connection with records in any order: its opening follows, and then its control frames.
    Unordered = 1,
    /// A record of such a connection.
    Record = 2,
}

impl Purpose {
    pub(crate) fn of(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Ordered),
            1 => Some(Self::Unordered),
            2 => Some(Self::Record),
            _ => None,
        }
    }
}

/// What a stream is reset with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetCode {
    /// This side has too much to do, or the stream is for nothing that it knows.
    Refused = 1,
}

impl From<ResetCode> for quinn::VarInt {
    fn from(code: ResetCode) -> Self {
        Self::from_u32(code as u32)
    }
}

/// A stream that the other side has opened, as far as it was read.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) begun: Bytes,
    pub(crate) inbound: Inbound,
}

/// A stream, and with it a share in its QUIC connection.
#[derive(Debug)]
pub(crate) struct Stream {
    send: Option<SendStream>,
    recv: RecvStream,
    /// What was read before.
    begun: Bytes,
    lease: Option<Lease>,
    /// If the other side has opened it.
    _inbound: Option<Inbound>,
}

impl Stream {
    pub(crate) fn new(send: SendStream, recv: RecvStream, lease: Lease) -> Self {
        Self { send: Some(send), recv, begun: Bytes::new(), lease: Some(lease), _inbound: None }
    }

    /// One that the other side has opened.
    pub(crate) fn that_came(arrived: Arrived, lease: Lease) -> Self {
        let Arrived { send, recv, begun, inbound } = arrived;
        Self::early(send, recv, begun).confirmed(lease, inbound)
    }

    /// One that came before the handshake was over, of which some has been read. What is written
    /// last may not get through until it is [confirmed](Self::confirmed).
    pub(crate) fn early(send: SendStream, recv: RecvStream, begun: Bytes) -> Self {
        Self { send: Some(send), recv, begun, lease: None, _inbound: None }
    }

    /// The same after the handshake.
    pub(crate) fn confirmed(mut self, lease: Lease, inbound: Inbound) -> Self {
        self.lease = Some(lease);
        self._inbound = Some(inbound);
        self
    }

    /// Has what is written go before what other streams of the QUIC connection have that is of
    /// less priority.
    pub(crate) fn set_priority(&self, priority: i32) {
        if let Some(send) = &self.send {
            // It is open: nothing was reset.
            let _ = send.set_priority(priority);
        }
    }

    /// Which of those that its side opened it is.
    pub(crate) fn id(&self) -> u64 {
        self.recv.id().index()
    }

    /// Ends it at once, in both directions.
    pub(crate) fn reset(mut self, code: ResetCode) {
        if let Some(mut send) = self.send.take() {
            // It is over otherwise.
            let _ = send.reset(code.into());
        }
        let _ = self.recv.stop(code.into());
    }

    fn send(&mut self) -> io::Result<Pin<&mut SendStream>> {
        self.send.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Stream {
    /// What was written still gets there: the QUIC connection stays until that is acked, or
    /// until it is given up.
    fn drop(&mut self) {
        let (Some(mut send), Some(lease)) = (self.send.take(), self.lease.take()) else { return };
        // It may be finished already.
        let _ = send.finish();
        let stopped = send.stopped();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let within = lease.linger();
                // Whether it got there or the other side wants no more of it: it is over.
                let _ = tokio::time::timeout(within, stopped).await;
                drop((send, lease));
            });
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.begun.is_empty() {
            let count = self.begun.len().min(buf.remaining());
            buf.put_slice(&self.begun.split_to(count));
            if self.begun.is_empty() {
                // Gives the packets back that it came in.
                self.begun = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.recv).poll_read_buf(cx, buf).map_err(read_error)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send()?.poll_write(cx, buf).map_err(write_error)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match self.send()?.poll_write(cx, slice) {
                Poll::Ready(Ok(some)) => {
                    written += some;
                    if some < slice.len() {
                        break;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(write_error(error))),
                Poll::Pending if written == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Finished before: that is what was wanted.
        let _ = self.send()?.finish();
        Poll::Ready(Ok(()))
    }
}

/// Polls a future once, and wakes nobody when it could go on.
pub(crate) fn look_at<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn read_error(error: quinn::ReadError) -> io::Error {
    match error {
        quinn::ReadError::ConnectionLost(error) => error.into(),
        error => error.into(),
    }
}

fn write_error(error: quinn::WriteError) -> io::Error {
    match error {
        quinn::WriteError::ConnectionLost(error) => error.into(),
        error => error.into(),
    }
}
