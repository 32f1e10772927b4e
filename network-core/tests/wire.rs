//! The wire, from outside: golden vectors, limits at the edges, and what no bytes may do.

use std::io::IoSlice;

use bytes::BytesMut;
use network_core::{
    Bytes, CloseReason, Refusal, Rejection,
    wire::{
        CloseCode, Closing, Frame, FrameError, FrameLimits, HEADER_LEN, Hello, Input,
        MAX_OPENING_LEN, OpeningError, Output, Reply, VERSION, Welcome, decode, decode_hello,
        decode_reply,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::Index};

const LIMITS: FrameLimits = FrameLimits { record: 64 << 10, ack: 16 << 10 };
const RECORD: u8 = 1;
const ACK: u8 = 2;
const REFUSED: u8 = 3;
const CLOSE: u8 = 5;

// ---- golden vectors --------------------------------------------------------------------

enum Message {
    Hello(Hello),
    Reply(Reply),
    Frame(Frame),
}

struct Vector {
    name: &'static str,
    hex: &'static str,
    message: Message,
}

fn vectors() -> Vec<Vector> {
    let closing = |code, text: &str, unacked| {
        Message::Frame(Frame::Close(Closing { code, text: Refusal::new(text), unacked }))
    };
    let reject = |rejection| Message::Reply(Reply::Reject(rejection));
    let id = 65_543;
    let record = |payload| Message::Frame(Frame::Record { id, payload });
    let ack = |payload| Message::Frame(Frame::Ack { id, payload });
    let all = [
        (
            "hello",
            "89 6e6574720a 0100 3300 01 010c002f706f72742f6f7264657273 020000 03040000004000 \
             04040000000100 05040000040000 0608000000000100000000",
            Message::Hello(Hello {
                to: "/port/orders".into(),
                from: String::new(),
                takes: Welcome {
                    max_record_len: 4 << 20,
                    max_ack_len: 64 << 10,
                    window_records: 1024,
                    window_bytes: 16 << 20,
                },
            }),
        ),
        (
            "welcome",
            "89 6e6574720a 0100 2100 02 03040000001000 04040000040000 05040040000000 \
             0608000000400000000000",
            Message::Reply(Reply::Welcome(Welcome {
                max_record_len: 1 << 20,
                max_ack_len: 1 << 10,
                window_records: 64,
                window_bytes: 4 << 20,
            })),
        ),
        (
            "reject-not-listening",
            "89 6e6574720a 0100 0800 03 07010000 080000",
            reject(Rejection::NotListening),
        ),
        (
            "reject-declined",
            "89 6e6574720a 0100 1400 03 07010001 080c006d656d62657273206f6e6c79",
            reject(Rejection::Declined(Refusal::new("members only"))),
        ),
        ("reject-busy", "89 6e6574720a 0100 0800 03 07010002 080000", reject(Rejection::Busy)),
        (
            "reject-shutting-down",
            "89 6e6574720a 0100 0800 03 07010003 080000",
            reject(Rejection::ShuttingDown),
        ),
        (
            "reject-bad-opening",
            "89 6e6574720a 0100 1b00 03 07010004 08130061207465787420697320 6e6f74205554462d38",
            reject(Rejection::BadOpening(Refusal::new("a text is not UTF-8"))),
        ),
        (
            "reject-not-allowed",
            "89 6e6574720a 0100 2400 03 07010005 081c00746869732070656572206973206e6f74206c657420696e2068657265",
            reject(Rejection::NotAllowed),
        ),
        (
            "reject-unproven",
            "89 6e6574720a 0100 3000 03 07010006 0828006f6e6c792077686f2070726f76657320612070656572206964206973206c657420696e2068657265",
            reject(Rejection::Unproven),
        ),
        ("record", "01 07000100 05000000 68656c6c6f", record("hello".into())),
        ("record-empty", "01 07000100 00000000", record(Bytes::new())),
        ("ack", "02 07000100 05000000 48454c4c4f", ack("HELLO".into())),
        ("ack-empty", "02 07000100 00000000", ack(Bytes::new())),
        (
            "refused",
            "03 07000100 09000000 64c3a96ac3a0207675",
            Message::Frame(Frame::Refused { id, refusal: Refusal::new("déjà vu") }),
        ),
        ("discarded", "04 07000100 00000000", Message::Frame(Frame::Discarded { id })),
        ("no-room", "09 07000100 00000000", Message::Frame(Frame::NoRoom { id })),
        ("close-intended", "05 02000000 01000000 00", closing(CloseCode::Intended, "", 2)),
        ("close-revoked", "05 00000000 01000000 01", closing(CloseCode::Revoked, "", 0)),
        ("close-shutdown", "05 00000000 01000000 02", closing(CloseCode::Shutdown, "", 0)),
        (
            "close-handler-panicked",
            "05 00000000 01000000 03",
            closing(CloseCode::HandlerPanicked, "", 0),
        ),
        (
            "close-protocol",
            "05 00000000 15000000 04 756e6b6e6f776e206672616d65206b696e642030",
            closing(CloseCode::Protocol, "unknown frame kind 0", 0),
        ),
        ("close-timed-out", "05 00000000 01000000 05", closing(CloseCode::TimedOut, "", 0)),
        ("done", "06 00000000 00000000", Message::Frame(Frame::Done)),
        ("ping", "07 01000000 00000000", Message::Frame(Frame::Ping { id: 1 })),
        ("pong", "08 01000000 00000000", Message::Frame(Frame::Pong { id: 1 })),
    ];
    all.into_iter().map(|(name, hex, message)| Vector { name, hex, message }).collect()
}

/// Bytes of hex digits, with anything white between them.
fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap_or_else(|| panic!("{c:?} is no hex digit in {hex:?}")))
        .collect();
    assert_eq!(digits.len() % 2, 0, "half a byte in {hex:?}");
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The blocks of the document that begin with ```` ```hex NAME ````; `#` begins a comment.
fn documented() -> Vec<(String, Vec<u8>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/wire-format.md");
    let text = std::fs::read_to_string(path).expect("docs/wire-format.md is beside this crate");
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("```hex ") {
            let code = lines.by_ref().take_while(|line| *line != "```");
            let hex: String = code.map(|line| line.split('#').next().unwrap_or("")).collect();
            blocks.push((name.to_owned(), unhex(&hex)));
        }
    }
    blocks
}

