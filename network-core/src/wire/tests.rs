//! What is worth interpreting by miri: buffers that are split, shared and grown. The wider
//! tests of the wire are in `tests/wire.rs`.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

use super::{
    Closing, Frame, FrameError, FrameLimits, HEADER_LEN, Hello, Input, Output, Welcome,
    decode_hello,
    frame::{Whole, cut, missing, whole},
};
use crate::{CloseReason, Limits, Refusal};

const LIMITS: FrameLimits = FrameLimits { record: 32 << 10, ack: 1 << 10 };

/// The same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

fn cases(all: u64) -> impl Iterator<Item = Dice> {
    let count = if cfg!(miri) { all.div_ceil(200) } else { all };
    (1..=count).map(|case| Dice(case.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// Adds a frame to an output and returns it.
fn add(output: &mut Output, dice: &mut Dice) -> Frame {
    let id = dice.below(1 << 20) as u32;
    let payload = |dice: &mut Dice, longest| {
        let longest = if dice.below(6) == 0 { longest } else { 40 };
        Bytes::from(vec![dice.below(256) as u8; dice.below(longest + 1)])
    };
    match dice.below(7) {
        0 | 1 => {
            let payload = payload(dice, if cfg!(miri) { 9 << 10 } else { LIMITS.record });
            output.record(id, payload.clone());
            Frame::Record { id, payload }
        }
        2 => {
            let payload = payload(dice, LIMITS.ack);
            output.ack(id, payload.clone());
            Frame::Ack { id, payload }
        }
        3 => {
            let refusal = Refusal::new("é".repeat(dice.below(30)));
            output.refused(id, &refusal);
            Frame::Refused { id, refusal }
        }
        4 => {
            output.discarded(id);
            Frame::Discarded { id }
        }
        5 => {
            let closing = Closing::of(&CloseReason::protocol("x".repeat(dice.below(30))), id);
            output.close(&closing);
            Frame::Close(closing)
        }
        _ => {
            output.pong(id);
            Frame::Pong { id }
        }
    }
}

/// Takes up to `most` bytes out of an output, as a vectored write of `room` slices does.
fn take(output: &mut Output, room: usize, most: usize) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 8];
    let set = output.slices(&mut slices[..room]);
    let mut bytes = Vec::new();
    slices[..set].iter().for_each(|slice| bytes.extend_from_slice(slice));
    bytes.truncate(most);
    output.written(bytes.len());
    bytes
}

#[test]
fn frames_survive_any_writes_and_reads() {
    for mut dice in cases(500) {
        let mut output = Output::default();
        let mut input = Input::new(BytesMut::new(), LIMITS);
        let (mut sent, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            for _ in 0..dice.below(3) {
                sent.push(add(&mut output, &mut dice));
            }
            let bytes = take(&mut output, 1 + dice.below(8), 1 + dice.below(6000));
            input.prepare().extend_from_slice(&bytes);
            input.grew_by(bytes.len());
            while let Some(frame) = input.next_frame().unwrap() {
                kept.push(frame);
            }
            if dice.below(8) == 0 {
                input.shrink();
                output.shrink();
            }
        }
        while !output.is_empty() {
            let bytes = take(&mut output, 8, usize::MAX);
            input.prepare().extend_from_slice(&bytes);
        }
        while let Some(frame) = input.next_frame().unwrap() {
            kept.push(frame);
        }
        assert_eq!(kept, sent);
    }
}

#[test]
fn outputs_are_swapped_like_the_driver_does() {
    for mut dice in cases(500) {
        let (mut shared, mut writing) = (Output::default(), Output::default());
        let (mut sent, mut taken) = (Vec::new(), BytesMut::new());
        for _ in 0..30 {
            sent.push(add(&mut shared, &mut dice));
            if writing.is_empty() {
                std::mem::swap(&mut shared, &mut writing);
            }
            let (room, most) = (1 + dice.below(4), 1 + dice.below(9000));
            taken.extend_from_slice(&take(&mut writing, room, most));
        }
        for output in [&mut writing, &mut shared] {
            while !output.is_empty() {
                taken.extend_from_slice(&take(output, 2, usize::MAX));
            }
        }
        let Whole { len, error, .. } = whole(&taken, LIMITS);
        assert_eq!((len, error), (taken.len(), None));
        let mut taken = taken.freeze();
        for frame in sent {
            assert_eq!(cut(&mut taken, 1), Ok(frame));
        }
        assert!(taken.is_empty());
    }
}

#[test]
fn arbitrary_bytes_are_frames_or_an_error() {
    for mut dice in cases(20_000) {
        // Kinds and lengths that are nearly right get further than random ones.
        let mut bytes = Vec::new();
        for _ in 0..1 + dice.below(4) {
            let header = [dice.below(10) as u8, 1, 2, 3, 4, dice.below(20) as u8, 0, 0, 0];
            bytes.extend_from_slice(&header);
            bytes.extend((0..dice.below(20)).map(|_| b"\0\x01abc\xc3\xa9\xff"[dice.below(8)]));
        }
        let mut input = Input::new(BytesMut::from(&bytes[..]), LIMITS);
        let mut frames = 0;
        while let Ok(Some(_)) = input.next_frame() {
            frames += 1;
        }
        assert!(frames * HEADER_LEN <= bytes.len());
    }
}

#[test]
fn what_is_whole_is_counted_to_the_first_frame_that_cannot_be() {
    let mut output = Output::default();
    output.record(1, Bytes::from("one"));
    output.ping(2);
    let good = take(&mut output, 8, usize::MAX);
    for end in 0..=good.len() {
        let Whole { len, error, .. } = whole(&good[..end], LIMITS);
        assert_eq!(error, None);
        assert_eq!(len, if end == good.len() { end } else { end / 12 * 12 });
    }
    let bad = [&good[..], &[0; HEADER_LEN]].concat();
    let Whole { len, error, .. } = whole(&bad, LIMITS);
    assert_eq!((len, error), (good.len(), Some(FrameError::UnknownKind { kind: 0 })));
}

#[test]
fn what_is_missing_is_told_by_the_header() {
    let record = [&[1, 0, 0, 0, 0, 5, 0, 0, 0][..], b"hello"].concat();
    for end in 0..=record.len() {
        let expected = (end >= HEADER_LEN).then(|| record.len() - end);
        assert_eq!(missing(&record[..end]), expected);
    }
    assert_eq!(missing(&[record, vec![1]].concat()), Some(0));
}

#[test]
fn a_kept_payload_outlives_its_input() {
    let mut output = Output::default();
    output.record(1, Bytes::from("kept"));
    output.record(2, Bytes::from("dropped"));
    let bytes = take(&mut output, 8, usize::MAX);
    let mut input = Input::new(BytesMut::from(&bytes[..]), LIMITS);
    let Ok(Some(Frame::Record { payload, .. })) = input.next_frame() else { panic!("no record") };
    drop(input.next_frame());
    input.prepare().extend_from_slice(&bytes);
    drop(input);
    assert_eq!(payload, "kept");
}

#[test]
fn an_input_keeps_its_room_within_bounds() {
    let mut input = Input::new(BytesMut::new(), LIMITS);
    for _ in 0..64 {
        input.grew_by(usize::MAX / 2);
    }
    assert!(input.prepare().capacity() >= Input::MOST / 2);
    for _ in 0..256 {
        input.grew_by(1);
    }
    input.shrink();
    assert!(input.prepare().capacity() <= 2 * Input::LEAST);
}

#[test]
fn a_hello_is_read_from_any_two_parts() {
    let takes = Welcome::of(&Limits::default());
    let bytes = Hello { to: "/port/orders".into(), from: "/port/é".into(), takes }.encode();
    for at in 0..bytes.len() {
        let mut input = BytesMut::from(&bytes[..at]);
        assert_eq!(decode_hello(&mut input), Ok(None));
        input.extend_from_slice(&bytes[at..]);
        let hello = decode_hello(&mut input).unwrap().unwrap();
        assert_eq!((hello.to.as_str(), hello.takes), ("/port/orders", takes));
        assert!(input.is_empty());
    }
}

#[test]
fn a_small_payload_does_not_keep_a_large_input_in_memory() {
    let mut output = Output::default();
    (0..2_000).for_each(|id| output.ping(id));
    output.record(7, Bytes::from_static(b"tiny"));
    let mut input = Input::new(BytesMut::new(), LIMITS);
    let sent = take(&mut output, 8, usize::MAX);
    input.prepare().extend_from_slice(&sent);
    let mut kept = None;
    while let Some(frame) = input.next_frame().unwrap() {
        if let Frame::Record { payload, .. } = frame {
            kept = Some(payload);
        }
    }
    // Only what owns all of its buffer can be taken back as it is.
    let kept = kept.unwrap().try_into_mut().unwrap();
    assert_eq!(&kept[..], b"tiny");
    assert!(kept.capacity() < 64, "{} bytes are kept for 4", kept.capacity());
}
