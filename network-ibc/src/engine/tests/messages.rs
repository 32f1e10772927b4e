//! What others send need not be what it should be.

use ibc_proto::google::protobuf::Any;
use proptest::prelude::*;

use super::fixture::{Fixture, SECOND, START};
use crate::{
    address::Order,
    engine::{Channel, Connection, EngineError, Event, Message, connection::version},
};

/// One of each kind, which a host that `fixture` made would take.
fn messages(fixture: &mut Fixture) -> Vec<Message> {
    let hop = fixture.connect();
    let end = fixture.open_over(&hop, Order::Unordered);
    let begun = fixture.begin(&hop, Order::Ordered);
    let sent = fixture.send(&end, Fixture::after(1)).unwrap();
    fixture.update(11, START + 1);
    let incoming = Fixture::incoming(&end, 1, Fixture::after(60 * SECOND));
    let begun_hop = fixture.begin_connection();
    let try_ = fixture.connection_try(vec![version()]);
    let tried = fixture.deliver(Message::ConnectionOpenTry(try_)).unwrap();
    let Event::ConnectionBegun { connection: tried_hop } = tried else { panic!("{tried:?}") };
    let try_ = fixture.channel_try(&hop, Order::Ordered);
    let attempt = fixture.deliver(Message::ChannelOpenTry(try_)).unwrap();
    let Event::ChannelAttempt(attempt) = attempt else { panic!("{attempt:?}") };
    fixture.with(|engine, stage, _| engine.accept_channel(stage, &attempt, "v".into())).unwrap();
    let tried = (attempt.port, attempt.channel);
    vec![
        Fixture::client((0, 10), START, false),
        Fixture::header(12, START + 2),
        Message::ConnectionOpenInit(Fixture::connection_init(Some(version()), 0)),
        Message::ConnectionOpenTry(fixture.connection_try(vec![version()])),
        fixture.connection_ack(&begun_hop, version()),
        Message::ConnectionOpenConfirm(fixture.connection_confirm(tried_hop.as_str())),
        Message::ChannelOpenInit(Fixture::channel_init(&hop, Order::Unordered)),
        Message::ChannelOpenTry(fixture.channel_try(&hop, Order::Ordered)),
        Message::ChannelOpenAck(fixture.channel_ack(&begun, Order::Ordered)),
        Message::ChannelOpenConfirm(fixture.channel_confirm(&tried, Order::Ordered)),
        Message::ChannelCloseInit(Fixture::close_init(&end)),
        Message::ChannelCloseConfirm(fixture.close_confirm(&end, Order::Unordered)),
        Message::RecvPacket(fixture.recv_message(&incoming)),
        Message::Acknowledgement(fixture.ack_message(&sent)),
        Message::Timeout(fixture.timeout_message(&sent, Order::Unordered, 1)),
        Message::TimeoutOnClose(fixture.on_close_message(&sent, Order::Unordered, 1)),
    ]
}

#[test]
fn a_message_reads_as_it_was_written_and_is_taken() {
    let mut fixture = Fixture::new();
    let messages = messages(&mut fixture);
    for message in messages {
        let read = Message::read(&message.write());
        assert_eq!(read.as_ref(), Ok(&message));
        // Each of them fits the same state: what one writes is dropped.
        let before = (fixture.store.provable.clone(), fixture.store.private.clone());
        let outcome = fixture.deliver(message.clone());
        assert!(outcome.is_ok(), "{message:?}: {outcome:?}");
        (fixture.store.provable, fixture.store.private) = before;
    }
}

#[test]
fn a_message_of_another_type_is_none() {
    for type_url in
        ["", "/ibc.core.client.v1.MsgUpgradeClient", "ibc.core.client.v1.MsgCreateClient"]
    {
        let any = Any { type_url: type_url.to_owned(), value: Vec::new() };
        assert!(matches!(Message::read(&any), Err(EngineError::Invalid { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn garbage_panics_nowhere(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut fixture = Fixture::new();
        for message in messages(&mut fixture) {
            let any = Any { value: bytes.clone(), ..message.write() };
            if let Ok(message) = Message::read(&any) {
                let _ = fixture.deliver(message);
            }
        }
        let _ = Connection::decode(&bytes);
        let _ = Channel::decode(&bytes);
    }

    #[test]
    fn a_message_with_some_bytes_changed_panics_nowhere(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut fixture = Fixture::new();
        for message in messages(&mut fixture) {
            let mut any = message.write();
            for (at, byte) in &changes {
                let at = at.index(any.value.len());
                any.value[at] = *byte;
            }
            if let Ok(message) = Message::read(&any) {
                let _ = fixture.deliver(message);
            }
        }
    }
}
