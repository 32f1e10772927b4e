//! What a host shows itself as to others, and how it proves its claims as that.
//!
//! The ledger is the same behind each face. A value is proved, or signed, as of the last block, so
//! nothing is shown that a crash could undo.

use std::sync::Arc;

use bytes::Bytes;
use ibc_proto::{google::protobuf::Any, ibc::core::client::v1::MsgUpdateClient};

use super::{datagram::Kind, error::HostError, wire::Known};
use crate::{
    LedgerError,
    client::{SOLO_MACHINE, SoloKey, SoloState, TENDERMINT},
    engine::{Message, Store as _},
    height::{Height, Timestamp},
    ledger::{Block, Ledger, Trust},
};

/// What a host shows itself as.
#[derive(Clone, Debug, Default)]
pub(super) enum Face {
    /// `07-tendermint`: signed headers, and proofs from the trees below them.
    #[default]
    Chain,
    /// `06-solomachine`: a signature for each claim.
    Solo(Arc<SoloKey>),
}

/// Where a ledger says what its host shows itself as.
const FACE: &[u8] = b"host/face";

impl Face {
    /// The kind of client that others have of this host.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Chain => TENDERMINT,
            Self::Solo(_) => SOLO_MACHINE,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Chain => self.kind().to_owned(),
            Self::Solo(key) => format!("{} with the key {}", self.kind(), key.name()),
        }
    }

    /// Gives a new ledger this face, and checks that any other has it: others believe of a host
    /// what it was when they made their clients.
    pub(super) fn claim(&self, ledger: &mut Ledger) -> Result<(), HostError> {
        let wanted = self.name();
        let found = match ledger.private(FACE) {
            Some(found) => String::from_utf8_lossy(&found).into_owned(),
            None if ledger.is_new() => {
                ledger.set_private(FACE.to_vec(), Some(Bytes::from(wanted)));
                return Ok(());
            }
            None => Self::Chain.name(),
        };
        if found != wanted {
            return Err(HostError::Face { chain: ledger.chain().to_owned(), found, wanted });
        }
        Ok(())
    }

    /// The states of a new client of this host at another chain, which begins with the last block.
    pub(super) fn states(
        &self,
        ledger: &Ledger,
        block: &Block,
        trust: &Trust,
        chain: &str,
    ) -> Result<(Any, Any), HostError> {
        match self {
            Self::Chain => Ok(ledger.client_of(block.height, trust)?),
            Self::Solo(key) => Ok(key.states(&SoloState::new(&diversifier(chain)?, block.time)?)),
        }
    }

    /// How many batches may be under way. With two the other side has work while an answer travels;
    /// but what a solo machine signs depends on what became of all that it signed before.
    pub(super) fn batches(&self) -> usize {
        match self {
            Self::Chain => 2,
            Self::Solo(_) => 1,
        }
    }
}

/// One that was never used. It names the chain that has the client, so that what is signed for it
/// is of no use elsewhere.
fn diversifier(chain: &str) -> Result<String, HostError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| LedgerError::Key)?;
    Ok(format!("{chain}/{:016x}", u64::from_be_bytes(random)))
}

