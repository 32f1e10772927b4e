//! The framing: a four-byte length, then that many bytes, both ways.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub(super) const HEADER: usize = 4;

/// Records from this size on are written from where they are; smaller ones are copied together.
const BY_REFERENCE: usize = 8 * 1024;

/// Cuts the next whole frame off the front of the input.
pub(super) fn next(input: &mut BytesMut) -> Option<BytesMut> {
    let length = whole(input)?;
    input.advance(HEADER);
    Some(input.split_to(length))
}

/// The length of the frame at the front, once all of it is there.
pub(super) fn whole(input: &[u8]) -> Option<usize> {
    let header = input.first_chunk::<HEADER>()?;
    let length = u32::from_le_bytes(*header) as usize;
    (input.len() >= HEADER + length).then_some(length)
}

/// An input buffer that grows while the peer keeps filling it.
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    room: usize,
}

impl Input {
    const LEAST: usize = 4 * 1024;
    const MOST: usize = 256 * 1024;

    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::new(), room: Self::LEAST }
    }

    /// Makes room for the next read.
    pub(super) fn prepare(&mut self) -> &mut BytesMut {
        if self.bytes.capacity() - self.bytes.len() < self.room / 2 {
            self.bytes.reserve(self.room);
        }
        &mut self.bytes
    }

    /// Learns from the size of a read how much room the next one deserves.
    pub(super) fn grew_by(&mut self, read: usize) {
        if read * 2 > self.room {
            self.room = (self.room * 2).min(Self::MOST);
        }
    }
}

/// Frames waiting to be written: small ones copied together, large ones by reference.
#[derive(Default)]
pub(super) struct Output {
    full: VecDeque<Bytes>,
    tail: BytesMut,
    length: usize,
}

impl Output {
    pub(super) fn push(&mut self, record: &Bytes) {
        self.length += HEADER + record.len();
        self.tail.put_u32_le(record.len() as u32);
        if record.len() < BY_REFERENCE {
            self.tail.put_slice(record);
        } else {
            self.full.push_back(self.tail.split().freeze());
            self.full.push_back(record.clone());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The waiting bytes as slices, as many as fit; returns how many slices were set.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.full.iter().map(|part| &part[..]).chain([&self.tail[..]]);
        let mut set = 0;
        for (slot, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slot = IoSlice::new(part);
            set += 1;
        }
        set
    }

    /// Drops what has been written.
    pub(super) fn written(&mut self, mut count: usize) {
        self.length -= count;
        while let Some(part) = self.full.front_mut() {
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.full.pop_front();
        }
        self.tail.advance(count);
        if self.tail.is_empty() {
            self.tail.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_piecemeal_is_read_back_whole() {
        let sent: Vec<Bytes> = [1, 64, BY_REFERENCE - 1, BY_REFERENCE, 20_000, 3]
            .map(|size| vec![7; size].into())
            .into();
        let mut output = Output::default();
        sent.iter().for_each(|record| output.push(record));
        let mut input = Input::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let set = output.slices(&mut slices);
            let some: Vec<u8> =
                slices[..set].iter().flat_map(|part| part.iter().copied()).collect();
            let some = &some[..some.len().min(1000)];
            input.prepare().put_slice(some);
            output.written(some.len());
        }
        let received: Vec<BytesMut> = std::iter::from_fn(|| next(&mut input.bytes)).collect();
        assert_eq!(received, sent);
        assert!(input.bytes.is_empty());
    }
}
