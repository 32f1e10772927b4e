//! The handshakes of connections and channels, where the oracle has nothing to say or says
//! otherwise.

use ibc_proto::ibc::core::{
    channel::v1::{self as raw, MsgChannelOpenAck, MsgChannelOpenInit, MsgChannelOpenTry},
    commitment::v1::MerklePrefix,
    connection::v1::{MsgConnectionOpenInit, MsgConnectionOpenTry, Version},
};

use super::fixture::{FAR_CHANNEL, Fixture, START, TRUSTING, port};
use crate::{
    address::Order,
    client::ClientError,
    engine::{ChannelAttempt, EngineError, Event, Message, connection::version},
    identifier::{ChannelId, ConnectionId, PortId},
    path,
};

const MAX_VERSION: usize = 16 << 10;

fn of(identifier: &str, features: &[&str]) -> Version {
    let features = features.iter().map(ToString::to_string).collect();
    Version { identifier: identifier.to_owned(), features }
}

fn is_invalid(outcome: &Result<Event, EngineError>) -> bool {
    matches!(outcome, Err(EngineError::Invalid { .. }))
}

fn is_of_version(outcome: &Result<Event, EngineError>) -> bool {
    matches!(outcome, Err(EngineError::Version { .. }))
}

fn is_in(outcome: &Result<Event, EngineError>, name: &str) -> bool {
    matches!(outcome, Err(EngineError::State { state, .. }) if *state == name)
}

// ---- connections --------------------------------------------------------------------------

#[test]
fn a_connection_that_is_tried_takes_what_both_sides_have_of_the_version() {
    let both = ["ORDER_ORDERED", "ORDER_UNORDERED"];
    for (offered, picked) in [
        (vec![of("1", &both)], Some(&both[..])),
        // In the order of this side.
        (vec![of("1", &["ORDER_UNORDERED", "ORDER_DAG", "ORDER_ORDERED"])], Some(&both[..])),
        (vec![of("1", &["ORDER_UNORDERED"])], Some(&both[1..])),
        (vec![of("2", &both), of("1", &["ORDER_ORDERED"])], Some(&both[..1])),
        // The first of a name counts.
        (vec![of("1", &["ORDER_ORDERED"]), of("1", &both)], Some(&both[..1])),
        (vec![of("1", &["ORDER_DAG"]), of("1", &both)], None),
        (vec![of("1", &["ORDER_DAG"])], None),
        (vec![of("1", &[])], None),
        (vec![of("2", &both)], None),
        (vec![], None),
    ] {
        let mut fixture = Fixture::new();
        let message = fixture.connection_try(offered.clone());
        let outcome = fixture.deliver(Message::ConnectionOpenTry(message));
        match picked {
            None => assert!(is_of_version(&outcome), "{offered:?}: {outcome:?}"),
            Some(picked) => {
                let id = ConnectionId::known("connection-0");
                assert_eq!(outcome, Ok(Event::ConnectionBegun { connection: id.clone() }));
                let stored = fixture.with(|engine, stage, _| engine.connection(stage, &id));
                assert_eq!(stored.unwrap().versions, [of("1", picked)]);
            }
        }
    }
}

#[test]
fn a_connection_proposes_and_agrees_to_no_more_than_is_supported() {
    let both = ["ORDER_ORDERED", "ORDER_UNORDERED"];
    let many: Vec<&str> = vec!["ORDER_ORDERED"; 101];
    for (proposed, good) in [
        (of("1", &both), true),
        (of("1", &both[1..]), true),
        (of("1", &many[..100]), true),
        (of("1", &many), false),
        (of("1", &["ORDER_ORDERED", "ORDER_DAG"]), false),
        (of("1", &[]), false),
        (of("2", &both), false),
        (of(" ", &both), false),
        (of("1", &["ORDER_ORDERED", " "]), false),
    ] {
        let mut fixture = Fixture::new();
        let init = Fixture::connection_init(Some(proposed.clone()), 0);
        let begun = fixture.deliver(Message::ConnectionOpenInit(init));
        assert_eq!(begun.is_ok(), good, "{proposed:?}: {begun:?}");
        assert!(good || is_of_version(&begun) || is_invalid(&begun));
        // And in the answer, where it has to be one of those that were proposed.
        let begun = fixture.begin_connection();
        let ack = fixture.connection_ack(&begun, proposed.clone());
        assert_eq!(fixture.deliver(ack).is_ok(), good, "{proposed:?}");
        if good && proposed.features.len() == 1 {
            let narrow = Fixture::connection_init(Some(proposed), 0);
            let begun = fixture.deliver(Message::ConnectionOpenInit(narrow)).unwrap();
            let Event::ConnectionBegun { connection } = begun else { panic!("{begun:?}") };
            let ack = fixture.connection_ack(connection.as_str(), version());
            assert!(is_of_version(&fixture.deliver(ack)));
        }
    }
}

