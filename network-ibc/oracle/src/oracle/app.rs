//! The application behind ibc-core.

use super::*;

/// Decides what the step says.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) accept: Option<String>,
    pub(super) acknowledgement: Option<Acknowledgement>,
}

impl Router for App {
    fn get_route(&self, _module: &ModuleId) -> Option<&dyn Module> {
        Some(self)
    }

    fn get_route_mut(&mut self, _module: &ModuleId) -> Option<&mut dyn Module> {
        Some(self)
    }

    fn lookup_module(&self, _port: &PortId) -> Option<ModuleId> {
        Some(ModuleId::new("app".to_owned()))
    }
}

impl Module for App {
    fn on_chan_open_init_validate(
        &self,
        _order: Order,
        _hops: &[ConnectionId],
        _port: &PortId,
        _channel: &ChannelId,
        _counterparty: &Counterparty,
        version: &Version,
    ) -> Result<Version, ChannelError> {
        Ok(version.clone())
    }

    fn on_chan_open_init_execute(
        &mut self,
        _order: Order,
        _hops: &[ConnectionId],
        _port: &PortId,
        _channel: &ChannelId,
        _counterparty: &Counterparty,
        version: &Version,
    ) -> Result<(ModuleExtras, Version), ChannelError> {
        Ok((ModuleExtras::empty(), version.clone()))
    }

    fn on_chan_open_try_validate(
        &self,
        _order: Order,
        _hops: &[ConnectionId],
        _port: &PortId,
        _channel: &ChannelId,
        _counterparty: &Counterparty,
        _version: &Version,
    ) -> Result<Version, ChannelError> {
        let refused = || ChannelError::AppSpecific { description: "nobody accepts it".to_owned() };
        self.accept.clone().map(Version::new).ok_or_else(refused)
    }

    fn on_chan_open_try_execute(
        &mut self,
        order: Order,
        hops: &[ConnectionId],
        port: &PortId,
        channel: &ChannelId,
        counterparty: &Counterparty,
        version: &Version,
    ) -> Result<(ModuleExtras, Version), ChannelError> {
        let version =
            self.on_chan_open_try_validate(order, hops, port, channel, counterparty, version)?;
        Ok((ModuleExtras::empty(), version))
    }

    fn on_recv_packet_execute(
        &mut self,
        _packet: &Packet,
        _relayer: &Signer,
    ) -> (ModuleExtras, Option<Acknowledgement>) {
        (ModuleExtras::empty(), self.acknowledgement.clone())
    }

    fn on_acknowledgement_packet_validate(
        &self,
        _packet: &Packet,
        _acknowledgement: &Acknowledgement,
        _relayer: &Signer,
    ) -> Result<(), ChannelError> {
        Ok(())
    }

    fn on_acknowledgement_packet_execute(
        &mut self,
        _packet: &Packet,
        _acknowledgement: &Acknowledgement,
        _relayer: &Signer,
    ) -> (ModuleExtras, Result<(), ChannelError>) {
        (ModuleExtras::empty(), Ok(()))
    }

    fn on_timeout_packet_validate(
        &self,
        _packet: &Packet,
        _relayer: &Signer,
    ) -> Result<(), ChannelError> {
        Ok(())
    }

    fn on_timeout_packet_execute(
        &mut self,
        _packet: &Packet,
        _relayer: &Signer,
    ) -> (ModuleExtras, Result<(), ChannelError>) {
        (ModuleExtras::empty(), Ok(()))
    }
}
