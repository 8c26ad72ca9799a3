//! Ethereum's genesis state. Where `data/mainnet-genesis.zst` comes from: `data/README.md`.

use std::io::Read;

use alloy_primitives::{Address, U256, bytes};

use metisdb_execution::unpack;

use super::{Loader, Preamble, header::Header};
use crate::{failure::Failure, progress::Bar};

const PACKED: &[u8] = include_bytes!("../../data/mainnet-genesis.zst");
const ADDRESS_BYTES: usize = 20;
/// Bytes of a balance, big-endian.
const BALANCE_BYTES: usize = 12;

/// Loads the accounts of Ethereum's genesis.
pub(crate) fn read_mainnet(loader: &mut Loader<'_>) -> Result<Preamble, Failure> {
    let accounts = accounts();
    let mut bar = Bar::new("imports", accounts.len() as u64);
    for (index, (address, balance)) in accounts.into_iter().enumerate() {
        loader.begin(address)?;
        loader.end(0, balance)?;
        bar.advance(index as u64, "accounts of Ethereum's genesis");
    }
    Ok(Preamble { header: header(), ignored: Vec::new() })
}

/// The accounts in the order of their addresses. They have balances and nothing else.
fn accounts() -> Vec<(Address, U256)> {
    let mut content = Vec::new();
    let unpacked = unpack::content(PACKED).and_then(|mut reader| reader.read_to_end(&mut content));
    unpacked.expect("a test unpacks the same bytes");
    let count = content.len() / (ADDRESS_BYTES + BALANCE_BYTES);
    let (addresses, balances) = content.split_at(count * ADDRESS_BYTES);
    let addresses = addresses.chunks_exact(ADDRESS_BYTES).map(Address::from_slice);
    // The bytes of one place stand together: so the many zeros do.
    let balance = |index: usize| {
        (0..BALANCE_BYTES).fold(U256::ZERO, |value, place| (value << 8) | U256::from(balances[place * count + index]))
    };
    addresses.enumerate().map(|(index, address)| (address, balance(index))).collect()
}

fn header() -> Header {
    Header {
        difficulty: Some(U256::from(0x4_0000_0000_u64)),
        gas_limit: Some(5_000),
        nonce: Some(0x42),
        extra_data: Some(bytes!("11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa")),
        ..Header::default()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, env, fs, path::Path};

    use metisdb_conformance::{data, hex};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct File {
        alloc: BTreeMap<String, Allocated>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Allocated {
        balance: String,
    }

    /// With `METISDB_APPROVE=1` it writes the file.
    #[test]
    fn the_data_is_that_of_alloy_genesis() {
        let text = data::read(&data::package("alloy-genesis").join("dumpgenesis/mainnet.json"));
        let file: File = serde_json::from_slice(&text).unwrap();
        let expected: BTreeMap<_, _> = file
            .alloc
            .iter()
            .map(|(address, account)| (hex::address(address), hex::number(&account.balance)))
            .collect();
        assert_eq!(expected.len(), 8_893);
        if env::var_os("METISDB_APPROVE").is_some() {
            let mut content: Vec<u8> = expected.keys().flat_map(|address| address.into_array()).collect();
            for place in 0..BALANCE_BYTES {
                content
                    .extend(expected.values().map(|balance| balance.to_be_bytes::<32>()[32 - BALANCE_BYTES + place]));
            }
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mainnet-genesis.zst");
            fs::write(path, compress_to_vec(&content[..], CompressionLevel::Fastest)).unwrap();
            return;
        }
        assert_eq!(accounts(), expected.into_iter().collect::<Vec<_>>());
    }
}
