//! Genesis states: from geth's JSON files, and Ethereum's own.
//!
//! | module | what lives there |
//! |---|---|
//! | `text` | the numbers, hashes and bytes of a genesis file |
//! | `header` | the header fields, and the hash of the first block |
//! | `load` | accounts, one after the other, into a new database |
//! | `file` | a genesis file as a stream |
//! | `mainnet` | Ethereum's genesis state, which the program carries |

mod file;
mod header;
mod load;
mod mainnet;
mod text;

#[cfg(any(test, fuzzing))]
pub(crate) use self::file::read;
pub(crate) use self::{
    file::read_file,
    load::{Loaded, Loader},
    mainnet::read_mainnet,
};

use self::header::Header;

/// What a genesis file says beside the accounts.
#[derive(Debug, Default)]
pub(crate) struct Preamble {
    /// The header fields.
    pub(crate) header: Header,
    /// Fields that nobody reads, as geth ignores them; the first few, each once.
    pub(crate) ignored: Vec<String>,
}