#[test]
fn a_connection_is_tried_with_a_hundred_versions_at_most() {
    for (count, good) in [(100, true), (101, false)] {
        let mut fixture = Fixture::new();
        let message = fixture.connection_try(vec![version(); count]);
        let outcome = fixture.deliver(Message::ConnectionOpenTry(message));
        assert!(outcome.is_ok() == good && (good || is_invalid(&outcome)), "{outcome:?}");
    }
}

#[test]
fn the_counterparty_of_a_connection_has_a_store_with_a_name() {
    for (length, good) in [(0, false), (1, true), (256, true), (257, false)] {
        let mut fixture = Fixture::new();
        let mut message = Fixture::connection_init(None, 0);
        let counterparty = message.counterparty.as_mut().unwrap();
        counterparty.prefix = Some(MerklePrefix { key_prefix: vec![b'p'; length] });
        let outcome = fixture.deliver(Message::ConnectionOpenInit(message));
        assert!(outcome.is_ok() == good && (good || is_invalid(&outcome)), "{outcome:?}");
    }
    let mut fixture = Fixture::new();
    let mut message = Fixture::connection_init(None, 0);
    message.counterparty.as_mut().unwrap().prefix = None;
    assert!(is_invalid(&fixture.deliver(Message::ConnectionOpenInit(message))));
}

#[test]
fn a_connection_has_a_name_on_the_other_side_once_that_has_begun_it_too() {
    let mut fixture = Fixture::new();
    let message = MsgConnectionOpenInit {
        counterparty: Some(Fixture::counterparty("connection-3")),
        ..Fixture::connection_init(None, 0)
    };
    assert!(is_invalid(&fixture.deliver(Message::ConnectionOpenInit(message))));
    let message = fixture.connection_try(vec![version()]);
    let nameless =
        MsgConnectionOpenTry { counterparty: Some(Fixture::counterparty("")), ..message.clone() };
    assert!(is_invalid(&fixture.deliver(Message::ConnectionOpenTry(nameless))));
    #[expect(deprecated, reason = "the field has to be empty")]
    let crossing =
        MsgConnectionOpenTry { previous_connection_id: "connection-0".to_owned(), ..message };
    assert!(is_invalid(&fixture.deliver(Message::ConnectionOpenTry(crossing))));
}

#[test]
fn a_handshake_of_connections_takes_its_steps_once_and_in_order() {
    let mut fixture = Fixture::new();
    let begun = fixture.begin_connection();
    let confirm = fixture.connection_confirm(&begun);
    assert!(is_in(&fixture.deliver(Message::ConnectionOpenConfirm(confirm)), "INIT"));
    let ack = fixture.connection_ack(&begun, version());
    let connection = ConnectionId::known(&begun);
    assert_eq!(fixture.deliver(ack.clone()), Ok(Event::ConnectionOpen { connection }));
    assert!(is_in(&fixture.deliver(ack), "OPEN"));

    let message = fixture.connection_try(vec![version()]);
    fixture.deliver(Message::ConnectionOpenTry(message)).unwrap();
    let ack = fixture.connection_ack("connection-1", version());
    assert!(is_in(&fixture.deliver(ack), "TRYOPEN"));
    let confirm = Message::ConnectionOpenConfirm(fixture.connection_confirm("connection-1"));
    let connection = ConnectionId::known("connection-1");
    assert_eq!(fixture.deliver(confirm.clone()), Ok(Event::ConnectionOpen { connection }));
    assert!(is_in(&fixture.deliver(confirm), "OPEN"));
}

// ---- channels -----------------------------------------------------------------------------