fn is_diversifier(text: &str, chain: &str) -> bool {
    let random = text.strip_prefix(chain).and_then(|rest| rest.strip_prefix('/'));
    random.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The highest sequence that a client is believed to be at: no honest one comes near, and no batch
/// gets from it to the end.
const MAX_SEQUENCE: u64 = u64::MAX >> 1;

/// The client that another host has of this one, as far as is known here.
#[derive(Clone, Debug)]
pub(super) struct Theirs {
    chain: Arc<str>,
    client: Arc<str>,
    knows: Knows,
}

#[derive(Clone, Debug)]
enum Knows {
    /// The header of this height, and none after it.
    Height(Height),
    /// What was signed for it.
    Signed(Signed),
}

#[derive(Clone, Debug)]
struct Signed {
    key: Arc<SoloKey>,
    /// What it takes next.
    state: SoloState,
    /// Something was signed, or may have been, that came to nothing: a header with another
    /// diversifier has to come before anything else is signed at the same sequence.
    spent: bool,
}

impl Theirs {
    /// As the other host says that it is. `None` if nothing can be shown to it.
    pub(super) fn new(face: &Face, chain: &str, known: Known) -> Option<Self> {
        let Known { client, revision, height, diversifier } = known;
        let knows = match face {
            Face::Chain => Knows::Height(Height::new(revision, height)),
            Face::Solo(key) => {
                // The time is that of the block, which is later than all that was ever signed.
                let state = SoloState::at(height, &diversifier, Timestamp::from_nanos(1)).ok();
                let Some(state) = state.filter(|_| {
                    // Or another host could have this one sign what it shows to a third one.
                    is_diversifier(&diversifier, chain) && height <= MAX_SEQUENCE
                }) else {
                    tracing::warn!(chain, client, "it has no client of this host");
                    return None;
                };
                // What was signed over an earlier way, or by an earlier process, is not kept.
                Knows::Signed(Signed { key: key.clone(), state, spent: true })
            }
        };
        Some(Self { chain: chain.into(), client: client.into(), knows })
    }

    /// Whether a header has to come before something. `among`: the batch has one already.
    pub(super) fn wants_header(&self, kind: &Kind, block: &Block, among: bool) -> bool {
        match &self.knows {
            Knows::Height(height) => *height < block.height,
            // Whether a packet has timed out is judged by the client's time, before the proof of
            // that moves it.
            Knows::Signed(Signed { spent, .. }) => {
                *spent || (matches!(kind, Kind::TimedOut(_)) && !among)
            }
        }
    }

    /// The header that moves the client to a block.
    pub(super) fn header(&mut self, ledger: &Ledger, block: &Block) -> Result<Any, HostError> {
        let header = match &mut self.knows {
            Knows::Height(height) => {
                let header = ledger.header(block.height, *height)?;
                *height = block.height;
                header
            }
            Knows::Signed(Signed { key, state, spent }) => {
                let rotation = state.take_rotation(block.time, &diversifier(&self.chain)?)?;
                *spent = false;
                key.rotate(rotation, key)?
            }
        };
        let update = MsgUpdateClient {
            client_id: self.client.to_string(),
            client_message: Some(header),
            signer: String::new(),
        };
        Ok(Message::UpdateClient(update).write())
    }

    /// Proves what is at a key, as of a block: a value or nothing. Proofs are taken in the order in
    /// which they were made.
    pub(super) fn prove(
        &mut self,
        ledger: &Ledger,
        block: &Block,
        key: &str,
    ) -> Result<Vec<u8>, HostError> {
        match &mut self.knows {
            Knows::Height(_) => Ok(ledger.prove(key, block.height)?),
            Knows::Signed(Signed { key: signer, state, .. }) => {
                let value = block.value(key);
                // Before anybody can see it: who reads these knows all that was ever claimed.
                let (sequence, diversifier) = (state.sequence(), state.diversifier());
                tracing::trace!(sequence, diversifier, path = key, ?value, "claim");
                let turn = state.take(block.time)?;
                Ok(signer.prove(turn, key, value.map(|value| &value[..]))?.into())
            }
        }
    }

    /// The height that proofs as of a block are of.
    pub(super) fn height(&self, block: &Block) -> Height {
        match &self.knows {
            Knows::Height(_) => block.height,
            // Nobody looks at it.
            Knows::Signed(Signed { state, .. }) => Height::new(0, state.sequence()),
        }
    }

    /// Whether proofs are counted, and how many it will have taken after those that were made.
    pub(super) fn counted(&self) -> Option<u64> {
        match &self.knows {
            Knows::Height(_) => None,
            Knows::Signed(Signed { state, .. }) => Some(state.sequence()),
        }
    }

    /// Whether what is counted is the same: what was signed since the same header.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        match (&self.knows, &other.knows) {
            (Knows::Signed(one), Knows::Signed(other)) => {
                one.state.diversifier() == other.state.diversifier()
            }
            _ => false,
        }
    }

    /// Whether it was to take the same next signature.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        match (&self.knows, &other.knows) {
            (Knows::Signed(one), Knows::Signed(other)) => {
                one.state.sequence() == other.state.sequence()
                    && one.state.diversifier() == other.state.diversifier()
            }
            _ => false,
        }
    }
}
