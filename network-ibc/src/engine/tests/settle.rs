//! Packets that are done with.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::fixture::{ACK, End, Fixture, SECOND};
use crate::{
    address::Order,
    engine::{EngineError, Event, Message, MsgSettle, Timeout},
    path,
};

const ORDERS: [Order; 2] = [Order::Ordered, Order::Unordered];

fn later() -> Timeout {
    Fixture::after(60 * SECOND)
}

/// The other side says that packets below a sequence are done with.
fn settle(fixture: &mut Fixture, end: &End, below: u64) -> Result<Event, EngineError> {
    let message = fixture.settle_message(end, below);
    fixture.deliver(Message::Settle(message))
}

fn kept(fixture: &Fixture, end: &End, most: u64) -> Vec<u64> {
    let keys = |n| [path::receipt(&end.0, &end.1, n), path::acknowledgement(&end.0, &end.1, n)];
    let has = |n: &u64| keys(*n).iter().any(|key| fixture.stored(key).is_some());
    (1..=most).filter(has).collect()
}

#[test]
fn what_is_done_with_is_forgotten_and_refused() {
    for order in ORDERS {
        let mut fixture = Fixture::new();
        let end = fixture.open(order);
        for sequence in 1..=9 {
            // On an unordered channel some never come.
            if order == Order::Ordered || sequence % 3 > 0 {
                fixture.recv(&Fixture::incoming(&end, sequence, later())).unwrap();
                fixture.write_ack(&end, sequence, ACK).unwrap();
            }
        }
        assert_eq!(settle(&mut fixture, &end, 6), Ok(Event::Nothing));
        let left: &[u64] = if order == Order::Ordered { &[6, 7, 8, 9] } else { &[7, 8] };
        assert_eq!(kept(&fixture, &end, 20), left);
        for sequence in 1..6 {
            let again = fixture.recv(&Fixture::incoming(&end, sequence, later()));
            assert_eq!(again, Err(EngineError::Received { sequence }));
        }
        // Said again, or late.
        assert_eq!(settle(&mut fixture, &end, 6), Ok(Event::Nothing));
        assert_eq!(settle(&mut fixture, &end, 3), Ok(Event::Nothing));
        assert_eq!(kept(&fixture, &end, 20), left);
        // What follows is received as ever.
        let next = Fixture::incoming(&end, 10, later());
        assert_eq!(fixture.recv(&next), Ok(Event::Received(next.clone())));
    }
}

#[test]
fn what_is_not_proved_is_not_forgotten() {
    let mut fixture = Fixture::new();
    let end = fixture.open(Order::Unordered);
    fixture.recv(&Fixture::incoming(&end, 1, later())).unwrap();
    let genuine = fixture.settle_message(&end, 2);
    let changed: [fn(&mut MsgSettle); 4] = [
        |message| message.below = 3,
        |message| message.proof.clear(),
        |message| message.proof[0] ^= 1,
        |message| message.channel_id = "channel-77".to_owned(),
    ];
    for change in changed {
        let mut message = genuine.clone();
        change(&mut message);
        fixture.deliver(Message::Settle(message)).unwrap_err();
    }
    assert_eq!(kept(&fixture, &end, 2), [1]);
    fixture.deliver(Message::Settle(genuine)).unwrap();
    assert!(kept(&fixture, &end, 2).is_empty());
}

#[test]
fn what_a_chain_has_no_commitments_of_is_forgotten() {
    for order in ORDERS {
        let mut fixture = Fixture::new();
        let end = fixture.open(order);
        for sequence in 1..=9 {
            // On an unordered channel some time out there instead.
            if order == Order::Ordered || sequence % 3 > 0 {
                fixture.recv(&Fixture::incoming(&end, sequence, later())).unwrap();
                fixture.write_ack(&end, sequence, ACK).unwrap();
            }
        }
        // Of 6 there is no proof, so it may be there still.
        let message = fixture.absent_message(&end, 1..=5, 8);
        assert_eq!(fixture.deliver(Message::Settle(message)), Ok(Event::Nothing));
        let left: &[u64] = if order == Order::Ordered { &[6, 7, 8, 9] } else { &[7, 8] };
        assert_eq!(kept(&fixture, &end, 20), left);
        for sequence in 1..6 {
            let again = fixture.recv(&Fixture::incoming(&end, sequence, later()));
            assert_eq!(again, Err(EngineError::Received { sequence }));
        }
        let message = fixture.absent_message(&end, 6..=8, 8);
        assert_eq!(fixture.deliver(Message::Settle(message)), Ok(Event::Nothing));
        let left: &[u64] = if order == Order::Ordered { &[9] } else { &[] };
        assert_eq!(kept(&fixture, &end, 20), left);
        let next = Fixture::incoming(&end, 10, later());
        assert_eq!(fixture.recv(&next), Ok(Event::Received(next.clone())));
    }
}

