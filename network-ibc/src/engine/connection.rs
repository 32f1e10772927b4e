//! Connections (ICS-003): the handshake of a hop.

use std::sync::Arc;

use ibc_proto::ibc::core::connection::v1::{
    Counterparty, MsgConnectionOpenAck, MsgConnectionOpenConfirm, MsgConnectionOpenInit,
    MsgConnectionOpenTry, Version,
};

use super::{
    Engine, PREFIX,
    client::Proved,
    error::EngineError,
    event::Event,
    stage::Stage,
    types::{Connection, ConnectionState, client_id, connection_id, height},
};
use crate::{
    height::At,
    identifier::{ClientId, ConnectionId},
    path,
};

/// What a message may bring of versions, and a version of features (ibc-go
/// `MaxCounterpartyVersionsLength`, `MaxFeaturesLength`).
const MAX_VERSIONS: usize = 100;

/// The longest name of a store that a counterparty may have, in bytes (ibc-go v11).
const MAX_PREFIX: usize = 256;

/// The version that this host speaks.
pub(crate) fn version() -> Version {
    Version {
        identifier: "1".to_owned(),
        features: vec!["ORDER_ORDERED".to_owned(), "ORDER_UNORDERED".to_owned()],
    }
}

/// Whether a proposed version is one of those that are supported (ibc-go `IsSupportedVersion`).
fn is_supported(supported: &[Version], proposed: &Version) -> bool {
    let found = supported.iter().find(|one| one.identifier == proposed.identifier);
    found.is_some_and(|one| {
        !proposed.features.is_empty()
            && proposed.features.iter().all(|feature| one.features.contains(feature))
    })
}

/// What both sides have (ibc-go `PickVersion`).
fn pick(theirs: &[Version]) -> Result<Version, EngineError> {
    let ours = version();
    let common = theirs.iter().find(|one| one.identifier == ours.identifier).map(|one| {
        let features = ours.features.into_iter().filter(|feature| one.features.contains(feature));
        Version { identifier: ours.identifier, features: features.collect() }
    });
    common.filter(|version| !version.features.is_empty()).ok_or_else(|| EngineError::Version {
        reason: "the other side does not offer version 1 with an order of channels".to_owned(),
    })
}

/// The other end, as a message names it.
struct Other {
    client: ClientId,
    connection: Option<ConnectionId>,
    prefix: Vec<u8>,
}

impl Other {
    fn read(counterparty: Option<Counterparty>) -> Result<Self, EngineError> {
        let invalid = |reason| EngineError::invalid("counterparty of the connection", reason);
        let counterparty = counterparty.ok_or_else(|| invalid("it is missing"))?;
        let prefix = counterparty.prefix.map(|prefix| prefix.key_prefix).unwrap_or_default();
        if prefix.is_empty() || prefix.len() > MAX_PREFIX {
            return Err(invalid("its prefix is not 1 to 256 bytes long"));
        }
        Ok(Self {
            client: client_id(&counterparty.client_id)?,
            connection: match counterparty.connection_id.as_str() {
                "" => None,
                id => Some(connection_id(id)?),
            },
            prefix,
        })
    }
}

/// ibc-go `ValidateVersion`.
fn check_version(version: &Version) -> Result<(), EngineError> {
    let blank = |text: &String| text.trim().is_empty();
    if blank(&version.identifier)
        || version.features.len() > MAX_VERSIONS
        || version.features.iter().any(blank)
    {
        return Err(EngineError::invalid("version", "a part of it is blank, or it has too many"));
    }
    Ok(())
}

impl Engine {
    pub(crate) fn connection(
        &self,
        stage: &Stage<'_>,
        id: &ConnectionId,
    ) -> Result<Arc<Connection>, EngineError> {
        let Some(stored) = stage.get(&path::connection(id)) else {
            return Err(EngineError::NotFound { what: "connection", name: id.to_string() });
        };
        self.connections.read(&stored, Connection::decode)
    }

    pub(super) fn open_connection(
        &self,
        stage: &Stage<'_>,
        id: &ConnectionId,
    ) -> Result<Arc<Connection>, EngineError> {
        let connection = self.connection(stage, id)?;
        require(id, &connection, ConnectionState::Open)?;
        Ok(connection)
    }

    fn new_connection(&self, stage: &mut Stage<'_>) -> Result<ConnectionId, EngineError> {
        let number = stage.next_number("nextConnectionSequence", 0);
        connection_id(&format!("connection-{number}"))
    }

    /// ibc-go `03-connection/keeper/handshake.go`, `ConnOpenInit`.
    pub(super) fn connection_open_init(
        &self,
        stage: &mut Stage<'_>,
        message: MsgConnectionOpenInit,
        at: At,
    ) -> Result<Event, EngineError> {
        let client = client_id(&message.client_id)?;
        let other = Other::read(message.counterparty)?;
        if other.connection.is_some() {
            return Err(EngineError::invalid(
                "counterparty of the connection",
                "it has a name before it exists",
            ));
        }
        let versions = match message.version {
            None => vec![version()],
            Some(proposed) => {
                check_version(&proposed)?;
                if !is_supported(&[version()], &proposed) {
                    let reason =
                        format!("version {:?} is none of this host's", proposed.identifier);
                    return Err(EngineError::Version { reason });
                }
                vec![proposed]
            }
        };
        self.require_active(stage, &client, at)?;
        let id = self.new_connection(stage)?;
        let connection = Connection {
            state: ConnectionState::Init,
            client,
            counterparty_client: other.client,
            counterparty: None,
            prefix: other.prefix,
            versions,
            delay: message.delay_period,
        };
        stage.set(path::connection(&id), connection.encode());
        Ok(Event::ConnectionBegun { connection: id })
    }

