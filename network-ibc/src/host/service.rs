//! How hosts reach each other: a connection of a network, over any of its backends.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    stream::{FuturesOrdered, StreamExt},
};
use network_core::{
    AnyHandler, Attempt, CloseReason, Connection, ConnectionHandler, Endpoint, ListenHandler, Port,
    Refusal,
};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use super::{
    Hop, Shared,
    error::{HopError, HostError},
    inbox::Command,
    peer::{MAX_ASIDE, MAX_MESSAGES},
    wire::{
        self, Batch, Client, Greeted, Greeting, Known, Outcomes, Proved, Role, Say, States, What,
    },
};
use crate::{client::verify_ed25519, ledger::valid_chain};

/// How long a hop may take, in all.
pub(super) const HOP_TIME: Duration = Duration::from_secs(20);

/// Takes the service connections of other hosts.
pub(super) struct Service(pub(super) Arc<Shared>);

impl ListenHandler for Service {
    async fn on_accept(&self, _port: &Port, _attempt: &Attempt) -> Result<AnyHandler, Refusal> {
        Ok(AnyHandler::new(Conversation::new(self.0.clone())))
    }
}

/// One service connection.
struct Conversation {
    shared: Arc<Shared>,
    /// Names this connection among those to one host.
    id: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who the other side says that it is, and what it has to sign to prove it.
    claimed: Option<(String, [u8; 32], [u8; 32])>,
    /// Who it is, and its key.
    proved: Option<(String, [u8; 32])>,
}

impl Conversation {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, id: next_id(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proved(&self) -> Result<(String, [u8; 32]), Refusal> {
        self.lock().proved.clone().ok_or_else(|| Refusal::new("prove who you are first"))
    }

    /// Who the other side says that it is, proved or not.
    fn who(&self) -> Result<String, Refusal> {
        let state = self.lock();
        let claimed = state.claimed.as_ref().map(|(chain, ..)| chain);
        let chain = claimed.or(state.proved.as_ref().map(|(chain, _)| chain));
        chain.cloned().ok_or_else(|| Refusal::new("greet first"))
    }

    /// Asks the host something and waits for what it says.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Refusal> {
        self.shared.ask(command).await.map_err(|error| Refusal::new(error.to_string()))
    }

    fn greeted(&self, greeting: Greeting) -> Result<Vec<u8>, Refusal> {
        if greeting.version != wire::VERSION {
            return Err(Refusal::new("this host speaks version 1 of the service"));
        }
        let key: [u8; 32] =
            greeting.key.try_into().map_err(|_| Refusal::new("a key has 32 bytes"))?;
        if greeting.nonce.len() != 32 || !valid_chain(&greeting.chain) {
            return Err(Refusal::new("a nonce has 32 bytes, and a chain a valid id"));
        }
        let mine = &self.shared.key.public_key()[..];
        let signed = wire::signed(&self.shared.chain, Role::Listener, &greeting.nonce, &key);
        let nonce = nonce()?;
        self.lock().claimed = Some((greeting.chain, key, nonce));
        let greeted = Greeted {
            chain: self.shared.chain.clone(),
            key: mine.to_vec(),
            nonce: nonce.to_vec(),
            signature: self.shared.key.sign(&signed),
        };
        Ok(greeted.encode_to_vec())
    }

    async fn prove(&self, connection: &Connection, proved: Proved) -> Result<Vec<u8>, Refusal> {
        // Once: a nonce is good for one signature.
        let Some((chain, key, nonce)) = self.lock().claimed.take() else {
            return Err(Refusal::new("greet first"));
        };
        let signed = wire::signed(&chain, Role::Dialer, &nonce, &self.shared.key.public_key());
        if !verify_ed25519(&key, &signed, &proved.signature) {
            return Err(Refusal::new("the signature is not of the key"));
        }
        let asked = chain.clone();
        if !self.ask(|reply| Command::IsKey { chain: asked, key, reply }).await? {
            return Err(Refusal::new("another host of this chain id is known here"));
        }
        let asked = chain.clone();
        let known = self.ask(|reply| Command::Knows { chain: asked, reply }).await?;
        self.lock().proved = Some((chain.clone(), key));
        self.shared.up(connection.clone(), chain, self.id, proved.known);
        Ok(known.unwrap_or_default().encode_to_vec())
    }
}