#[test]
fn the_document_shows_the_golden_vectors_and_no_others() {
    let documented = documented();
    let names: Vec<&str> = documented.iter().map(|(name, _)| name.as_str()).collect();
    let vectors = vectors();
    assert_eq!(names, vectors.iter().map(|vector| vector.name).collect::<Vec<_>>());
    for (vector, (_, bytes)) in vectors.iter().zip(&documented) {
        assert_eq!(unhex(vector.hex), *bytes, "{}", vector.name);
    }
}

#[test]
fn golden_vectors_are_written() {
    for Vector { name, hex, message } in vectors() {
        let written = match message {
            Message::Hello(hello) => hello.encode().to_vec(),
            Message::Reply(reply) => reply.encode().to_vec(),
            Message::Frame(frame) => written([frame]),
        };
        assert_eq!(written, unhex(hex), "{name}");
    }
}

#[test]
fn golden_vectors_are_read() {
    for Vector { name, hex, message } in vectors() {
        let mut input = BytesMut::from(&unhex(hex)[..]);
        let read = match message {
            Message::Hello(hello) => decode_hello(&mut input) == Ok(Some(hello)),
            Message::Reply(reply) => decode_reply(&mut input) == Ok(Some(reply)),
            Message::Frame(frame) => decode(&mut input, LIMITS) == Ok(Some(frame)),
        };
        assert!(read, "{name}");
        assert!(input.is_empty(), "{name}");
    }
}

#[test]
fn a_vector_that_is_cut_off_anywhere_waits_for_the_rest() {
    for Vector { name, hex, message } in vectors() {
        let bytes = unhex(hex);
        for len in 0..bytes.len() {
            let mut input = BytesMut::from(&bytes[..len]);
            let waits = match message {
                Message::Hello(_) => decode_hello(&mut input) == Ok(None),
                Message::Reply(_) => decode_reply(&mut input) == Ok(None),
                Message::Frame(_) => decode(&mut input, LIMITS) == Ok(None),
            };
            assert!(waits, "{name}, {len} bytes");
            assert_eq!(input, bytes[..len], "{name}: what waits is not touched");
        }
    }
}

// ---- frames ----------------------------------------------------------------------------