    /// ibc-go `03-connection/keeper/handshake.go`, `ConnOpenTry`. As there, what the other side
    /// believes of this one is not looked at.
    #[expect(deprecated, reason = "the field has to be empty")]
    pub(super) fn connection_open_try(
        &self,
        stage: &mut Stage<'_>,
        message: MsgConnectionOpenTry,
        at: At,
    ) -> Result<Event, EngineError> {
        let client = client_id(&message.client_id)?;
        if !message.previous_connection_id.is_empty() {
            return Err(EngineError::invalid(
                "MsgConnectionOpenTry",
                "it names a connection of this side: crossing hellos are no more",
            ));
        }
        let other = Other::read(message.counterparty)?;
        let named = EngineError::invalid("counterparty of the connection", "it has no name");
        let counterparty = other.connection.ok_or(named)?;
        if message.counterparty_versions.len() > MAX_VERSIONS {
            return Err(EngineError::invalid("MsgConnectionOpenTry", "it has too many versions"));
        }
        message.counterparty_versions.iter().try_for_each(check_version)?;
        let id = self.new_connection(stage)?;
        let expected = Connection {
            state: ConnectionState::Init,
            client: other.client.clone(),
            counterparty_client: client.clone(),
            counterparty: None,
            prefix: PREFIX.to_vec(),
            versions: message.counterparty_versions.clone(),
            delay: message.delay_period,
        };
        let version = pick(&message.counterparty_versions)?;
        let connection = Connection {
            state: ConnectionState::TryOpen,
            client,
            counterparty_client: other.client,
            counterparty: Some(counterparty.clone()),
            prefix: other.prefix,
            versions: vec![version],
            delay: message.delay_period,
        };
        let proved = Proved {
            path: path::connection(&counterparty),
            value: Some(&expected.encode()),
            proof: &message.proof_init,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, 0, at)?;
        stage.set(path::connection(&id), connection.encode());
        Ok(Event::ConnectionBegun { connection: id })
    }

    /// ibc-go `03-connection/keeper/handshake.go`, `ConnOpenAck`.
    pub(super) fn connection_open_ack(
        &self,
        stage: &mut Stage<'_>,
        message: MsgConnectionOpenAck,
        at: At,
    ) -> Result<Event, EngineError> {
        let id = connection_id(&message.connection_id)?;
        let counterparty = connection_id(&message.counterparty_connection_id)?;
        let missing = || EngineError::invalid("MsgConnectionOpenAck", "it has no version");
        let version = message.version.ok_or_else(missing)?;
        check_version(&version)?;
        let mut connection = Arc::unwrap_or_clone(self.connection(stage, &id)?);
        require(&id, &connection, ConnectionState::Init)?;
        if !is_supported(&connection.versions, &version) {
            let reason = format!("version {:?} was not proposed", version.identifier);
            return Err(EngineError::Version { reason });
        }
        connection.versions = vec![version];
        let expected = mirrored(&id, &connection, ConnectionState::TryOpen);
        let proved = Proved {
            path: path::connection(&counterparty),
            value: Some(&expected.encode()),
            proof: &message.proof_try,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, 0, at)?;
        connection.state = ConnectionState::Open;
        connection.counterparty = Some(counterparty);
        stage.set(path::connection(&id), connection.encode());
        Ok(Event::ConnectionOpen { connection: id })
    }

    /// ibc-go `03-connection/keeper/handshake.go`, `ConnOpenConfirm`.
    pub(super) fn connection_open_confirm(
        &self,
        stage: &mut Stage<'_>,
        message: &MsgConnectionOpenConfirm,
        at: At,
    ) -> Result<Event, EngineError> {
        let id = connection_id(&message.connection_id)?;
        let mut connection = Arc::unwrap_or_clone(self.connection(stage, &id)?);
        require(&id, &connection, ConnectionState::TryOpen)?;
        let expected = mirrored(&id, &connection, ConnectionState::Open);
        let proved = Proved {
            path: path::connection(counterparty(&id, &connection)?),
            value: Some(&expected.encode()),
            proof: &message.proof_ack,
            height: height(message.proof_height),
        };
        self.verify(stage, &connection, &proved, 0, at)?;
        connection.state = ConnectionState::Open;
        stage.set(path::connection(&id), connection.encode());
        Ok(Event::ConnectionOpen { connection: id })
    }
}

/// The name of the other end, which it has from TRYOPEN on.
pub(super) fn counterparty<'a>(
    id: &ConnectionId,
    connection: &'a Connection,
) -> Result<&'a ConnectionId, EngineError> {
    connection.counterparty.as_ref().ok_or_else(|| EngineError::NotFound {
        what: "counterparty of connection",
        name: id.to_string(),
    })
}

/// What the other side must have stored if it agrees with this one.
fn mirrored(id: &ConnectionId, connection: &Connection, state: ConnectionState) -> Connection {
    Connection {
        state,
        client: connection.counterparty_client.clone(),
        counterparty_client: connection.client.clone(),
        counterparty: Some(id.clone()),
        prefix: PREFIX.to_vec(),
        versions: connection.versions.clone(),
        delay: connection.delay,
    }
}

fn require(
    id: &ConnectionId,
    connection: &Connection,
    wanted: ConnectionState,
) -> Result<(), EngineError> {
    if connection.state == wanted {
        return Ok(());
    }
    Err(EngineError::State {
        name: id.to_string(),
        state: connection.state.name(),
        wanted: wanted.name(),
    })
}