/// A host, its hop, and a channel that the other side has begun there.
fn attempted(order: Order) -> (Fixture, String, ChannelAttempt) {
    let mut fixture = Fixture::new();
    let hop = fixture.connect();
    let message = fixture.channel_try(&hop, order);
    let outcome = fixture.deliver(Message::ChannelOpenTry(message));
    let Ok(Event::ChannelAttempt(attempt)) = outcome else { panic!("{outcome:?}") };
    (fixture, hop, attempt)
}

#[test]
fn a_channel_that_is_tried_takes_a_name_and_is_not_there_until_accepted() {
    let mut fixture = Fixture::new();
    let hop = fixture.connect();
    let before = (fixture.store.provable.clone(), fixture.store.private.clone());
    let message = fixture.channel_try(&hop, Order::Ordered);
    let outcome = fixture.deliver(Message::ChannelOpenTry(message));
    let attempt = ChannelAttempt {
        port: port(),
        channel: ChannelId::known("channel-0"),
        order: Order::Ordered,
        hop: ConnectionId::known(&hop),
        counterparty_port: PortId::known("far"),
        counterparty_channel: ChannelId::known(FAR_CHANNEL),
        version: "v".to_owned(),
    };
    assert_eq!(outcome, Ok(Event::ChannelAttempt(attempt.clone())));
    assert_eq!(fixture.store.provable, before.0);
    let mut private = before.1;
    private.insert(b"nextChannelSequence".to_vec(), 1_u64.to_be_bytes().to_vec().into());
    assert_eq!(fixture.store.private, private);

    // Another one that comes meanwhile has another name.
    let other = fixture.begin(&hop, Order::Ordered);
    assert_eq!(other.1.as_str(), "channel-1");
    let before = fixture.store.provable.clone();
    let accepted =
        fixture.with(|engine, stage, _| engine.accept_channel(stage, &attempt, "w".into()));
    assert_eq!(accepted, Ok(()));
    let end = (attempt.port.clone(), attempt.channel.clone());
    let one: &[u8] = &1_u64.to_be_bytes();
    for key in [
        path::next_sequence_send(&end.0, &end.1),
        path::next_sequence_recv(&end.0, &end.1),
        path::next_sequence_ack(&end.0, &end.1),
    ] {
        assert_eq!(fixture.stored(&key).as_deref(), Some(one));
    }
    assert_eq!(fixture.store.provable.len(), before.len() + 4);
    let stored = fixture.with(|engine, stage, _| engine.channel(stage, &end.0, &end.1)).unwrap();
    assert_eq!(stored.version, "w");
    assert_eq!(fixture.channel_state(&end), raw::State::Tryopen);
}

#[test]
fn a_channel_is_not_accepted_once_its_hop_is_another_or_gone() {
    let (mut fixture, hop, attempt) = attempted(Order::Unordered);
    let key = format!("connections/{hop}");
    let open = fixture.stored(&key).unwrap();
    let begun = fixture.begin_connection();
    let init = fixture.stored(&format!("connections/{begun}")).unwrap();
    for instead in [None, Some(init)] {
        match instead {
            Some(instead) => fixture.store.provable.insert(key.clone(), instead),
            None => fixture.store.provable.remove(&key),
        };
        let before = fixture.store.provable.clone();
        let accepted =
            fixture.with(|engine, stage, _| engine.accept_channel(stage, &attempt, "v".into()));
        assert!(matches!(
            accepted,
            Err(EngineError::NotFound { .. } | EngineError::State { state: "INIT", .. })
        ));
        assert_eq!(fixture.store.provable, before);
    }
    fixture.store.provable.insert(key, open);
    let accepted =
        fixture.with(|engine, stage, _| engine.accept_channel(stage, &attempt, "v".into()));
    assert_eq!(accepted, Ok(()));
}

#[test]
fn the_version_of_a_channel_has_a_limit() {
    for (length, good) in [(MAX_VERSION, true), (MAX_VERSION + 1, false)] {
        let version = "v".repeat(length);
        let (mut fixture, hop, attempt) = attempted(Order::Unordered);
        let accepted = fixture
            .with(|engine, stage, _| engine.accept_channel(stage, &attempt, version.clone()));
        assert_eq!(accepted.is_ok(), good);

        let mut init = Fixture::channel_init(&hop, Order::Unordered);
        init.channel.as_mut().unwrap().version.clone_from(&version);
        let outcome = fixture.deliver(Message::ChannelOpenInit(init));
        assert!(outcome.is_ok() == good && (good || is_invalid(&outcome)), "{outcome:?}");

        // Here the proof would not fit either: which error it is, is the point.
        let tried = MsgChannelOpenTry {
            counterparty_version: version.clone(),
            ..fixture.channel_try(&hop, Order::Unordered)
        };
        assert_eq!(is_invalid(&fixture.deliver(Message::ChannelOpenTry(tried))), !good);
        let begun = fixture.begin(&hop, Order::Unordered);
        let ack = MsgChannelOpenAck {
            counterparty_version: version,
            ..fixture.channel_ack(&begun, Order::Unordered)
        };
        assert_eq!(is_invalid(&fixture.deliver(Message::ChannelOpenAck(ack))), !good);
    }
}

