//! Power cuts, failing disks and damaged files: MetisDB under everything that a disk can do to it, compared with a model.
//!
//! | module | what lives there |
//! |---|---|
//! | `random`, `model` | numbers from a seed; the state as a few maps, with roots by `alloy-trie` |
//! | `allocator` | what keeps opening a database cheap |
//! | `injector` | a storage whose calls fail |
//! | `crash` | histories cut at every operation, and what a power loss leaves |
//! | `faults` | calls of the storage that fail, once or from there on |
//! | `naive_trie` | the naive trie of the product's tests |
//! | `proofs` | proofs that were forged |
//! | `damage` | files whose bytes are not what was written |

mod allocator;
pub mod crash;
pub mod damage;
pub mod faults;
mod injector;
mod model;
#[path = "../../metisdb/src/tests/naive_trie.rs"]
mod naive_trie;
pub mod proofs;
mod random;
