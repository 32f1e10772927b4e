//! Nodes that answer what no node should.