impl ConnectionHandler for Conversation {
    async fn on_receive(&self, connection: &Connection, record: Bytes) -> Result<Bytes, Refusal> {
        let say = Say::decode(record).map_err(|error| Refusal::new(error.to_string()))?;
        let ack = match say.what.ok_or_else(|| Refusal::new("this says nothing known"))? {
            What::Greeting(greeting) => self.greeted(greeting)?,
            What::Proved(proved) => self.prove(connection, proved).await?,
            What::States(States {}) => {
                let chain = self.who()?;
                let states = self.ask(|reply| Command::States { chain, reply }).await?;
                states.map_err(|error| Refusal::new(error.to_string()))?.encode_to_vec()
            }
            What::Client(states) => {
                let (chain, key) = self.proved()?;
                let made = self.ask(|reply| Command::MakeClient { chain, key, states, reply });
                let made = made.await?;
                made.map_err(|error| Refusal::new(error.to_string()))?.encode_to_vec()
            }
            What::Batch(batch) => {
                let (chain, _) = self.proved()?;
                // Each has an outcome, and may be of two bytes.
                let Batch { messages, rejected, withdrawn, closing } = &batch;
                let aside = rejected.len().max(withdrawn.len()).max(closing.len());
                // A header stands before the others.
                if messages.len() > MAX_MESSAGES + 1 || aside > MAX_ASIDE {
                    return Err(Refusal::new("a batch has too much in it"));
                }
                self.ask(|reply| Command::Deliver { chain, batch, reply }).await?.encode_to_vec()
            }
        };
        Ok(ack.into())
    }

    async fn on_close(&self, _connection: &Connection, _reason: &CloseReason) {
        if let Some((chain, _)) = self.lock().proved.take() {
            self.shared.inbox.push(Command::PeerDown { chain, peer: self.id });
        }
    }
}

/// Names a way to a peer.
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn nonce() -> Result<[u8; 32], Refusal> {
    let mut nonce = [0; 32];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Refusal::new("no random numbers"))?;
    Ok(nonce)
}

