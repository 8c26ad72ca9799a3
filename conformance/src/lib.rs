//! What the conformance tests share: where their data lies, states and their differences, the database, the count.
//!
//! Every root is computed by the naive trie first, so that a wrong harness is told from a wrong database.

pub mod data;
pub mod database;
pub mod header;
pub mod hex;
pub mod state;
pub mod tally;

#[path = "../../metisdb/src/tests/naive_trie.rs"]
mod naive_trie;