fn header(kind: u8, id: u32, len: usize) -> Vec<u8> {
    let len = u32::try_from(len).expect("a length that fits").to_le_bytes();
    [&[kind][..], &id.to_le_bytes(), &len].concat()
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&header(kind, 1, payload.len())[..], payload].concat()
}

/// The first frame, the same whichever way it is read.
fn decoded(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let one = decode(&mut BytesMut::from(bytes), LIMITS);
    let mut input = Input::new(BytesMut::from(bytes), LIMITS);
    assert_eq!(input.next_frame(), one, "`Input` and `decode` differ");
    one
}

fn put(output: &mut Output, frame: Frame) {
    match frame {
        Frame::Record { id, payload } => output.record(id, payload),
        Frame::Ack { id, payload } => output.ack(id, payload),
        Frame::Refused { id, refusal } => output.refused(id, &refusal),
        Frame::Discarded { id } => output.discarded(id),
        Frame::NoRoom { id } => output.no_room(id),
        Frame::Close(closing) => output.close(&closing),
        Frame::Done => output.done(),
        Frame::Ping { id } => output.ping(id),
        Frame::Pong { id } => output.pong(id),
    }
}

fn flat(slices: &[IoSlice<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
    bytes
}

/// What an output holds, without taking it.
fn held(output: &Output) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 256];
    let set = output.slices(&mut slices);
    assert!(set < slices.len(), "more slices than this test has room for");
    flat(&slices[..set])
}

fn written(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
    let mut output = Output::default();
    frames.into_iter().for_each(|frame| put(&mut output, frame));
    let bytes = held(&output);
    assert_eq!(bytes.len(), output.len());
    bytes
}

#[test]
fn payloads_up_to_the_limit_are_taken_and_none_beyond() {
    for (kind, max) in [(RECORD, LIMITS.record), (ACK, LIMITS.ack), (REFUSED, Refusal::MAX_LEN)] {
        let longest = decoded(&frame(kind, &vec![b'x'; max]));
        assert!(matches!(longest, Ok(Some(_))), "kind {kind}: {longest:?}");
        let error = FrameError::TooLong { kind, len: max + 1, max };
        assert_eq!(decoded(&frame(kind, &vec![b'x'; max + 1])), Err(error));
    }
    let max = 1 + Refusal::MAX_LEN;
    let mut close = vec![b'x'; max];
    close[0] = CloseCode::Protocol as u8;
    assert!(matches!(decoded(&frame(CLOSE, &close)), Ok(Some(Frame::Close(_)))));
    close.push(b'x');
    let error = FrameError::TooLong { kind: CLOSE, len: max + 1, max };
    assert_eq!(decoded(&frame(CLOSE, &close)), Err(error));
}

#[test]
fn frames_without_a_payload_have_none() {
    for kind in [4, 6, 7, 8, 9] {
        assert!(matches!(decoded(&frame(kind, b"")), Ok(Some(_))));
        let error = FrameError::TooLong { kind, len: 1, max: 0 };
        assert_eq!(decoded(&frame(kind, b"x")), Err(error));
    }
}

#[test]
fn a_limit_of_nothing_still_takes_empty_payloads() {
    let limits = FrameLimits { record: 0, ack: 0 };
    for kind in [RECORD, ACK] {
        let mut input = BytesMut::from(&frame(kind, b"")[..]);
        assert!(matches!(decode(&mut input, limits), Ok(Some(_))));
        let mut input = BytesMut::from(&frame(kind, b"x")[..]);
        assert_eq!(decode(&mut input, limits), Err(FrameError::TooLong { kind, len: 1, max: 0 }));
    }
}

#[test]
fn a_header_alone_is_enough_to_refuse_a_frame() {
    for kind in (0..=u8::MAX).filter(|kind| !(1..=9).contains(kind)) {
        assert_eq!(decoded(&header(kind, 0, 0)), Err(FrameError::UnknownKind { kind }));
    }
    let len = u32::MAX as usize;
    for (kind, max) in [(RECORD, LIMITS.record), (ACK, LIMITS.ack), (REFUSED, 1024), (CLOSE, 1025)]
    {
        let error = FrameError::TooLong { kind, len, max };
        assert_eq!(decoded(&header(kind, 0, len)), Err(error));
        assert_eq!(decoded(&header(kind, 0, len)[..HEADER_LEN - 1]), Ok(None));
    }
}

