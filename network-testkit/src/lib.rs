//! The conformance suite for backends of the network workspace.
