//! Packets, where the oracle has nothing to say or says otherwise.

use bytes::Bytes;
use ibc_proto::ibc::core::channel::v1::{self as raw, MsgTimeout, MsgTimeoutOnClose};

use super::fixture::{ACK, CLIENT, End, Fixture, SECOND, START, TRUSTING};
use crate::{
    address::Order,
    client::ClientError,
    engine::{EngineError, Event, Message, Packet, Timeout, connection::version},
    height::{Height, Timestamp},
    identifier::{ChannelId, ClientId, PortId},
    path,
};

const ORDERS: [Order; 2] = [Order::Ordered, Order::Unordered];

fn opened(order: Order) -> (Fixture, End) {
    let mut fixture = Fixture::new();
    let end = fixture.open(order);
    (fixture, end)
}

fn later() -> Timeout {
    Fixture::after(60 * SECOND)
}

fn refused_as_invalid(outcome: &Result<impl std::fmt::Debug, EngineError>) -> bool {
    matches!(outcome, Err(EngineError::Invalid { .. }))
}

#[test]
fn a_message_without_a_proof_is_refused_even_if_it_would_do_nothing() {
    for order in ORDERS {
        let (mut fixture, end) = opened(order);
        // Never sent, so there is nothing to prove.
        let packet = Packet { sequence: 9, ..fixture.send(&end, later()).unwrap() };
        fixture.update(11, START + 60 * SECOND);

        let mut ack = fixture.ack_message(&packet);
        assert_eq!(fixture.deliver(Message::Acknowledgement(ack.clone())), Ok(Event::Nothing));
        ack.proof_acked.clear();
        assert!(refused_as_invalid(&fixture.deliver(Message::Acknowledgement(ack))));

        let timeout = fixture.timeout_message(&packet, order, 1);
        assert_eq!(fixture.deliver(Message::Timeout(timeout.clone())), Ok(Event::Nothing));
        for spoiled in [
            MsgTimeout { proof_unreceived: Vec::new(), ..timeout.clone() },
            MsgTimeout { next_sequence_recv: 0, ..timeout },
        ] {
            assert!(refused_as_invalid(&fixture.deliver(Message::Timeout(spoiled))));
        }

        let on_close = fixture.on_close_message(&packet, order, 1);
        assert_eq!(fixture.deliver(Message::TimeoutOnClose(on_close.clone())), Ok(Event::Nothing));
        for spoiled in [
            MsgTimeoutOnClose { proof_unreceived: Vec::new(), ..on_close.clone() },
            MsgTimeoutOnClose { proof_close: Vec::new(), ..on_close.clone() },
            MsgTimeoutOnClose { next_sequence_recv: 0, ..on_close },
        ] {
            assert!(refused_as_invalid(&fixture.deliver(Message::TimeoutOnClose(spoiled))));
        }
    }
}

#[test]
fn a_packet_has_data_within_the_limit_a_sequence_and_a_timeout() {
    let (mut fixture, end) = opened(Order::Unordered);
    let most = Bytes::from(vec![7; Packet::MAX_DATA]);
    let more = Bytes::from(vec![7; Packet::MAX_DATA + 1]);
    assert!(fixture.send_data(&end, most.clone(), later()).is_ok());
    assert!(refused_as_invalid(&fixture.send_data(&end, more.clone(), later())));
    assert!(refused_as_invalid(&fixture.send_data(&end, Bytes::new(), later())));
    assert!(refused_as_invalid(&fixture.send(&end, Timeout::default())));

    let packet = Fixture::incoming(&end, 1, later());
    for spoiled in [
        Packet { data: more, ..packet.clone() },
        Packet { data: Bytes::new(), ..packet.clone() },
        Packet { sequence: 0, ..packet.clone() },
        Packet { timeout: Timestamp::ZERO, ..packet.clone() },
    ] {
        assert!(refused_as_invalid(&fixture.recv(&spoiled)));
    }
    assert!(fixture.recv(&Packet { data: most, ..packet }).is_ok());
}

