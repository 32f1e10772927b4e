//! Bytes that were read.

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{self, Frame, FrameError, FrameLimits, HEADER_LEN, Whole};

/// A payload that the program keeps may hold this many times its length of the input in
/// memory, on average. Rarer payloads are copied: else a peer could make a few bytes that wait
/// for an answer cost a read buffer each.
const SPARSE: usize = 16;

/// What a record of so many bytes is charged beyond its length if the buffer that it keeps in
/// memory is large for it. That buffer is then at most twice what its records are charged;
/// rarer records are copied. Long ones are charged less, and so copied sooner.
pub(crate) fn extra_charge(len: usize) -> usize {
    const LONG: usize = 64 << 10;
    len.saturating_mul(if len < LONG { 3 } else { 1 })
}

/// Bytes that were read and not yet cut into frames. Its room follows the size of the
/// reads, and is given back while nothing is there.
#[derive(Debug)]
pub struct Input {
    /// Whole frames, cut off all at once: shared bytes are cut cheaper than unshared ones.
    whole: Bytes,
    /// Payloads shorter than this are copied out of `whole`.
    copied: usize,
    /// Whether the records in `whole` keep more than twice their length in memory.
    shared: bool,
    bytes: BytesMut,
    /// The length of the buffer that `bytes` is a part of.
    buffer: usize,
    /// A record whose payload is dropped as it comes. Boxed: it is rare, and an input is in
    /// every idle connection.
    skipping: Option<Box<Skipping>>,
    room: usize,
    limits: FrameLimits,
    /// For how many ticks the frame at the front has been coming.
    age: u32,
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
        Self {
            whole: Bytes::new(),
            copied: 1,
            shared: false,
            buffer: bytes.capacity(),
            bytes,
            skipping: None,
            room: Self::LEAST,
            limits,
            age: 0,
        }
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
            // Not `reserve`: that doubles the buffer, or keeps one that is far too large, and
            // whatever is in it then keeps all of that in memory.
            let size = self.bytes.len() + wanted;
            if self.buffer > 2 * size || !self.bytes.try_reclaim(wanted) {
                let mut bytes = BytesMut::with_capacity(size);
                bytes.extend_from_slice(&self.bytes);
                self.bytes = bytes;
            }
            self.buffer = self.bytes.capacity();
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

    /// The length of the record at the front, once its header is there.
    #[inline]
    pub(crate) fn announced(&self) -> Option<usize> {
        let here = self.skipping.is_none() && self.whole.is_empty();
        frame::record(&self.bytes).filter(|_| here).map(|(_, len)| len)
    }

    /// Called from time to time: how often so far while the same frame has been coming, and
    /// how many bytes of it have come. `None` if none is coming.
    pub(crate) fn tick(&mut self) -> Option<(u32, usize)> {
        let come = match &self.skipping {
            Some(skipping) => skipping.len.saturating_sub(skipping.left),
            None => self.bytes.len(),
        };
        let coming = self.skipping.is_some() || come > 0;
        self.age = if coming { self.age.saturating_add(1) } else { 0 };
        coming.then_some((self.age, come))
    }

    /// Whether the records that [`next_frame`](Self::next_frame) gives out share a buffer
    /// that is large for them: each is to be charged [`extra_charge`] as well, or copied.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Where a part of a record waits for the rest: drops that part, and the rest as it comes.
    pub fn skip_record(&mut self) {
        if let Some((id, len)) = frame::record(&self.bytes).filter(|_| self.whole.is_empty()) {
            let left = (len + HEADER_LEN).saturating_sub(self.bytes.len());
            self.skipping = Some(Box::new(Skipping { id, len, left }));
            self.bytes = BytesMut::new();
            self.buffer = 0;
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
            self.age = 0;
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
            let Whole { len, payloads, records, error } = frame::whole(&self.bytes, self.limits);
            if len == 0 {
                return error.map_or(Ok(None), Err);
            }
            // At least the empty ones, which would keep all of the input for nothing.
            self.copied = (len / payloads.max(1) / SPARSE).max(1);
            // Acks are not charged: the program asked for them. Nor is the buffer of a connection
            // with little to read: a record costs as much elsewhere, and to copy it would be an
            // allocation for each.
            let small = self.buffer <= 2 * Self::LEAST;
            self.shared = !small && records > 0 && records.saturating_mul(2) < self.buffer;
            if self.shared && (records + extra_charge(records)).saturating_mul(2) < self.buffer {
                (self.copied, self.shared) = (usize::MAX, false);
            }
            self.age = 0;
            self.whole = self.bytes.split_to(len).freeze();
        }
        frame::cut(&mut self.whole, self.copied).map(Some)
    }

    /// Gives back memory that is not in use.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.buffer = 0;
            self.room = Self::LEAST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Output;

    const LIMITS: FrameLimits = FrameLimits { record: 1 << 20, ack: 1 << 10 };

    /// What a record of `len` bytes is charged that comes in one read with pings up to `read`
    /// bytes, and how much memory it keeps.
    fn charged_and_kept(len: usize, read: usize) -> (usize, usize) {
        let mut sent = BytesMut::new();
        let mut output = Output::default();
        output.record(1, Bytes::from(vec![7; len]));
        while output.len() + HEADER_LEN <= read {
            output.ping(1);
        }
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let set = output.slices(&mut slices);
        slices[..set].iter().for_each(|slice| sent.extend_from_slice(slice));
        let mut input = Input::new(BytesMut::new(), LIMITS);
        (0..64).for_each(|_| input.grew_by(usize::MAX / 2));
        input.prepare().extend_from_slice(&sent);
        let (mut kept, mut extra) = (None, 0);
        while let Some(frame) = input.next_frame().unwrap() {
            if let Frame::Record { payload, .. } = frame {
                kept = Some(payload);
                extra = if input.is_shared() { extra_charge(len) } else { 0 };
            }
        }
        drop(input);
        // Only what owns all of its buffer can be taken back as it is.
        (len + extra, kept.unwrap().try_into_mut().unwrap().capacity())
    }

    #[test]
    fn a_record_keeps_at_most_twice_what_it_is_charged() {
        let lens = [1, 64, 1000, 17_000, 31_000, 33_000, 60_000, 130_000, 140_000, 250_000];
        // Thousands of pings take miri minutes.
        let lens = if cfg!(miri) { &lens[1..3] } else { &lens[..] };
        let reads = if cfg!(miri) { [0; 3] } else { [0, 64 << 10, Input::MOST] };
        for &len in lens {
            for read in reads {
                let (charged, kept) = charged_and_kept(len, read);
                assert!(kept <= 2 * charged, "{len} in {read}: {kept} kept for {charged}");
            }
        }
    }

    #[test]
    fn a_record_that_does_not_come_grows_old() {
        let record = [&[1, 0, 0, 0, 0, 5, 0, 0, 0][..], b"hello"].concat();
        let mut input = Input::new(BytesMut::new(), LIMITS);
        assert_eq!(input.tick(), None);
        input.prepare().extend_from_slice(&record[..10]);
        assert_eq!(input.next_frame(), Ok(None));
        assert_eq!((input.tick(), input.announced()), (Some((1, 10)), Some(5)));
        assert_eq!(input.tick(), Some((2, 10)));
        input.prepare().extend_from_slice(&record[10..]);
        input.prepare().extend_from_slice(&record[..9]);
        while input.next_frame().unwrap().is_some() {}
        assert_eq!(input.tick(), Some((1, 9)), "another has begun");
        input.skip_record();
        assert_eq!((input.tick(), input.announced()), (Some((2, 0)), None), "to skip is to wait");
    }
}
