mod fixture;
mod host;
mod packets;
mod stand;