#[test]
fn a_close_needs_a_code_that_is_known() {
    assert_eq!(decoded(&frame(CLOSE, b"")), Err(FrameError::UnknownClose { code: None }));
    for code in 6..=u8::MAX {
        let error = FrameError::UnknownClose { code: Some(code) };
        assert_eq!(decoded(&frame(CLOSE, &[code])), Err(error));
    }
}

#[test]
fn texts_must_be_utf_8() {
    let texts = [(REFUSED, &b"\xff"[..]), (CLOSE, b"\x04\xc3"), (REFUSED, b"ok\xed\xa0\x80")];
    for (kind, payload) in texts {
        assert_eq!(decoded(&frame(kind, payload)), Err(FrameError::NotText { kind }));
    }
}

#[test]
fn frames_before_one_that_cannot_be_come_first() {
    let good = [
        Frame::Record { id: 1, payload: Bytes::from("one") },
        Frame::Ack { id: 2, payload: Bytes::new() },
        Frame::Ping { id: 3 },
    ];
    let mut bytes = written(good.clone());
    bytes.extend(header(99, 0, 0));
    let mut input = Input::new(BytesMut::from(&bytes[..]), LIMITS);
    for frame in good {
        assert_eq!(input.next_frame(), Ok(Some(frame)));
    }
    for _ in 0..3 {
        assert_eq!(input.next_frame(), Err(FrameError::UnknownKind { kind: 99 }));
    }
}

#[test]
fn reasons_cross_the_wire_as_the_remote_sees_them() {
    let reasons = [
        CloseReason::Local,
        CloseReason::Revoked,
        CloseReason::Shutdown,
        CloseReason::HandlerPanicked,
        CloseReason::Protocol("a second close".into()),
        CloseReason::TimedOut,
    ];
    for reason in reasons {
        let seen = Closing::of(&reason, 0).reason();
        assert_eq!(format!("{seen:?}"), format!("{:?}", reason.seen_from_remote()));
    }
}

#[test]
fn a_long_reason_is_cut_to_what_the_other_side_takes() {
    let closing = Closing::of(&CloseReason::protocol("é".repeat(5000)), 7);
    let bytes = written([Frame::Close(closing.clone())]);
    assert_eq!(decoded(&bytes), Ok(Some(Frame::Close(closing))));
}

// ---- the opening -----------------------------------------------------------------------

const MAGIC: &[u8] = b"\x89netr\n";
const PREFIX_LEN: usize = MAGIC.len() + 4;
const TAKES: Welcome =
    Welcome { max_record_len: 10, max_ack_len: 20, window_records: 1, window_bytes: 10 };

/// An opening message with any body.
fn opening(body: &[u8]) -> BytesMut {
    let len = u16::try_from(body.len()).expect("a length that fits").to_le_bytes();
    BytesMut::from(&[MAGIC, &VERSION.to_le_bytes(), &len, body].concat()[..])
}

fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("a length that fits").to_le_bytes();
    [&[tag][..], &len, value].concat()
}

/// The fields that every hello and welcome has, for [`TAKES`].
fn required() -> [Vec<u8>; 4] {
    [
        field(3, &10u32.to_le_bytes()),
        field(4, &20u32.to_le_bytes()),
        field(5, &1u32.to_le_bytes()),
        field(6, &10u64.to_le_bytes()),
    ]
}

fn message(kind: u8, fields: &[Vec<u8>]) -> BytesMut {
    opening(&[&[kind][..], &fields.concat()].concat())
}

/// A hello of the required fields and one more.
fn hello_with(field: Vec<u8>) -> Result<Option<Hello>, OpeningError> {
    decode_hello(&mut message(1, &[required().concat(), field]))
}

#[track_caller]
fn malformed<T: std::fmt::Debug>(outcome: Result<T, OpeningError>) {
    assert!(matches!(outcome, Err(OpeningError::Malformed(_))), "{outcome:?}");
}