#[test]
fn at_its_timeout_a_packet_is_not_sent_nor_received_but_timed_out() {
    for order in ORDERS {
        let (mut fixture, end) = opened(order);
        // The other side is at height 10, at the time of the start.
        let by_height = |number| Timeout { height: Height::new(0, number), time: Timestamp::ZERO };
        for timeout in [by_height(10), Fixture::after(0)] {
            let sent = fixture.send(&end, timeout);
            assert!(matches!(sent, Err(EngineError::TimedOut { .. })), "{sent:?}");
        }
        let by_height = fixture.send(&end, by_height(11)).unwrap();
        let by_time = fixture.send(&end, Fixture::after(1)).unwrap();
        let early = fixture.time_out(&by_height, order, 1);
        assert!(matches!(early, Err(EngineError::NotTimedOut { .. })), "{early:?}");
        fixture.update(11, START);
        let early = fixture.time_out(&by_time, order, 1);
        assert!(matches!(early, Err(EngineError::NotTimedOut { .. })), "{early:?}");
        let late = fixture.time_out(&by_height, order, 1);
        assert!(matches!(late, Ok(Event::TimedOut { .. })), "{late:?}");
        fixture.update(12, START + 1);
        let late = fixture.time_out(&by_time, order, 1);
        assert!(matches!(late, Ok(Event::TimedOut { .. })), "{late:?}");

        // This side is at height 50 of its own.
        let (mut fixture, end) = opened(order);
        let now = fixture.at;
        let just = Timeout { height: now.height, time: Timestamp::ZERO };
        let packet = Fixture::incoming(&end, 1, just);
        assert!(matches!(fixture.recv(&packet), Err(EngineError::TimedOut { .. })));
        let packet = Fixture::incoming(&end, 1, Fixture::after(0));
        assert!(matches!(fixture.recv(&packet), Err(EngineError::TimedOut { .. })));
        let packet = Fixture::incoming(&end, 1, Fixture::after(1));
        assert!(matches!(fixture.recv(&packet), Ok(Event::Received(_))));
        let next = Height::new(now.height.revision, now.height.number + 1);
        let next = Timeout { height: next, time: Timestamp::ZERO };
        let packet = Fixture::incoming(&end, 2, next);
        assert!(matches!(fixture.recv(&packet), Ok(Event::Received(_))));
    }
}

#[test]
fn a_timeout_closes_an_ordered_channel_and_no_other() {
    for order in ORDERS {
        let (mut fixture, end) = opened(order);
        let first = fixture.send(&end, Fixture::after(1)).unwrap();
        let second = fixture.send(&end, Fixture::after(1)).unwrap();
        fixture.update(11, START + 1);
        // On an ordered channel, the first is still due.
        let event = fixture.time_out(&second, order, 1);
        let closed = order == Order::Ordered;
        assert_eq!(event, Ok(Event::TimedOut { packet: second.clone(), closed }));
        let state = if closed { raw::State::Closed } else { raw::State::Open };
        assert_eq!(fixture.channel_state(&end), state);
        assert_eq!(fixture.stored(&path::commitment(&end.0, &end.1, 2)), None);
        // Twice does nothing, and the other one times out all the same.
        assert_eq!(fixture.time_out(&second, order, 1), Ok(Event::Nothing));
        assert_eq!(
            fixture.time_out(&first, order, 1),
            Ok(Event::TimedOut { packet: first.clone(), closed: false })
        );
        assert_eq!(fixture.stored(&path::commitment(&end.0, &end.1, 1)), None);
    }
}

#[test]
fn what_was_received_does_not_time_out() {
    let (mut fixture, end) = opened(Order::Ordered);
    let packet = fixture.send(&end, Fixture::after(1)).unwrap();
    fixture.update(11, START + 1);
    let received = Err(EngineError::Received { sequence: 1 });
    assert_eq!(fixture.time_out(&packet, Order::Ordered, 2), received);
    let message = fixture.on_close_message(&packet, Order::Ordered, 2);
    assert_eq!(fixture.deliver(Message::TimeoutOnClose(message)), received);
    let message = fixture.on_close_message(&packet, Order::Ordered, 1);
    let event = fixture.deliver(Message::TimeoutOnClose(message));
    assert_eq!(event, Ok(Event::TimedOut { packet, closed: true }));
}

#[test]
fn an_acknowledgement_counts_once() {
    for order in ORDERS {
        let (mut fixture, end) = opened(order);
        let packet = fixture.send(&end, later()).unwrap();
        let acknowledged =
            Event::Acknowledged { packet: packet.clone(), acknowledgement: ACK.into() };
        assert_eq!(fixture.ack(&packet), Ok(acknowledged));
        assert_eq!(fixture.stored(&path::commitment(&end.0, &end.1, 1)), None);
        let before = fixture.store.provable.clone();
        assert_eq!(fixture.ack(&packet), Ok(Event::Nothing));
        assert_eq!(fixture.store.provable, before);
        fixture.update(11, START + 60 * SECOND);
        assert_eq!(fixture.time_out(&packet, order, 1), Ok(Event::Nothing));
    }
}

#[test]
fn acknowledgements_of_an_ordered_channel_come_in_order() {
    let (mut fixture, end) = opened(Order::Ordered);
    let first = fixture.send(&end, later()).unwrap();
    let second = fixture.send(&end, later()).unwrap();
    assert_eq!(fixture.ack(&second), Err(EngineError::OutOfOrder { sequence: 2, due: 1 }));
    assert!(fixture.ack(&first).is_ok());
    assert!(fixture.ack(&second).is_ok());
}

