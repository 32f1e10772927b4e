//! Both directions of one stream, driven by a single task.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncReadExt;

use super::frame::{Input, Output};
use super::wire::Stream;

pub(super) struct Duplex<S> {
    stream: S,
    pub(super) input: Input,
    pub(super) output: Output,
    flushed: bool,
}

impl<S: Stream> Duplex<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, input: Input::new(), output: Output::default(), flushed: true }
    }

    /// Whether nothing is left to write.
    pub(super) fn is_written(&self) -> bool {
        self.output.is_empty() && self.flushed
    }

    /// Writes what waits, as far as the stream takes it.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 64];
            let set = self.output.slices(&mut slices);
            let stream = Pin::new(&mut self.stream);
            let written = ready!(stream.poll_write_vectored(cx, &slices[..set]))?;
            self.output.written(written);
            self.flushed = false;
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and tells whether the stream has ended.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let read = ready!(pin!(self.stream.read_buf(self.input.prepare())).poll(cx))?;
        self.input.grew_by(read);
        Poll::Ready(Ok(read == 0))
    }
}