#[test]
fn another_protocol_is_known_by_its_first_bytes() {
    let others: [&[u8]; 5] =
        [b"G", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\x89PNG\r\n\x1a\n", b"\x89netr\r"];
    for bytes in others {
        let other = OpeningError::OtherProtocol;
        assert_eq!(decode_hello(&mut BytesMut::from(bytes)), Err(other.clone()));
        assert_eq!(decode_reply(&mut BytesMut::from(bytes)), Err(other));
    }
}

#[test]
fn another_version_is_known_by_the_prefix() {
    for theirs in [0, 2, u16::MAX] {
        let bytes = [MAGIC, &theirs.to_le_bytes(), &[0xff, 0xff]].concat();
        let error = decode_hello(&mut BytesMut::from(&bytes[..])).unwrap_err();
        assert_eq!(error, OpeningError::OtherVersion { theirs });
        assert!(error.to_string().contains(&format!("version {theirs}")), "{error}");
    }
}

#[test]
fn an_opening_has_a_longest_length() {
    let of_len = |len: usize| {
        let rest = len - message(1, &required()).len() - 3;
        message(1, &[required().concat(), field(200, &vec![0; rest])])
    };
    let mut longest = of_len(MAX_OPENING_LEN);
    assert_eq!(longest.len(), MAX_OPENING_LEN);
    assert!(matches!(decode_hello(&mut longest), Ok(Some(_))));
    let mut longer = of_len(MAX_OPENING_LEN + 1);
    // Its prefix is enough.
    longer.truncate(PREFIX_LEN);
    malformed(decode_hello(&mut longer));
}

#[test]
fn an_opening_may_leave_out_names_and_nothing_else() {
    let least = Hello { to: String::new(), from: String::new(), takes: TAKES };
    assert_eq!(decode_hello(&mut message(1, &required())), Ok(Some(least)));
    for missing in 0..required().len() {
        let mut fields = required().to_vec();
        fields.remove(missing);
        malformed(decode_hello(&mut message(1, &fields)));
        malformed(decode_reply(&mut message(2, &fields)));
    }
    malformed(decode_reply(&mut message(3, &[field(8, b"no reason")])));
    malformed(decode_hello(&mut opening(&[])));
}

#[test]
fn fields_come_in_any_order_and_the_last_of_a_tag_counts() {
    let mut fields = vec![field(1, b"/port/first")];
    fields.extend(required().into_iter().rev());
    fields.push(field(1, b"/port/last"));
    let hello = decode_hello(&mut message(1, &fields)).unwrap().unwrap();
    assert_eq!((hello.to.as_str(), hello.takes), ("/port/last", TAKES));
}

#[test]
fn an_unknown_tag_says_itself_whether_it_must_be_known() {
    for tag in (0..=u8::MAX).filter(|tag| !(1..=8).contains(tag)) {
        let outcome = hello_with(field(tag, b"later"));
        if tag < 128 {
            malformed(outcome);
        } else {
            assert!(matches!(outcome, Ok(Some(_))), "tag {tag}");
        }
    }
}

#[test]
fn a_field_must_be_what_its_tag_says() {
    for tag in 3..=6 {
        let right = if tag == 6 { 8 } else { 4 };
        for len in (0..12).filter(|len| *len != right) {
            malformed(hello_with(field(tag, &vec![1; len])));
        }
    }
    for value in [&[][..], &[0, 0]] {
        malformed(decode_reply(&mut message(3, &[field(7, value)])));
    }
    for tag in [1, 2, 8] {
        malformed(hello_with(field(tag, b"\xff")));
    }
    for tag in [1, 2] {
        assert!(matches!(hello_with(field(tag, &[b'x'; 4096])), Ok(Some(_))));
        malformed(hello_with(field(tag, &[b'x'; 4097])));
    }
    // Cut off in its header, and in its value.
    malformed(hello_with(vec![1, 0]));
    malformed(hello_with(vec![1, 2, 0, b'x']));
}

#[test]
fn a_window_must_hold_one_record() {
    for small in [field(5, &0u32.to_le_bytes()), field(6, &9u64.to_le_bytes())] {
        malformed(decode_reply(&mut message(2, &[required().concat(), small.clone()])));
        malformed(hello_with(small));
    }
}

#[test]
fn a_message_of_another_kind_is_not_expected() {
    let fields = [required().concat(), field(7, &[0])];
    for kind in (0..=u8::MAX).filter(|kind| *kind != 1) {
        malformed(decode_hello(&mut message(kind, &fields)));
    }
    for kind in (0..=u8::MAX).filter(|kind| ![2, 3].contains(kind)) {
        malformed(decode_reply(&mut message(kind, &fields)));
    }
}

#[test]
fn a_reason_of_a_later_version_is_still_a_no() {
    for code in 7..=u8::MAX {
        let declined = Rejection::Declined(Refusal::new("later"));
        let reply = decode_reply(&mut message(3, &[field(7, &[code]), field(8, b"later")]));
        assert_eq!(reply, Ok(Some(Reply::Reject(declined))));
    }
}

#[test]
fn a_record_that_is_skipped_takes_no_memory_and_the_next_frame_is_whole() {
    let (record, next) = (Bytes::from(vec![7; 200_000]), Bytes::from_static(b"next"));
    let mut output = Output::default();
    output.record(5, record.clone());
    output.record(6, next.clone());
    let bytes = held(&output);
    for cut in [HEADER_LEN, HEADER_LEN + 1, 100_000, HEADER_LEN + record.len() - 1] {
        let limits = FrameLimits { record: 1 << 20, ack: 1 << 10 };
        let mut input = Input::new(BytesMut::from(&bytes[..cut]), limits);
        assert_eq!(input.next_frame(), Ok(None));
        input.skip_record();
        assert_eq!((input.waiting(), input.skipped()), (0, None));
        for part in bytes[cut..].chunks(Input::LEAST) {
            let room = input.prepare();
            assert!(room.capacity() <= 4 * Input::LEAST, "nothing is kept of it");
            room.extend_from_slice(part);
            if let Some(skipped) = input.skipped() {
                assert_eq!(skipped, (5, record.len()));
            }
        }
        assert_eq!(input.next_frame(), Ok(Some(Frame::Record { id: 6, payload: next.clone() })));
    }
    // Only a record can be skipped, and only one that has begun.
    let mut input = Input::new(BytesMut::new(), LIMITS);
    input.skip_record();
    assert_eq!(input.skipped(), None);
}

#[test]
fn what_follows_an_opening_stays() {
    let mut input = Reply::Welcome(TAKES).encode();
    input.extend_from_slice(b"and a frame");
    assert_eq!(decode_reply(&mut input), Ok(Some(Reply::Welcome(TAKES))));
    assert_eq!(input, "and a frame");
}

// ---- output and input ------------------------------------------------------------------

#[test]
fn small_payloads_are_written_together_and_large_ones_from_where_they_are() {
    let mut output = Output::default();
    for id in 0..100 {
        output.record(id, Bytes::from_static(&[7; 1000]));
    }
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(output.slices(&mut slices), 1);

    let large = Bytes::from(vec![7; 64 << 10]);
    let mut output = Output::default();
    output.record(1, large.clone());
    output.ack(1, Bytes::new());
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(output.slices(&mut slices), 3);
    assert_eq!(slices[1].as_ptr(), large.as_ptr(), "the payload was copied");
}

#[test]
fn more_slices_than_there_is_room_for_come_later() {
    let large = Bytes::from(vec![7; 16 << 10]);
    let mut output = Output::default();
    (0..10).for_each(|id| output.record(id, large.clone()));
    let whole = held(&output);
    let mut taken = Vec::new();
    while !output.is_empty() {
        let mut slices = [IoSlice::new(&[]); 3];
        let set = output.slices(&mut slices);
        let part = flat(&slices[..set]);
        output.written(part.len());
        taken.extend(part);
    }
    assert_eq!(taken, whole);
}

#[test]
fn an_output_that_is_written_is_empty_and_can_be_used_again() {
    let mut output = Output::default();
    for round in 0..3 {
        output.record(round, Bytes::from(vec![1; 20_000]));
        output.ping(round);
        output.shrink();
        assert_eq!(output.len(), 2 * HEADER_LEN + 20_000, "what waits is kept");
        output.written(usize::MAX);
        assert!(output.is_empty());
        assert_eq!(held(&output), b"");
        output.shrink();
    }
}

#[test]
fn an_input_gives_back_its_room_only_while_nothing_waits() {
    let bytes = written([Frame::Ping { id: 1 }, Frame::Ping { id: 2 }]);
    let mut input = Input::new(BytesMut::from(&bytes[..HEADER_LEN + 4]), LIMITS);
    assert_eq!(input.next_frame(), Ok(Some(Frame::Ping { id: 1 })));
    input.shrink();
    assert_eq!(input.next_frame(), Ok(None));
    input.prepare().extend_from_slice(&bytes[HEADER_LEN + 4..]);
    assert_eq!(input.next_frame(), Ok(Some(Frame::Ping { id: 2 })));
    input.shrink();
    assert_eq!(input.next_frame(), Ok(None));
}

#[test]
fn an_announced_frame_gets_no_more_room_than_the_longest_needs() {
    for len in [0, 1, LIMITS.record] {
        let begun = BytesMut::from(&header(RECORD, 0, len)[..HEADER_LEN - usize::from(len == 0)]);
        let mut input = Input::new(begun, LIMITS);
        assert_eq!(input.next_frame(), Ok(None));
        let room = input.prepare();
        assert!(room.capacity() > room.len(), "a read would find no room");
        assert!(room.capacity() <= 2 * (LIMITS.record + Input::LEAST), "{}", room.capacity());
    }
}

// ---- properties ------------------------------------------------------------------------

/// Mostly small, some past the size from where payloads are kept by reference.
fn payload(longest: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..64).prop_map(Bytes::from),
        1 => (0..=longest, any::<u8>()).prop_map(|(len, fill)| Bytes::from(vec![fill; len])),
    ]
}

