//! Modules: applications that are a part of a host, and outlive its process.

#![cfg(feature = "durable")]
#![allow(clippy::unwrap_used, reason = "what does not hold fails the test")]

use std::{path::Path, time::Duration};

use network_core::{Bytes, Network, Port, Refusal, SendError, accept_all, handler_fn};
use network_ibc::{
    ChannelId, Context, Hop, Host, HostBuilder, HostError, LedgerKey, Module, ModuleChannel, PortId,
};
use network_loopback::Loopback;
use tokio::time::{sleep, timeout};

const HOUR: Duration = Duration::from_secs(3_600);

fn name(port: &str) -> PortId {
    PortId::new(port).unwrap()
}

/// Adds up the numbers that it receives, and keeps what became of those that it sends.
struct Sum;

fn number(context: &Context<'_>, key: &str) -> u64 {
    let stored = context.get(key).unwrap_or_default();
    std::str::from_utf8(&stored).unwrap().parse().unwrap_or(0)
}

fn add(context: &mut Context<'_>, key: &str, more: u64) -> u64 {
    let sum = number(context, key) + more;
    context.set(key, sum.to_string());
    sum
}

impl Module for Sum {
    fn on_try(&mut self, _: &mut Context<'_>, channel: &ModuleChannel) -> Result<String, Refusal> {
        match &*channel.version {
            "sum-1" => Ok("sum-1".to_owned()),
            "sum-2" => Ok("sum-1".to_owned()),
            other => Err(Refusal::new(format!("{other} is no version of sum"))),
        }
    }

    fn on_open(
        &mut self,
        context: &mut Context<'_>,
        channel: &ModuleChannel,
    ) -> Result<(), Refusal> {
        if channel.version == "sum-9" {
            return Err(Refusal::new("sum-9 is too new"));
        }
        add(context, "opened", 1);
        Ok(())
    }

    fn on_receive(
        &mut self,
        context: &mut Context<'_>,
        _: &ModuleChannel,
        record: &Bytes,
    ) -> Result<Bytes, Refusal> {
        let text = std::str::from_utf8(record).unwrap();
        // Written before it is known whether it is a number at all.
        add(context, "received", 1);
        assert_ne!(text, "panic");
        let more = text.parse().map_err(|_| Refusal::new("this is no number"))?;
        Ok(add(context, "sum", more).to_string().into())
    }

    fn on_ack(
        &mut self,
        context: &mut Context<'_>,
        _: &ModuleChannel,
        sequence: u64,
        record: &Bytes,
        ack: Result<Bytes, Refusal>,
    ) {
        add(context, "acked", 1);
        let (record, key) = (std::str::from_utf8(record).unwrap(), format!("ack/{sequence:03}"));
        let ack = ack.map_err(|refusal| refusal.text().to_owned());
        context.set(key, format!("{record}: {ack:?}"));
    }

    fn on_timeout(
        &mut self,
        context: &mut Context<'_>,
        _: &ModuleChannel,
        sequence: u64,
        _: &Bytes,
    ) {
        context.set(format!("late/{sequence:03}"), "late");
    }

    fn on_close(&mut self, context: &mut Context<'_>, channel: &ModuleChannel) {
        context.set("closed", channel.channel.to_string());
    }
}

/// All that a module has stored, but for what begins otherwise.
async fn stored(host: &Host, prefix: &'static str) -> Vec<(String, String)> {
    let read = move |_: &mut Sum, context: &mut Context<'_>| {
        let (mut found, mut from) = (Vec::new(), prefix.as_bytes().to_vec());
        while let Some((key, value)) = context.next(prefix.as_bytes(), &from) {
            from = [&key[..], &[0]].concat();
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
            found.push((text(&key), text(&value)));
        }
        Ok::<_, HostError>(found)
    };
    host.with_module(&name("sum"), read).await.unwrap()
}

async fn value(host: &Host, key: &'static str) -> String {
    let found = stored(host, key).await;
    found.into_iter().find(|(found, _)| found == key).map(|(_, value)| value).unwrap_or_default()
}

