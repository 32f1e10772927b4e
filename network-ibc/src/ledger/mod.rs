//! The ledger: a provable store and the signed blocks that commit to it.