fn text() -> impl Strategy<Value = Refusal> {
    ".{0,200}".prop_map(Refusal::new)
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![
        Just(CloseCode::Intended),
        Just(CloseCode::Revoked),
        Just(CloseCode::Shutdown),
        Just(CloseCode::HandlerPanicked),
        Just(CloseCode::Protocol),
        Just(CloseCode::TimedOut),
    ];
    prop_oneof![
        4 => (any::<u32>(), payload(LIMITS.record))
            .prop_map(|(id, payload)| Frame::Record { id, payload }),
        2 => (any::<u32>(), payload(LIMITS.ack))
            .prop_map(|(id, payload)| Frame::Ack { id, payload }),
        1 => (any::<u32>(), text()).prop_map(|(id, refusal)| Frame::Refused { id, refusal }),
        1 => any::<u32>().prop_map(|id| Frame::Discarded { id }),
        1 => any::<u32>().prop_map(|id| Frame::NoRoom { id }),
        1 => (code, text(), any::<u32>())
            .prop_map(|(code, text, unacked)| Frame::Close(Closing { code, text, unacked })),
        1 => Just(Frame::Done),
        1 => any::<u32>().prop_map(|id| Frame::Ping { id }),
        1 => any::<u32>().prop_map(|id| Frame::Pong { id }),
    ]
}