async fn eventually(host: &Host, key: &'static str, wanted: &str) {
    let waiting = async {
        while value(host, key).await != wanted {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(Duration::from_secs(10), waiting).await;
    assert!(waited.is_ok(), "{key} is {:?}, not {wanted:?}", value(host, key).await);
}

async fn send(host: &Host, channel: &ChannelId, record: &str, within: Duration) -> u64 {
    let (channel, record) = (channel.clone(), record.to_owned());
    let act = move |_: &mut Sum, context: &mut Context<'_>| context.send(&channel, record, within);
    host.with_module(&name("sum"), act).await.unwrap()
}

fn with_sum(chain: &str) -> HostBuilder {
    Host::builder(chain).module("sum", Sum).unwrap()
}

struct Pair {
    alpha: Host,
    beta: Host,
    hop: Hop,
    _way: Network,
}

async fn joined(alpha: Host, beta: Host) -> Pair {
    let way = Network::builder().protocol(Loopback::new()).build().unwrap();
    beta.serve(&way.bind("/local/beta").await.unwrap()).await.unwrap();
    let hop = alpha.connect_hop(&way.bind("/local/").await.unwrap(), "/local/beta").await.unwrap();
    Pair { alpha, beta, hop, _way: way }
}

async fn pair() -> Pair {
    let in_memory = |chain| with_sum(chain).in_memory().unwrap();
    joined(in_memory("alpha"), in_memory("beta")).await
}

fn remote(hop: &Hop, order: &str, version: &str) -> String {
    format!("/ibc-hop/{}/ibc-port/sum/{order}/{version}", hop.connection)
}

async fn bound(host: &Host, name: &str) -> Port {
    Network::builder().protocol(host.clone()).build().unwrap().bind(name).await.unwrap()
}

#[tokio::test]
async fn what_a_module_writes_goes_with_the_record() {
    let Pair { alpha, beta, hop, _way } = pair().await;
    for order in ["ordered", "unordered"] {
        let remote = remote(&hop, order, "sum-1");
        let channel = alpha.open_channel(&name("sum"), &remote).await.unwrap();
        assert_eq!(channel.version, "sum-1");
        assert_eq!(channel.hop, hop.connection);
        assert!(channel.counterparty.is_some());
        for record in ["4", "none", "panic", "5"] {
            send(&alpha, &channel.channel, record, HOUR).await;
        }
    }
    eventually(&alpha, "acked", "8").await;
    let acks: Vec<_> = stored(&alpha, "ack/").await.into_iter().map(|(_, ack)| ack).collect();
    // The channels count for themselves, and the second one has written over the first.
    assert_eq!(
        acks,
        [
            "4: Ok(b\"13\")",
            "none: Err(\"this is no number\")",
            "panic: Err(\"the module panicked\")",
            "5: Ok(b\"18\")"
        ]
    );
    // What came with a refusal or a panic was not counted.
    assert_eq!(value(&beta, "received").await, "4");
    assert_eq!(value(&beta, "sum").await, "18");
    assert_eq!(
        (value(&alpha, "opened").await, value(&beta, "opened").await),
        ("2".into(), "2".into())
    );
}

#[tokio::test]
async fn modules_and_bound_ports_talk_to_each_other() {
    let Pair { alpha, beta, hop, _way } = pair().await;
    let client = bound(&alpha, "/ibc-port/client").await;
    let connection = client.connect(remote(&hop, "ordered", "sum-2").as_str(), ()).await.unwrap();
    assert!(connection.local_endpoint().as_str().contains("/ordered/sum-1/"), "{connection:?}");
    assert_eq!(connection.send("30").await.unwrap(), "30");
    assert_eq!(connection.send("12").await.unwrap(), "42");
    let refused = connection.send("?").await.unwrap_err();
    assert!(matches!(refused, SendError::Refused(why) if why.text() == "this is no number"));
    connection.close().await;
    eventually(&beta, "closed", "channel-0").await;

    let server = bound(&beta, "/ibc-port/server").await;
    let upper = |record: Bytes| async move { Ok(Bytes::from(record.to_ascii_uppercase())) };
    server.listen(accept_all(handler_fn(upper))).await.unwrap();
    let remote = format!("/ibc-hop/{}/ibc-port/server/ordered/any", hop.connection);
    let channel = alpha.open_channel(&name("sum"), &remote).await.unwrap();
    send(&alpha, &channel.channel, "abc", HOUR).await;
    eventually(&alpha, "ack/001", "abc: Ok(b\"ABC\")").await;
    server.revoke().await.unwrap();
    eventually(&alpha, "closed", channel.channel.as_str()).await;
}

#[tokio::test]
async fn what_cannot_be_is_said() {
    let Pair { alpha, beta, hop, _way } = pair().await;
    let sum = name("sum");
    let refused = alpha.open_channel(&sum, &remote(&hop, "ordered", "sum-7")).await.unwrap_err();
    assert!(refused.to_string().contains("sum-7 is no version of sum"), "{refused}");
    let missing = alpha.open_channel(&name("other"), &remote(&hop, "ordered", "sum-1")).await;
    assert!(matches!(missing, Err(HostError::NoModule { .. })), "{missing:?}");
    let hopless =
        alpha.open_channel(&sum, "/ibc-hop/connection-9/ibc-port/sum/ordered/sum-1").await;
    assert!(matches!(hopless, Err(HostError::NoHop { .. })), "{hopless:?}");

    struct Another;
    impl Module for Another {
        fn on_receive(
            &mut self,
            _: &mut Context<'_>,
            _: &ModuleChannel,
            _: &Bytes,
        ) -> Result<Bytes, Refusal> {
            Err(Refusal::new("no"))
        }
    }
    let another = |_: &mut Another, _: &mut Context<'_>| Ok::<_, HostError>(());
    let wrong = alpha.with_module(&sum, another).await;
    assert!(matches!(wrong, Err(HostError::NoModule { .. })), "{wrong:?}");
    let panics = |_: &mut Sum, context: &mut Context<'_>| -> Result<(), HostError> {
        context.set("left", "something");
        panic!("on purpose")
    };
    let panicked = alpha.with_module(&sum, panics).await.unwrap_err();
    assert!(panicked.to_string().contains("panicked"), "{panicked}");
    let fails = |_: &mut Sum, context: &mut Context<'_>| -> Result<(), HostError> {
        context.set("left", "something");
        Err(HostError::Refused(Refusal::new("changed its mind")))
    };
    let failed = alpha.with_module(&sum, fails).await.unwrap_err();
    assert!(failed.to_string().contains("changed its mind"), "{failed}");
    let long = |_: &mut Sum, context: &mut Context<'_>| -> Result<(), HostError> {
        context.set("left", "something");
        context.set(vec![7; 65_001], "something");
        Ok(())
    };
    let long = alpha.with_module(&sum, long).await.unwrap_err();
    assert!(long.to_string().contains("a key"), "{long}");
    assert_eq!(value(&alpha, "left").await, "");

    let network = Network::builder().protocol(beta.clone()).build().unwrap();
    let taken = network.bind("/ibc-port/sum").await.unwrap_err();
    assert!(format!("{taken:?}").contains("PortTaken"), "{taken:?}");
    let twice = with_sum("alpha").module("sum", Another).unwrap_err();
    assert!(matches!(twice, HostError::PortTaken { .. }), "{twice}");

    // Accepted over there with a version that this side does not take.
    let server = bound(&beta, "/ibc-port/newest").await;
    server.listen(accept_all(())).await.unwrap();
    let newest = format!("/ibc-hop/{}/ibc-port/newest/ordered/sum-9", hop.connection);
    let refused = alpha.open_channel(&sum, &newest).await.unwrap_err();
    assert!(refused.to_string().contains("sum-9 is too new"), "{refused}");
    let closed = async {
        while !server.connections().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), closed).await.unwrap();
}