impl Shared {
    /// Asks the host something.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, HostError> {
        let (reply, replied) = oneshot::channel();
        self.inbox.push(command(reply));
        replied.await.map_err(|_| HostError::Ended)
    }

    /// Another host has proved who it is: what is to be relayed to it goes over `connection`.
    fn up(self: &Arc<Self>, connection: Connection, chain: String, id: u64, known: Option<Known>) {
        let (batches, wanted) = mpsc::unbounded_channel();
        let known = known.filter(|known| !known.client.is_empty());
        self.inbox.push(Command::PeerUp { chain: chain.clone(), peer: id, batches, known });
        tokio::spawn(relay(self.clone(), connection, chain, id, wanted));
    }

    /// Makes a hop over a service connection, or finds the one that is there.
    pub(super) async fn connect_hop(
        self: &Arc<Self>,
        port: &Port,
        remote: Endpoint,
    ) -> Result<Hop, HopError> {
        let made = tokio::time::timeout(HOP_TIME, async {
            let (connection, chain) = self.reach(port, remote.clone(), None).await?;
            let other = self.clients_of_each_other(&connection, &chain).await?;
            let asked = chain.clone();
            let hop = self.ask(|reply| Command::MakeHop { chain: asked, other, reply }).await??;
            self.keep(port.clone(), remote, chain.clone(), connection);
            self.hops.get(&hop).ok_or(HopError::Host(HostError::NoHop { hop }))
        });
        made.await.map_err(|_| HopError::Unfinished)?
    }

    /// Dials another host, which proves who it is; then this one does. `wanted`: the one chain
    /// that it may be.
    pub(super) async fn reach(
        self: &Arc<Self>,
        port: &Port,
        remote: Endpoint,
        wanted: Option<&str>,
    ) -> Result<(Connection, String), HopError> {
        let conversation = Arc::new(Conversation::new(self.clone()));
        let connection = port.connect(remote, conversation.clone()).await?;
        let opened = Opened { connection: connection.clone(), kept: false };
        let mine = self.key.public_key();
        let random = nonce().map_err(|refusal| HopError::peer(refusal.text()))?;
        let greeting = Greeting {
            version: wire::VERSION,
            chain: self.chain.clone(),
            key: mine.to_vec(),
            nonce: random.to_vec(),
        };
        let ack = connection.send(Say::encode(What::Greeting(greeting))).await?;
        let greeted = Greeted::decode(ack).map_err(|error| HopError::peer(error.to_string()))?;
        let key: [u8; 32] = greeted.key[..].try_into().map_err(|_| HopError::peer("its key"))?;
        let signed = wire::signed(&greeted.chain, Role::Listener, &random, &mine);
        if !valid_chain(&greeted.chain) || !verify_ed25519(&key, &signed, &greeted.signature) {
            return Err(HopError::peer("it has not proved who it is"));
        }
        let chain = greeted.chain;
        if chain == self.chain {
            return Err(HopError::peer("it has the chain id of this host: give each its own"));
        }
        if wanted.is_some_and(|wanted| wanted != chain) {
            return Err(HopError::peer("it is another host than before"));
        }
        let asked = chain.clone();
        if !self.ask(|reply| Command::IsKey { chain: asked, key, reply }).await? {
            return Err(HopError::peer(
                "it has the chain id of a host that is known, and not its key",
            ));
        }
        // What it relays is taken from now on.
        conversation.lock().proved = Some((chain.clone(), key));
        let asked = chain.clone();
        let mut known = self.ask(|reply| Command::Knows { chain: asked, reply }).await?;
        if known.is_none() {
            let ack = connection.send(Say::encode(What::States(States {}))).await?;
            let states = Client::decode(ack).map_err(|error| HopError::peer(error.to_string()))?;
            let asked = chain.clone();
            let made = self.ask(|reply| Command::MakeClient { chain: asked, key, states, reply });
            known = Some(made.await??);
        }
        let signed = wire::signed(&self.chain, Role::Dialer, &greeted.nonce, &key);
        let proved = Proved { signature: self.key.sign(&signed), known };
        let ack = connection.send(Say::encode(What::Proved(proved))).await?;
        let mut known = Known::decode(ack).map_err(|error| HopError::peer(error.to_string()))?;
        if known.client.is_empty() {
            let asked = chain.clone();
            let states = self.ask(|reply| Command::States { chain: asked, reply }).await??;
            let ack = connection.send(Say::encode(What::Client(states))).await?;
            known = Known::decode(ack).map_err(|error| HopError::peer(error.to_string()))?;
        }
        self.up(connection.clone(), chain.clone(), conversation.id, Some(known.clone()));
        self.others
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(chain.clone(), known.client);
        opened.keep();
        Ok((connection, chain))
    }

    async fn clients_of_each_other(
        &self,
        _connection: &Connection,
        chain: &str,
    ) -> Result<String, HopError> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.get(chain).cloned().ok_or(HopError::Unfinished)
    }
}

/// A connection that is closed unless it comes to something.
struct Opened {
    connection: Connection,
    kept: bool,
}

impl Opened {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if !self.kept {
            // It goes on by itself.
            let _ = self.connection.close().now_or_never();
        }
    }
}

/// Sends batches in order, and tells the host what became of each, in order.
async fn relay(
    shared: Arc<Shared>,
    connection: Connection,
    chain: String,
    peer: u64,
    mut wanted: mpsc::UnboundedReceiver<Batch>,
) {
    let mut under_way = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some(outcome) = under_way.next(), if !under_way.is_empty() => {
                let outcomes: Option<Outcomes> = outcome;
                let failed = outcomes.is_none();
                shared.inbox.push(Command::Relayed { chain: chain.clone(), peer, outcomes });
                if failed {
                    break;
                }
            }
            batch = wanted.recv() => {
                let Some(batch) = batch else { return };
                let batch = Say::encode(What::Batch(batch));
                let Ok(permit) = connection.reserve(batch.len()).await else { break };
                let Ok(ack) = permit.send(batch) else { break };
                let ack = ack.into_owned();
                under_way.push_back(async move {
                    let ack = ack.await.inspect_err(|error| {
                        tracing::debug!(%error, "a batch was not handled");
                    });
                    Outcomes::decode(ack.ok()?).ok()
                });
            }
        }
    }
    // What it was to be told is told again over the next connection.
    connection.close().await;
    shared.inbox.push(Command::PeerDown { chain, peer });
}