/// Bytes like frames: mostly a known kind, and a payload as long as announced, or not.
fn nearly_frames() -> impl Strategy<Value = Vec<u8>> {
    let nearly = (0..10u8, any::<u32>(), vec(any::<u8>(), 0..20), -1..=1i64);
    let nearly = nearly.prop_map(|(kind, id, payload, off)| {
        let len = (payload.len() as i64 + off).max(0) as usize;
        [header(kind, id, len), payload].concat()
    });
    vec(nearly, 0..6).prop_map(|frames| frames.concat())
}

fn any_welcome() -> impl Strategy<Value = Welcome> {
    (any::<u32>(), any::<u32>(), 1..=u32::MAX, any::<u32>()).prop_map(
        |(max_record_len, max_ack_len, window_records, more)| Welcome {
            max_record_len,
            max_ack_len,
            window_records,
            window_bytes: u64::from(max_record_len) + u64::from(more),
        },
    )
}

fn any_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        2 => any_welcome().prop_map(Reply::Welcome),
        1 => Just(Reply::Reject(Rejection::NotListening)),
        1 => text().prop_map(|text| Reply::Reject(Rejection::Declined(text))),
        1 => Just(Reply::Reject(Rejection::Busy)),
        1 => Just(Reply::Reject(Rejection::ShuttingDown)),
        1 => text().prop_map(|text| Reply::Reject(Rejection::BadOpening(text))),
    ]
}

/// Frames until there are no more, and what was wrong then.
type Read = (Vec<Frame>, Option<FrameError>);