#[tokio::test]
async fn what_is_late_is_told_and_a_close_is_too() {
    let Pair { alpha, beta, hop, _way } = pair().await;
    let open = async |order| {
        alpha.open_channel(&name("sum"), &remote(&hop, order, "sum-1")).await.unwrap()
    };
    let channel = open("unordered").await;
    let late = send(&alpha, &channel.channel, "1", Duration::from_nanos(1)).await;
    eventually(&alpha, "late/001", "late").await;
    assert_eq!(late, 1);
    send(&alpha, &channel.channel, "2", HOUR).await;
    eventually(&alpha, "ack/002", "2: Ok(b\"2\")").await;

    let id = channel.channel.clone();
    let close = move |_: &mut Sum, context: &mut Context<'_>| context.close(&id);
    alpha.with_module(&name("sum"), close).await.unwrap();
    eventually(&beta, "closed", channel.counterparty.unwrap().as_str()).await;
    assert_eq!(value(&alpha, "closed").await, "", "it was its own doing");

    // On an ordered channel it ends it.
    let channel = open("ordered").await;
    send(&alpha, &channel.channel, "1", Duration::from_nanos(1)).await;
    eventually(&alpha, "closed", channel.channel.as_str()).await;
    eventually(&beta, "closed", channel.counterparty.unwrap().as_str()).await;
}

fn open(path: &Path, chain: &str, seed: u8) -> Host {
    with_sum(chain).open(path, LedgerKey::from_seed(&[seed; 32]).unwrap()).unwrap()
}

#[tokio::test]
async fn a_module_and_its_channels_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("alpha"), folder.path().join("beta"));
    let first = joined(open(&here, "alpha", 1), open(&there, "beta", 2)).await;
    let remote = remote(&first.hop, "ordered", "sum-1");
    let channel = first.alpha.open_channel(&name("sum"), &remote).await.unwrap().channel;
    send(&first.alpha, &channel, "1", HOUR).await;
    eventually(&first.alpha, "acked", "1").await;

    // The other side ends, and this one goes on sending, and ends as well.
    let Pair { alpha, beta, _way, .. } = first;
    beta.end().await;
    for _ in 0..10 {
        send(&alpha, &channel, "2", HOUR).await;
    }
    alpha.clone().end().await;
    let ended = alpha.open_channel(&name("sum"), &remote).await.unwrap_err();
    assert!(matches!(ended, HostError::Ended), "{ended}");

    let again = joined(open(&here, "alpha", 1), open(&there, "beta", 2)).await;
    eventually(&again.alpha, "acked", "11").await;
    assert_eq!(value(&again.alpha, "ack/011").await, "2: Ok(b\"21\")");
    assert_eq!(value(&again.beta, "received").await, "11");
    send(&again.alpha, &channel, "3", HOUR).await;
    eventually(&again.alpha, "ack/012", "3: Ok(b\"24\")").await;
    assert_eq!(value(&again.beta, "opened").await, "1");
}
