//! Channels between two hosts against the conformance suite, unordered ones.

#![cfg(feature = "host")]

mod hosts;

network_testkit::conformance!(hosts::Hosts::new("unordered"));