#[test]
fn a_channel_has_an_order_that_its_hop_can_carry() {
    for (carried, other) in [(Order::Ordered, Order::Unordered), (Order::Unordered, Order::Ordered)]
    {
        let mut fixture = Fixture::new();
        let feature = if carried == Order::Ordered { "ORDER_ORDERED" } else { "ORDER_UNORDERED" };
        let hop = fixture.connect_with(of("1", &[feature]), 0);
        fixture.open_over(&hop, carried);
        let init = Message::ChannelOpenInit(Fixture::channel_init(&hop, other));
        assert!(is_of_version(&fixture.deliver(init)));
        let tried = Message::ChannelOpenTry(fixture.channel_try(&hop, other));
        assert!(is_of_version(&fixture.deliver(tried)));
        let tried = Message::ChannelOpenTry(fixture.channel_try(&hop, carried));
        assert!(fixture.deliver(tried).is_ok());
    }
}

#[test]
fn a_channel_begins_over_a_hop_that_is_not_open_yet_and_opens_no_earlier() {
    let mut fixture = Fixture::new();
    let hop = fixture.begin_connection();
    let end = fixture.begin(&hop, Order::Unordered);
    let tried = Message::ChannelOpenTry(fixture.channel_try(&hop, Order::Unordered));
    assert!(is_in(&fixture.deliver(tried), "INIT"));
    let ack = Message::ChannelOpenAck(fixture.channel_ack(&end, Order::Unordered));
    assert!(is_in(&fixture.deliver(ack.clone()), "INIT"));
    let close = Message::ChannelCloseInit(Fixture::close_init(&end));
    assert!(is_in(&fixture.deliver(close), "INIT"));
    let open = fixture.connection_ack(&hop, version());
    fixture.deliver(open).unwrap();
    assert!(fixture.deliver(ack).is_ok());
}

#[test]
fn a_handshake_of_channels_takes_its_steps_once_and_in_order() {
    let order = Order::Unordered;
    let (mut fixture, hop, attempt) = attempted(order);
    fixture.with(|engine, stage, _| engine.accept_channel(stage, &attempt, "v".into())).unwrap();
    let tried = (attempt.port, attempt.channel);
    let ack = Message::ChannelOpenAck(fixture.channel_ack(&tried, order));
    assert!(is_in(&fixture.deliver(ack), "TRYOPEN"));
    let begun = fixture.begin(&hop, order);
    let confirm = Message::ChannelOpenConfirm(fixture.channel_confirm(&begun, order));
    assert!(is_in(&fixture.deliver(confirm), "INIT"));
    let ack = Message::ChannelOpenAck(fixture.channel_ack(&begun, order));
    assert!(fixture.deliver(ack.clone()).is_ok());
    assert!(is_in(&fixture.deliver(ack), "OPEN"));
    let confirm = Message::ChannelOpenConfirm(fixture.channel_confirm(&tried, order));
    assert!(fixture.deliver(confirm.clone()).is_ok());
    assert!(is_in(&fixture.deliver(confirm), "OPEN"));

    // Closed from here, and from there.
    let close = Message::ChannelCloseInit(Fixture::close_init(&begun));
    assert!(fixture.deliver(close.clone()).is_ok());
    assert!(is_in(&fixture.deliver(close), "CLOSED"));
    let close = Message::ChannelCloseConfirm(fixture.close_confirm(&begun, order));
    assert!(is_in(&fixture.deliver(close), "CLOSED"));
    let close = Message::ChannelCloseConfirm(fixture.close_confirm(&tried, order));
    assert!(fixture.deliver(close.clone()).is_ok());
    assert!(is_in(&fixture.deliver(close), "CLOSED"));
}