fn all(mut next: impl FnMut() -> Result<Option<Frame>, FrameError>) -> Read {
    let mut frames = Vec::new();
    loop {
        match next() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn all_at_once(bytes: &[u8]) -> Read {
    let mut input = BytesMut::from(bytes);
    all(|| decode(&mut input, LIMITS))
}

/// The same bytes, as reads bring them.
fn all_in_chunks(bytes: &[u8], cuts: &[Index]) -> Read {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut input = Input::new(BytesMut::new(), LIMITS);
    let (mut frames, mut start) = (Vec::new(), 0);
    for end in ends {
        input.prepare().extend_from_slice(&bytes[start..end]);
        input.grew_by(end - start);
        start = end;
        let (more, error) = all(|| input.next_frame());
        frames.extend(more);
        if error.is_some() {
            return (frames, error);
        }
    }
    (frames, None)
}

proptest! {
    #[test]
    fn frames_come_back_as_they_were_written(frames in vec(any_frame(), 0..20)) {
        let bytes = written(frames.clone());
        prop_assert_eq!(all_at_once(&bytes), (frames, None));
    }

    #[test]
    fn it_does_not_matter_how_reads_cut_the_frames(
        frames in vec(any_frame(), 0..12),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let bytes = written(frames.clone());
        prop_assert_eq!(all_in_chunks(&bytes, &cuts), (frames, None));
    }

    #[test]
    fn nor_how_they_cut_what_is_wrong(
        bytes in nearly_frames(),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        prop_assert_eq!(all_in_chunks(&bytes, &cuts), all_at_once(&bytes));
    }

    #[test]
    fn no_bytes_panic_the_frame_decoder(bytes in vec(any::<u8>(), 0..200)) {
        let (frames, _) = all_at_once(&bytes);
        prop_assert!(frames.len() * HEADER_LEN <= bytes.len());
    }

    #[test]
    fn no_bytes_panic_the_opening_decoder(
        bytes in vec(any::<u8>(), 0..200),
        // Else few would get past the magic.
        kind in option::of(0..5u8),
    ) {
        let bytes = match kind {
            Some(kind) => opening(&[&[kind][..], &bytes].concat()),
            None => BytesMut::from(&bytes[..]),
        };
        let _ = decode_hello(&mut bytes.clone());
        let _ = decode_reply(&mut bytes.clone());
    }

    #[test]
    fn nor_does_an_opening_with_a_wrong_byte(
        to in ".{0,40}",
        takes in any_welcome(),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = Hello { to, from: String::new(), takes }.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode_hello(&mut bytes);
    }

    #[test]
    fn a_hello_comes_back_as_it_was_written(
        to in ".{0,200}",
        from in ".{0,200}",
        takes in any_welcome(),
        cut in any::<Index>(),
    ) {
        let hello = Hello { to, from, takes };
        let mut bytes = hello.encode();
        prop_assert!(bytes.len() <= MAX_OPENING_LEN);
        let mut part = BytesMut::from(&bytes[..cut.index(bytes.len())]);
        prop_assert_eq!(decode_hello(&mut part), Ok(None));
        prop_assert_eq!(decode_hello(&mut bytes), Ok(Some(hello)));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn a_reply_comes_back_as_it_was_written(reply in any_reply(), cut in any::<Index>()) {
        let mut bytes = reply.encode();
        let mut part = BytesMut::from(&bytes[..cut.index(bytes.len())]);
        prop_assert_eq!(decode_reply(&mut part), Ok(None));
        prop_assert_eq!(decode_reply(&mut bytes), Ok(Some(reply)));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn partial_writes_lose_and_repeat_nothing(
        frames in vec(any_frame(), 0..20),
        writes in vec((1..=4usize, 1..9000usize), 1..40),
    ) {
        let mut output = Output::default();
        frames.iter().for_each(|frame| put(&mut output, frame.clone()));
        let whole = held(&output);
        let mut taken = Vec::new();
        for (room, most) in writes.into_iter().cycle() {
            if output.is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); 4];
            let set = output.slices(&mut slices[..room]);
            prop_assert!(set > 0, "bytes wait and none are offered");
            let mut part = flat(&slices[..set]);
            part.truncate(most);
            output.written(part.len());
            taken.extend(part);
            prop_assert_eq!(output.len(), whole.len() - taken.len());
        }
        prop_assert_eq!(taken, whole);
    }
}
