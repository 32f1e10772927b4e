//! Channels between two hosts that show themselves as solo machines against the conformance suite,
//! ordered ones.

#![cfg(feature = "host")]

mod hosts;

network_testkit::conformance!(hosts::Hosts::solo("ordered"));
