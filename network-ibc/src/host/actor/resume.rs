//! What an earlier process has left.

use std::collections::HashSet;

use ibc_proto::ibc::core::channel::v1::MsgChannelCloseInit;

use super::{Actor, ChannelEnd, keys};
use crate::{
    engine::{ChannelState, Message, Store as _},
    host::{Hop, datagram::Kind},
    identifier::ConnectionId,
};

impl Actor {
    /// Takes up what an earlier process has left.
    pub(super) fn resume(&mut self) {
        let mut from = keys::HOPS.to_vec();
        while let Some((found, chain)) = self.ledger.private_next(keys::HOPS, &from) {
            let name =
                found.strip_prefix(keys::HOPS).and_then(|name| std::str::from_utf8(name).ok());
            if let (Some(name), Ok(chain)) = (name, std::str::from_utf8(&chain)) {
                let connection = ConnectionId::known(name);
                let end = self.connection(&connection);
                self.hops.set(Hop::new(connection, chain.to_owned(), end.as_ref()));
            }
            from = found;
            from.push(0);
        }
        let mut from = keys::OUT.to_vec();
        while let Some((found, datagram)) = self.ledger.private_next(keys::OUT, &from) {
            if let (Some((chain, number)), Some(kind)) =
                (keys::read_out(&found), Kind::load(&datagram))
            {
                let chain = chain.to_owned();
                self.peer(&chain).push(number, kind);
            }
            from = found;
            from.push(0);
        }
        let (of_modules, left): (Vec<_>, Vec<_>) =
            self.ledger.channels().into_iter().partition(|(port, ..)| self.modules.has(port));
        self.forget_tried(&of_modules);
        self.close_left(left);
        for (port, id, channel) in of_modules {
            if channel.state == ChannelState::Init {
                self.resume_module(port, id, channel.hop);
            }
        }
    }

    /// Forgets which channels other sides have begun, but for those of modules. Whoever was asked
    /// about them is gone; who still wants one asks again.
    fn forget_tried(&mut self, of_modules: &[ChannelEnd]) {
        let kept: HashSet<_> = of_modules.iter().map(|(_, id, _)| id.as_str().as_bytes()).collect();
        let hops: Vec<_> = self.hops.lock().keys().cloned().collect();
        for hop in hops {
            let prefix = keys::tried_channel(hop.as_str(), "", "");
            let prefix = &prefix[..prefix.len() - 1];
            let mut from = prefix.to_vec();
            while let Some((found, id)) = self.ledger.private_next(prefix, &from) {
                from = [&found[..], &[0]].concat();
                if !kept.contains(&id[..]) {
                    self.write(found, None);
                }
            }
        }
    }

    /// Closes the channels of a process that ended: whoever handled their records is gone.
    fn close_left(&mut self, left: Vec<ChannelEnd>) {
        for (port, id, channel) in left {
            let message = MsgChannelCloseInit {
                port_id: port.to_string(),
                channel_id: id.to_string(),
                signer: String::new(),
            };
            match channel.state {
                ChannelState::Open | ChannelState::TryOpen => {
                    if let Err(error) = self.deliver(Message::ChannelCloseInit(message)) {
                        tracing::warn!(%id, %error, "a channel of an earlier process stays open");
                    }
                }
                ChannelState::Init | ChannelState::Closed => {}
            }
        }
    }
}
