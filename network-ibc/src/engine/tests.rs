//! What an oracle cannot say: the engine is compared with `ibc-core`, message by message, in
//! `network-ibc/oracle`.

mod fixture;
mod handshakes;
mod host;
mod messages;
mod packets;
mod settle;
mod stage;
mod stand;