#[test]
fn an_acknowledgement_is_written_once_while_the_channel_is_open() {
    let (mut fixture, end) = opened(Order::Unordered);
    assert!(refused_as_invalid(&fixture.write_ack(&end, 1, b"")));
    assert_eq!(fixture.write_ack(&end, 1, b"a"), Ok(()));
    let again = Err(EngineError::Acknowledged { sequence: 1 });
    assert_eq!(fixture.write_ack(&end, 1, b"a"), again);
    assert_eq!(fixture.write_ack(&end, 1, b"b"), again);
    fixture.deliver(Message::ChannelCloseInit(Fixture::close_init(&end))).unwrap();
    let late = fixture.write_ack(&end, 2, b"a");
    assert!(matches!(late, Err(EngineError::State { state: "CLOSED", .. })), "{late:?}");
}

#[test]
fn what_lies_below_the_watermark_was_received() {
    for order in ORDERS {
        let (mut fixture, end) = opened(order);
        let key = path::received_below(&end.0, &end.1).into_bytes();
        fixture.store.private.insert(key, Bytes::copy_from_slice(&5_u64.to_be_bytes()));
        // On an ordered channel it would be due.
        if order == Order::Ordered {
            let due = Bytes::copy_from_slice(&4_u64.to_be_bytes());
            fixture.store.provable.insert(path::next_sequence_recv(&end.0, &end.1), due);
        }
        let before = fixture.store.provable.clone();
        let below = Fixture::incoming(&end, 4, later());
        assert_eq!(fixture.recv(&below), Err(EngineError::Received { sequence: 4 }));
        let late = fixture.write_ack(&end, 4, ACK);
        assert_eq!(late, Err(EngineError::Received { sequence: 4 }));
        assert_eq!(fixture.store.provable, before);

        if order == Order::Ordered {
            let due = Bytes::copy_from_slice(&5_u64.to_be_bytes());
            fixture.store.provable.insert(path::next_sequence_recv(&end.0, &end.1), due);
        }
        let first = Fixture::incoming(&end, 5, later());
        assert_eq!(fixture.recv(&first), Ok(Event::Received(first.clone())));
        assert_eq!(fixture.write_ack(&end, 5, ACK), Ok(()));
    }
}

#[test]
fn a_packet_is_received_once_and_in_order_where_there_is_one() {
    let (mut fixture, end) = opened(Order::Unordered);
    let third = Fixture::incoming(&end, 3, later());
    assert_eq!(fixture.recv(&third), Ok(Event::Received(third.clone())));
    let receipt = fixture.stored(&path::receipt(&end.0, &end.1, 3));
    assert_eq!(receipt.as_deref(), Some(&[1_u8][..]));
    assert_eq!(fixture.recv(&third), Ok(Event::Nothing));
    assert_eq!(fixture.write_ack(&end, 3, ACK), Ok(()));
    assert_eq!(fixture.recv(&third), Ok(Event::Nothing));

    let (mut fixture, end) = opened(Order::Ordered);
    let [first, second] = [1, 2].map(|sequence| Fixture::incoming(&end, sequence, later()));
    assert_eq!(fixture.recv(&second), Err(EngineError::OutOfOrder { sequence: 2, due: 1 }));
    assert_eq!(fixture.recv(&first), Ok(Event::Received(first.clone())));
    assert_eq!(fixture.recv(&first), Ok(Event::Nothing));
    assert_eq!(fixture.recv(&second), Ok(Event::Received(second)));
    assert_eq!(fixture.stored(&path::receipt(&end.0, &end.1, 1)), None);
}

#[test]
fn a_packet_goes_between_the_two_ends_of_its_channel() {
    let (mut fixture, end) = opened(Order::Unordered);
    let packet = Fixture::incoming(&end, 1, later());
    for stray in [
        Packet { source_port: PortId::known("other"), ..packet.clone() },
        Packet { source_channel: ChannelId::known("channel-78"), ..packet },
    ] {
        let outcome = fixture.recv(&stray);
        assert!(matches!(outcome, Err(EngineError::Packet { .. })), "{outcome:?}");
    }
    let packet = fixture.send(&end, Fixture::after(1)).unwrap();
    fixture.update(11, START + 1);
    for stray in [
        Packet { destination_port: PortId::known("other"), ..packet.clone() },
        Packet { destination_channel: ChannelId::known("channel-78"), ..packet.clone() },
        // The right one, with other data than was sent.
        Packet { data: Bytes::from_static(b"other"), ..packet },
    ] {
        let order = Order::Unordered;
        let on_close = Message::TimeoutOnClose(fixture.on_close_message(&stray, order, 1));
        for outcome in
            [fixture.ack(&stray), fixture.time_out(&stray, order, 1), fixture.deliver(on_close)]
        {
            assert!(matches!(outcome, Err(EngineError::Packet { .. })), "{outcome:?}");
        }
    }
}