#[test]
fn a_channel_begins_in_the_state_of_the_message_and_with_one_hop() {
    let mut fixture = Fixture::new();
    let hop = fixture.connect();
    let good = Fixture::channel_init(&hop, Order::Ordered);
    let spoiled = |spoil: fn(&mut raw::Channel)| {
        let mut message = good.clone();
        spoil(message.channel.as_mut().unwrap());
        message
    };
    for message in [
        MsgChannelOpenInit { channel: None, ..good.clone() },
        MsgChannelOpenInit { port_id: "p".to_owned(), ..good.clone() },
        spoiled(|channel| channel.state = raw::State::Tryopen as i32),
        spoiled(|channel| channel.ordering = raw::Order::NoneUnspecified as i32),
        spoiled(|channel| channel.connection_hops.push("connection-0".to_owned())),
        spoiled(|channel| channel.connection_hops.clear()),
        spoiled(|channel| channel.counterparty = None),
        spoiled(|channel| channel.upgrade_sequence = 1),
        spoiled(|channel| {
            channel.counterparty.as_mut().unwrap().channel_id = FAR_CHANNEL.to_owned();
        }),
    ] {
        let outcome = fixture.deliver(Message::ChannelOpenInit(message.clone()));
        assert!(is_invalid(&outcome), "{message:?}: {outcome:?}");
    }
    let good = fixture.channel_try(&hop, Order::Ordered);
    let spoiled = |spoil: fn(&mut raw::Channel)| {
        let mut message = good.clone();
        spoil(message.channel.as_mut().unwrap());
        message
    };
    #[expect(deprecated, reason = "the field has to be empty")]
    let crossing =
        MsgChannelOpenTry { previous_channel_id: "channel-0".to_owned(), ..good.clone() };
    for message in [
        crossing,
        MsgChannelOpenTry { channel: None, ..good.clone() },
        spoiled(|channel| channel.state = raw::State::Init as i32),
        spoiled(|channel| channel.counterparty.as_mut().unwrap().channel_id.clear()),
    ] {
        let outcome = fixture.deliver(Message::ChannelOpenTry(message.clone()));
        assert!(is_invalid(&outcome), "{message:?}: {outcome:?}");
    }
}

#[test]
fn nothing_begins_nor_closes_with_a_client_that_is_frozen_or_expired() {
    for freeze in [true, false] {
        let mut fixture = Fixture::new();
        let hop = fixture.connect();
        let end = fixture.open_over(&hop, Order::Unordered);
        if freeze {
            fixture.freeze();
        } else {
            fixture.wait(TRUSTING);
        }
        for message in [
            Fixture::header(11, START),
            Message::ConnectionOpenInit(Fixture::connection_init(None, 0)),
            Message::ConnectionOpenTry(fixture.connection_try(vec![version()])),
            Message::ChannelOpenInit(Fixture::channel_init(&hop, Order::Unordered)),
            Message::ChannelOpenTry(fixture.channel_try(&hop, Order::Unordered)),
            Message::ChannelCloseInit(Fixture::close_init(&end)),
            Message::ChannelCloseConfirm(fixture.close_confirm(&end, Order::Unordered)),
        ] {
            let outcome = fixture.deliver(message.clone());
            let Err(EngineError::Client(error)) = outcome else {
                panic!("{message:?}: {outcome:?}");
            };
            let frozen = matches!(error, ClientError::Frozen { .. });
            assert!(frozen == freeze && (frozen || matches!(error, ClientError::Expired { .. })));
        }
    }
    // Just before it expires, it is as good as ever.
    let mut fixture = Fixture::new();
    fixture.wait(TRUSTING - 1);
    assert!(fixture.deliver(Fixture::header(11, START)).is_ok());
    let frozen = fixture.deliver(Fixture::client((0, 1), START, true));
    assert!(matches!(frozen, Err(EngineError::Client(ClientError::Frozen { .. }))));
    let late = fixture.deliver(Fixture::client((0, 1), START - TRUSTING, false));
    assert!(matches!(late, Err(EngineError::Client(ClientError::Expired { .. }))));
    // A client that was refused took no name.
    let created = fixture.deliver(Fixture::client((0, 1), START, false));
    let Ok(Event::ClientCreated { client }) = created else { panic!("{created:?}") };
    assert_eq!(client.as_str(), "10-stand-in-1");
}
