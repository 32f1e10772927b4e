//! One handler for many connections.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use network_core::{
    Bytes, CloseReason, Connection, ConnectionHandler, Refusal, accept_all, accept_fn,
};

use crate::{
    lab::Lab,
    tools::{eventually, numbered, send, submit, within},
};

/// Counts by connection.
#[derive(Debug, Default)]
struct Book {
    opened: AtomicUsize,
    closed: AtomicUsize,
    records: Mutex<HashMap<String, usize>>,
}

impl Book {
    fn count(&self, connection: &Connection) -> usize {
        let mut records = self.records.lock().unwrap();
        let count = records.entry(format!("{connection:?}")).or_default();
        *count += 1;
        *count
    }
}

impl ConnectionHandler for Book {
    async fn on_open(&self, _: &Connection) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }

    async fn on_receive(&self, connection: &Connection, _: Bytes) -> Result<Bytes, Refusal> {
        Ok(numbered(self.count(connection)))
    }

    async fn on_close(&self, _: &Connection, _: &CloseReason) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) async fn tells_connections_apart(lab: Lab) {
    let book = Arc::new(Book::default());
    let served = lab.serve(book.clone()).await;
    let mut connections = Vec::new();
    for _ in 0..10 {
        connections.push(served.connect(()).await);
    }
    for round in 1..=5 {
        for connection in &connections {
            assert_eq!(send(connection, "count").await, numbered(round));
        }
    }
    assert_eq!(book.records.lock().unwrap().len(), 10);
    for connection in &connections {
        within("a close", connection.close()).await;
    }
    eventually("ten closes", || book.closed.load(Ordering::SeqCst) == 10).await;
    assert_eq!(book.opened.load(Ordering::SeqCst), 10);
    drop(served);
}

pub(crate) async fn works_for_dialed_and_accepted_ends(lab: Lab) {
    let book = Arc::new(Book::default());
    let served = lab.serve(book.clone()).await;
    let dialed = served.connect(book.clone()).await;
    eventually("it is accepted", || served.server.connections().len() == 1).await;
    let accepted = served.server.connections().remove(0);
    for round in 1..=3 {
        assert_eq!(send(&dialed, "count").await, numbered(round));
        assert_eq!(send(&accepted, "count").await, numbered(round));
    }
    within("a close", dialed.close()).await;
    eventually("two closes", || book.closed.load(Ordering::SeqCst) == 2).await;
}

pub(crate) async fn survives_a_listener_that_is_replaced(lab: Lab) {
    let book = Arc::new(Book::default());
    let served = lab.serve(book.clone()).await;
    let old = served.connect(()).await;
    send(&old, "count").await;
    served.server.listen(accept_all(())).await.unwrap();
    assert_eq!(send(&old, "count").await, numbered(2));
    assert_eq!(send(&served.connect(()).await, "count").await, "");
}

pub(crate) async fn is_up_to_the_listener(lab: Lab) {
    let served = lab.serve(()).await;
    let number = AtomicUsize::new(0);
    let listener = accept_fn(move |_| {
        let mine = number.fetch_add(1, Ordering::SeqCst);
        let handler = network_core::handler_fn(move |_| async move { Ok(numbered(mine)) });
        async { Ok(handler.into()) }
    });
    served.server.listen(listener).await.unwrap();
    for expected in 0..3 {
        assert_eq!(send(&served.connect(()).await, "who?").await, numbered(expected));
    }
}

pub(crate) async fn can_pass_records_between_connections(lab: Lab) {
    /// Forwards a record to every other connection of the port, as a chat room does.
    struct Room(Mutex<Vec<Connection>>);
    impl ConnectionHandler for Room {
        async fn on_open(&self, connection: &Connection) {
            self.0.lock().unwrap().push(connection.clone());
        }
        async fn on_receive(&self, from: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
            let members = self.0.lock().unwrap().clone();
            let mut told = 0;
            for member in members.iter().filter(|member| *member != from) {
                member.send(record.clone()).await?;
                told += 1;
            }
            Ok(numbered(told))
        }
    }
    let room = Arc::new(Room(Mutex::default()));
    let served = lab.serve(room.clone()).await;
    let mut members = Vec::new();
    for _ in 0..4 {
        let (handler, seen) = crate::tools::probe();
        members.push((served.connect(handler).await, seen));
    }
    eventually("all are in", || room.0.lock().unwrap().len() == 4).await;
    let mut acks = Vec::new();
    for (number, (connection, _)) in members.iter().enumerate() {
        acks.push(submit(connection, numbered(number)).await);
    }
    for ack in acks {
        assert_eq!(within("an ack", ack).await.unwrap(), "3");
    }
    for (_, seen) in &mut members {
        assert_eq!(seen.records_so_far().len(), 3);
    }
    // The room holds its members, who hold it.
    room.0.lock().unwrap().clear();
}