#[test]
fn what_was_never_sent_is_not_done_with() {
    for order in ORDERS {
        let mut fixture = Fixture::new();
        let end = fixture.open(order);
        for sequence in 1..=3 {
            fixture.recv(&Fixture::incoming(&end, sequence, later())).unwrap();
        }
        // There are no commitments of what comes later, and it has to be received then.
        let message = fixture.absent_message(&end, 1..=5, 5);
        fixture.deliver(Message::Settle(message)).unwrap_err();
        let mut message = fixture.absent_message(&end, 1..=5, 3);
        message.below = 6;
        fixture.deliver(Message::Settle(message)).unwrap();
        assert!(kept(&fixture, &end, 9).is_empty());
        for sequence in 4..=5 {
            let next = Fixture::incoming(&end, sequence, later());
            assert_eq!(fixture.recv(&next), Ok(Event::Received(next.clone())));
        }
    }
}

#[test]
fn an_absence_that_is_not_proved_is_none() {
    let mut fixture = Fixture::new();
    let end = fixture.open(Order::Unordered);
    for sequence in 1..=70 {
        fixture.recv(&Fixture::incoming(&end, sequence, later())).unwrap();
    }
    let genuine = fixture.absent_message(&end, 1..=2, 70);
    let changed: [fn(&mut MsgSettle); 5] = [
        |message| message.absences[1][0] ^= 1,
        |message| message.absences.swap(0, 1),
        |message| message.absences[0].clear(),
        |message| message.received = 71,
        |message| message.absences = vec![message.absences[0].clone(); 65],
    ];
    for change in changed {
        let mut message = genuine.clone();
        change(&mut message);
        fixture.deliver(Message::Settle(message)).unwrap_err();
    }
    assert_eq!(kept(&fixture, &end, 70).len(), 70);
    fixture.deliver(Message::Settle(genuine)).unwrap();
    assert_eq!(kept(&fixture, &end, 70).first(), Some(&3));
}

#[test]
fn a_message_has_bounded_work() {
    let mut fixture = Fixture::new();
    let end = fixture.open(Order::Unordered);
    let far = 20_000;
    let packet = Fixture::incoming(&end, far, later());
    fixture.recv(&packet).unwrap();
    settle(&mut fixture, &end, u64::MAX).unwrap();
    assert_eq!(kept(&fixture, &end, far), [far]);
    settle(&mut fixture, &end, u64::MAX).unwrap();
    assert!(kept(&fixture, &end, far).is_empty());
}

proptest! {
    /// Whatever was sent and is acknowledged in whatever order: the number is the first one that
    /// is outstanding, or the next one to be sent.
    #[test]
    fn the_number_is_the_first_that_is_outstanding(
        sent in 1..40_u64,
        acked in prop::collection::vec(1..40_u64, 0..60),
    ) {
        let mut fixture = Fixture::new();
        let end = fixture.open(Order::Unordered);
        let packets: Vec<_> = (0..sent).map(|_| fixture.send(&end, later()).unwrap()).collect();
        let mut outstanding: BTreeSet<_> = (1..=sent).collect();
        let mut before = 1;
        for sequence in acked {
            if outstanding.remove(&sequence) {
                fixture.ack(&packets[usize::try_from(sequence).unwrap() - 1]).unwrap();
            }
            let first = outstanding.first().copied().unwrap_or(sent + 1);
            let moved = fixture.with(|engine, stage, _| engine.move_settled(stage, &end.0, &end.1));
            prop_assert_eq!(moved, Ok(first > before));
            let stored = fixture.stored(&path::settled(&end.0, &end.1));
            let below = stored.map_or(1, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()));
            prop_assert_eq!(below, first);
            before = first;
        }
    }
}
