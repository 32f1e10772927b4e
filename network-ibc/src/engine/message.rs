//! The messages of relayers.

use ibc_proto::{
    google::protobuf::Any,
    ibc::core::{
        channel::v1::{
            MsgAcknowledgement, MsgChannelCloseConfirm, MsgChannelCloseInit, MsgChannelOpenAck,
            MsgChannelOpenConfirm, MsgChannelOpenInit, MsgChannelOpenTry, MsgRecvPacket,
            MsgTimeout, MsgTimeoutOnClose,
        },
        client::v1::{MsgCreateClient, MsgUpdateClient},
        connection::v1::{
            MsgConnectionOpenAck, MsgConnectionOpenConfirm, MsgConnectionOpenInit,
            MsgConnectionOpenTry,
        },
    },
};
use prost::{Message as _, Name};

use super::{error::EngineError, settle::MsgSettle};

macro_rules! messages {
    ($($name:ident $kind:ident),* $(,)?) => {
        /// A message of IBC's core, as chains take them in transactions (ICS-026).
        ///
        /// Misbehaviour is a client message like a header: it comes in an update, as from ibc-go
        /// v8 on. `Settle` is ours.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Message {
            $($name($kind),)*
        }

        impl Message {
            /// Reads a message.
            ///
            /// # Errors
            /// It is none that a host takes, or is not well formed.
            pub(crate) fn read(message: &Any) -> Result<Self, EngineError> {
                // Without writing out the names of all kinds that it is not.
                let name = message.type_url.strip_prefix('/').and_then(|name| name.rsplit_once('.'));
                $(if name == Some(($kind::PACKAGE, $kind::NAME)) {
                    return $kind::decode(&message.value[..]).map(Self::$name).map_err(|error| {
                        EngineError::invalid(stringify!($kind), error.to_string())
                    });
                })*
                Err(EngineError::invalid("type of the message", message.type_url.clone()))
            }

            /// Writes a message for a transaction that an account signs.
            #[cfg(feature = "chain")]
            pub(crate) fn signed(&self, signer: &str) -> Any {
                match self {
                    $(Self::$name(message) => Any {
                        type_url: $kind::type_url(),
                        value: $kind { signer: signer.to_owned(), ..message.clone() }.encode_to_vec(),
                    },)*
                }
            }

            /// Writes a message, as a transaction carries it.
            pub(crate) fn write(&self) -> Any {
                match self {
                    $(Self::$name(message) => Any {
                        type_url: $kind::type_url(),
                        value: message.encode_to_vec(),
                    },)*
                }
            }
        }
    };
}

messages! {
    CreateClient MsgCreateClient,
    UpdateClient MsgUpdateClient,
    ConnectionOpenInit MsgConnectionOpenInit,
    ConnectionOpenTry MsgConnectionOpenTry,
    ConnectionOpenAck MsgConnectionOpenAck,
    ConnectionOpenConfirm MsgConnectionOpenConfirm,
    ChannelOpenInit MsgChannelOpenInit,
    ChannelOpenTry MsgChannelOpenTry,
    ChannelOpenAck MsgChannelOpenAck,
    ChannelOpenConfirm MsgChannelOpenConfirm,
    ChannelCloseInit MsgChannelCloseInit,
    ChannelCloseConfirm MsgChannelCloseConfirm,
    RecvPacket MsgRecvPacket,
    Acknowledgement MsgAcknowledgement,
    Timeout MsgTimeout,
    TimeoutOnClose MsgTimeoutOnClose,
    Settle MsgSettle,
}
