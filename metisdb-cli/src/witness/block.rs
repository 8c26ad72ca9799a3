//! Blocks and headers from files, and the rules that they follow.

use std::{fs::File, io::Read, path::Path};

use alloy_consensus::{Block, Header, TxEnvelope};
use alloy_primitives::{Bytes, hex};
use alloy_rlp::Decodable;
use clap::Args;
use metisdb_execution::{Chain, Forks};

use crate::failure::Failure;

/// Longer files are not read: blocks have 10 MiB at most (EIP-7934), the largest witnesses some hundreds.
const MOST_BYTES: u64 = 1 << 30;

/// The rules of a chain.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// The rules, by the names of Ethereum's tests: Paris, Shanghai, Cancun, Prague, Osaka, `CancunToPragueAtTime15k` ...
    #[arg(long, value_name = "NAME")]
    forks: String,
    /// Id of the chain, which transactions name.
    #[arg(long, value_name = "N", default_value_t = 1)]
    chain_id: u64,
}

impl Rules {
    pub(super) fn chain(&self) -> Result<Chain, Failure> {
        let forks = Forks::named(&self.forks).map_err(|error| Failure::Refused(error.to_string()))?;
        Ok(Chain::new(forks, self.chain_id))
    }
}

/// The bytes of a file, those that it has in hexadecimal if it has.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(Failure::system("read", path))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Failure::Refused(format!("{}: longer than {MOST_BYTES} bytes", path.display())));
    }
    let text = str::from_utf8(&bytes).map(str::trim).ok();
    let decoded = text.filter(|text| text.starts_with("0x")).map(hex::decode);
    match decoded {
        Some(decoded) => decoded.map_err(|error| Failure::Refused(format!("{}: {error}", path.display()))),
        None => Ok(bytes),
    }
}

/// A block.
pub(super) fn read_block(path: &Path) -> Result<Block<TxEnvelope>, Failure> {
    decode(path).map(|(block, _)| block)
}

/// A header, and as it stands in a witness.
pub(super) fn read_header(path: &Path) -> Result<(Header, Bytes), Failure> {
    decode(path).map(|(header, bytes)| (header, bytes.into()))
}

fn decode<T: Decodable>(path: &Path) -> Result<(T, Vec<u8>), Failure> {
    let bytes = read_bytes(path)?;
    let mut rest = &bytes[..];
    let decoded = T::decode(&mut rest).map_err(|error| error.to_string());
    match decoded {
        Ok(decoded) if rest.is_empty() => Ok((decoded, bytes)),
        Ok(_) => Err(Failure::Refused(format!("{}: {} bytes too many", path.display(), rest.len()))),
        Err(error) => Err(Failure::Refused(format!("{}: {error}; RLP is expected", path.display()))),
    }
}