#[test]
fn a_connection_with_a_delay_holds_packets_back_and_nothing_else() {
    const DELAY: u64 = 31 * SECOND;
    for order in ORDERS {
        let mut fixture = Fixture::new();
        // The handshakes are over at once.
        let hop = fixture.connect_with(version(), DELAY);
        let end = fixture.open_over(&hop, order);
        let sent = fixture.send(&end, Fixture::after(100 * SECOND)).unwrap();
        let expiring = fixture.send(&end, Fixture::after(1)).unwrap();
        fixture.wait(SECOND);
        fixture.update(11, START + 1);
        let came = fixture.at;
        let packet = Fixture::incoming(&end, 1, Fixture::after(100 * SECOND));
        let held = |outcome: Result<Event, EngineError>| {
            let held = Err(EngineError::Client(ClientError::Delay {
                client: ClientId::known(CLIENT),
                height: Height::new(0, 11),
                from_time: came.time.saturating_add(std::time::Duration::from_nanos(DELAY)),
                // 31 seconds are two blocks of 30.
                from_height: Height::new(1, came.height.number + 2),
            }));
            assert_eq!(outcome, held);
        };
        // Time alone is not enough, and blocks alone are not either.
        fixture.wait(DELAY);
        held(fixture.recv(&packet));
        fixture.at.time = Timestamp::from_nanos(came.time.as_nanos() + DELAY - 1);
        fixture.at.height.number = came.height.number + 2;
        held(fixture.recv(&packet));
        held(fixture.ack(&sent));
        held(fixture.time_out(&expiring, order, 1));
        let on_close = Message::TimeoutOnClose(fixture.on_close_message(&expiring, order, 1));
        held(fixture.deliver(on_close));
        fixture.at.time = Timestamp::from_nanos(came.time.as_nanos() + DELAY);
        assert!(fixture.recv(&packet).is_ok());
        assert!(fixture.ack(&sent).is_ok());
        let late = fixture.time_out(&expiring, order, 2);
        assert!(late.is_ok(), "{late:?}");
    }
}

#[test]
fn nothing_is_sent_nor_taken_with_a_client_that_is_frozen_or_expired() {
    for freeze in [true, false] {
        let (mut fixture, end) = opened(Order::Unordered);
        let sent = fixture.send(&end, Fixture::after(1)).unwrap();
        fixture.update(11, START + 1);
        if freeze {
            fixture.freeze();
        } else {
            fixture.wait(TRUSTING + 1);
        }
        let never = Timeout { height: Height::new(9, 9), time: Timestamp::ZERO };
        let outcomes = [
            fixture.send(&end, never).map(Event::Received),
            fixture.recv(&Fixture::incoming(&end, 1, never)),
            fixture.ack(&sent),
            fixture.time_out(&sent, Order::Unordered, 1),
        ];
        for outcome in outcomes {
            let Err(EngineError::Client(error)) = outcome else { panic!("{outcome:?}") };
            let frozen = matches!(error, ClientError::Frozen { .. });
            assert!(frozen == freeze && (frozen || matches!(error, ClientError::Expired { .. })));
        }
    }
}

#[test]
fn a_channel_runs_out_of_sequences_without_starting_over() {
    let (mut fixture, end) = opened(Order::Unordered);
    let last = Bytes::copy_from_slice(&u64::MAX.to_be_bytes());
    fixture.store.provable.insert(path::next_sequence_send(&end.0, &end.1), last);
    assert!(refused_as_invalid(&fixture.send(&end, later())));
}

#[test]
fn sending_takes_an_open_channel() {
    let mut fixture = Fixture::new();
    let hop = fixture.connect();
    let begun = fixture.begin(&hop, Order::Ordered);
    let message = fixture.channel_try(&hop, Order::Ordered);
    let attempt = fixture.deliver(Message::ChannelOpenTry(message));
    let Ok(Event::ChannelAttempt(attempt)) = attempt else { panic!("{attempt:?}") };
    fixture.with(|engine, stage, _| engine.accept_channel(stage, &attempt, "v".into())).unwrap();
    let tried = (attempt.port, attempt.channel);
    for (end, name) in [(begun, "INIT"), (tried, "TRYOPEN")] {
        let sent = fixture.send(&end, later());
        let state = |sent| matches!(sent, Err(EngineError::State { state, .. }) if state == name);
        assert!(state(sent));
    }
}
