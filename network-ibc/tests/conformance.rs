//! Channels between two hosts against the conformance suite, ordered ones.

#![cfg(feature = "host")]

mod hosts;

network_testkit::conformance!(hosts::Hosts::new("ordered"));
