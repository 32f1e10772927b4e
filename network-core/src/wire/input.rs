//! Bytes that were read.

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{self, Frame, FrameError, FrameLimits, HEADER_LEN, Whole};

/// A payload that the program keeps may hold this many times its length of the input in
/// memory, on average. Rarer payloads are copied: else a peer could make a few bytes that wait
/// for an answer cost a read buffer each.
const SPARSE: usize = 16;

/// Bytes that were read and not yet cut into frames. Its room follows the size of the
/// reads, and is given back while nothing is there.
#[derive(Debug)]
pub struct Input {
    /// Whole frames, cut off all at once: shared bytes are cut cheaper than unshared ones.
    whole: Bytes,
    /// Payloads shorter than this are copied out of `whole`.
    copied: usize,
    bytes: BytesMut,
    /// A record whose payload is dropped as it comes. Boxed: it is rare, and an input is in
    /// every idle connection.
    skipping: Option<Box<Skipping>>,
    room: usize,
    limits: FrameLimits,
}

#[derive(Debug)]
struct Skipping {
    id: u32,
    len: usize,
    left: usize,
}

impl Input {
    /// The room that a new connection gives its reads, in bytes: small enough for the
    /// allocator's caches of a thread.
    pub const LEAST: usize = 1000;
    /// The most room that reads are given beyond a frame that is known to come, in bytes.
    pub const MOST: usize = 256 * 1024;

    /// Begins with bytes that were read already.
    pub fn new(bytes: BytesMut, limits: FrameLimits) -> Self {
        let (whole, room) = (Bytes::new(), Self::LEAST);
        Self { whole, copied: 1, bytes, skipping: None, room, limits }
    }

    /// Where the next read goes, with room to spare.
    pub fn prepare(&mut self) -> &mut BytesMut {
        let missing = match &self.skipping {
            None => frame::missing(&self.bytes).unwrap_or(0).min(self.limits.record),
            Some(_) => 0,
        };
        // An announced length is not room before a part of it has come.
        let missing = missing.min(Self::MOST.max(4 * self.bytes.len()));
        let wanted = self.room.max(missing);
        if self.bytes.capacity() - self.bytes.len() < (self.room / 2).max(missing) {
            self.bytes.reserve(wanted);
        }
        &mut self.bytes
    }

    /// Learns from the size of a read how much room the next one deserves.
    pub fn grew_by(&mut self, read: usize) {
        if read * 2 > self.room {
            self.room = (self.room * 2).min(Self::MOST);
        } else if read * 8 < self.room {
            // Slowly, so that a burst after a lull finds its room.
            self.room = (self.room - self.room / 8).max(Self::LEAST);
        }
    }

    /// How many bytes wait for the rest of their frame.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.bytes.len()
    }

    /// Where a part of a record waits for the rest: drops that part, and the rest as it comes.
    pub fn skip_record(&mut self) {
        if let Some((id, len)) = frame::record(&self.bytes).filter(|_| self.whole.is_empty()) {
            let left = (len + HEADER_LEN).saturating_sub(self.bytes.len());
            self.skipping = Some(Box::new(Skipping { id, len, left }));
            self.bytes = BytesMut::new();
        }
    }

    /// The id and the length of a record that was skipped, once all of it has come. No frame
    /// comes before that.
    pub fn skipped(&mut self) -> Option<(u32, usize)> {
        let skipping = self.skipping.as_deref_mut()?;
        let dropped = skipping.left.min(self.bytes.len());
        self.bytes.advance(dropped);
        skipping.left -= dropped;
        let Skipping { id, len, left } = *skipping;
        (left == 0).then(|| {
            self.skipping = None;
            (id, len)
        })
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// [`FrameError`]: the bytes are no frame; the connection cannot go on.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.skipping.is_some() {
            return Ok(None);
        }
        if self.whole.is_empty() {
            let Whole { len, payloads, error } = frame::whole(&self.bytes, self.limits);
            if len == 0 {
                return error.map_or(Ok(None), Err);
            }
            // At least the empty ones, which would keep all of the input for nothing.
            self.copied = (len / payloads.max(1) / SPARSE).max(1);
            self.whole = self.bytes.split_to(len).freeze();
        }
        frame::cut(&mut self.whole, self.copied).map(Some)
    }

    /// Gives back memory that is not in use.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.room = Self::LEAST;
        }
    }
}
