//! The header fields of a genesis file, and the hash of the first block, as geth makes it.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, b256, keccak256};
use metisdb::Block;
use serde_json::{Value, value::RawValue};

use super::text;

const NO_OMMERS: B256 = b256!("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347");
const EMPTY_ROOT: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");
/// SHA-256 of nothing: the hash of no requests (EIP-7685).
const NO_REQUESTS: B256 = b256!("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
/// The gas limit where the file says none.
const GAS_LIMIT: u64 = 4_712_388;
/// The base fee where the file says none, in wei.
const BASE_FEE: U256 = U256::from_limbs([1_000_000_000, 0, 0, 0]);
/// What a configuration may hold that does not change the first header.
const WITHOUT_EFFECT: [&str; 25] = [
    "chainId",
    "homesteadBlock",
    "daoForkBlock",
    "daoForkSupport",
    "eip150Block",
    "eip150Hash",
    "eip155Block",
    "eip158Block",
    "byzantiumBlock",
    "constantinopleBlock",
    "petersburgBlock",
    "istanbulBlock",
    "muirGlacierBlock",
    "berlinBlock",
    "arrowGlacierBlock",
    "grayGlacierBlock",
    "mergeNetsplitBlock",
    "osakaTime",
    "terminalTotalDifficulty",
    "terminalTotalDifficultyPassed",
    "depositContractAddress",
    "blobSchedule",
    "ethash",
    "clique",
    "isDev",
];

/// The header fields; what the file does not say is `None`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub(super) config: Option<BTreeMap<String, Value>>,
    pub(super) parent_hash: Option<B256>,
    pub(super) coinbase: Option<Address>,
    pub(super) difficulty: Option<U256>,
    pub(super) number: Option<u64>,
    pub(super) gas_limit: Option<u64>,
    pub(super) gas_used: Option<u64>,
    pub(super) timestamp: Option<u64>,
    pub(super) extra_data: Option<Bytes>,
    pub(super) mix_hash: Option<B256>,
    pub(super) nonce: Option<u64>,
    pub(super) base_fee: Option<U256>,
    pub(super) blob_gas_used: Option<u64>,
    pub(super) excess_blob_gas: Option<u64>,
}

/// Sets one of the fields.
pub(super) type Setter = fn(&mut Header, &RawValue) -> Result<(), String>;

/// Sets a field that may be there once; null is as good as nothing.
pub(super) fn put<T>(
    field: &mut Option<T>,
    read: fn(&str) -> Result<T, String>,
    value: &RawValue,
) -> Result<(), String> {
    if field.is_some() {
        return Err("stands there twice".to_owned());
    }
    *field = text::content(value)?.as_deref().map(read).transpose()?;
    Ok(())
}

impl Header {
    /// How the field of this name, in small letters, is set; `None` where there is none.
    pub(super) fn setter(name: &str) -> Option<Setter> {
        Some(match name {
            "config" => |header, value| {
                header.config = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
                Ok(())
            },
            "parenthash" => |header, value| put(&mut header.parent_hash, text::hash, value),
            "coinbase" => |header, value| put(&mut header.coinbase, text::address, value),
            "difficulty" => |header, value| put(&mut header.difficulty, text::number, value),
            "number" => |header, value| put(&mut header.number, text::small, value),
            "gaslimit" => |header, value| put(&mut header.gas_limit, text::small, value),
            "gasused" => |header, value| put(&mut header.gas_used, text::small, value),
            "timestamp" => |header, value| put(&mut header.timestamp, text::small, value),
            "extradata" => |header, value| put(&mut header.extra_data, text::bytes, value),
            "mixhash" => |header, value| put(&mut header.mix_hash, text::hash, value),
            "nonce" => |header, value| put(&mut header.nonce, text::small, value),
            "basefeepergas" => |header, value| put(&mut header.base_fee, text::number, value),
            "blobgasused" => |header, value| put(&mut header.blob_gas_used, text::small, value),
            "excessblobgas" => |header, value| put(&mut header.excess_blob_gas, text::small, value),
            _ => return None,
        })
    }

    /// The first block; or why its hash is not known.
    pub(crate) fn block(&self, state_root: B256) -> Result<Block, String> {
        let number = self.number.unwrap_or(0);
        let hash = keccak256(list(&self.fields(state_root)?));
        let parent_hash = self.parent_hash.unwrap_or_default();
        Ok(Block { number, hash, parent_hash, timestamp: self.timestamp.unwrap_or(0) })
    }

    fn fields(&self, state_root: B256) -> Result<Vec<Vec<u8>>, String> {
        let forks = self.forks()?;
        let difficulty = self.difficulty.ok_or("the file has no difficulty")?;
        let gas_limit = self.gas_limit.ok_or("the file has no gasLimit")?;
        let hash = |hash: B256| string(hash.as_slice());
        let small = |value: Option<u64>| integer(U256::from(value.unwrap_or(0)));
        let mut fields = vec![
            hash(self.parent_hash.unwrap_or_default()),
            hash(NO_OMMERS),
            string(self.coinbase.unwrap_or_default().as_slice()),
            hash(state_root),
            hash(EMPTY_ROOT),
            hash(EMPTY_ROOT),
            string(&[0; 256]),
            integer(difficulty),
            small(self.number),
            small(Some(if gas_limit == 0 { GAS_LIMIT } else { gas_limit })),
            small(self.gas_used),
            small(self.timestamp),
            string(self.extra_data.as_ref().map_or(&[], |data| data)),
            hash(self.mix_hash.unwrap_or_default()),
            string(&self.nonce.unwrap_or(0).to_be_bytes()),
        ];
        if forks.london {
            fields.push(integer(self.base_fee.unwrap_or(BASE_FEE)));
        }
        if forks.shanghai {
            fields.push(hash(EMPTY_ROOT));
        }
        if forks.cancun {
            fields.extend([small(self.blob_gas_used), small(self.excess_blob_gas), hash(B256::ZERO)]);
        }
        if forks.prague {
            fields.push(hash(NO_REQUESTS));
        }
        Ok(fields)
    }

    /// Which of the forks that add a header field the chain begins with.
    fn forks(&self) -> Result<Forks, String> {
        let mut forks = Forks::default();
        let (number, timestamp) = (self.number.unwrap_or(0), self.timestamp.unwrap_or(0));
        for (name, value) in self.config.iter().flatten() {
            let start = start(value);
            let has_begun = |now: u64| match &start {
                Ok(start) => Ok(start.is_some_and(|start| start <= now)),
                Err(reason) => Err(format!("{name} of the config: {reason}")),
            };
            match name.as_str() {
                "londonBlock" => forks.london = has_begun(number)?,
                "shanghaiTime" => forks.shanghai = has_begun(timestamp)?,
                "cancunTime" => forks.cancun = has_begun(timestamp)?,
                "pragueTime" => forks.prague = has_begun(timestamp)?,
                known if WITHOUT_EFFECT.contains(&known) || is_blob_schedule(known) => {}
                _ if has_begun(number.max(timestamp)) == Ok(false) => {}
                other => return Err(format!("what {other} of the config does to the header is not known here")),
            }
        }
        let Forks { london, shanghai, cancun, prague } = forks;
        let is_in_order = london >= shanghai && shanghai >= cancun && cancun >= prague;
        if is_in_order { Ok(forks) } else { Err("the forks of the config are not in order".to_owned()) }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Forks {
    london: bool,
    shanghai: bool,
    cancun: bool,
    prague: bool,
}

/// When a fork begins: never, at a number, or at one in a text.
fn start(value: &Value) -> Result<Option<u64>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if !text.is_empty() => text::small(text).map(Some),
        other => other.as_u64().map(Some).ok_or_else(|| format!("{other} is neither a number nor null")),
    }
}

/// A fork that changes parameters of blobs and nothing else: `bpo1Time` and so on.
fn is_blob_schedule(name: &str) -> bool {
    let number = name.strip_prefix("bpo").and_then(|rest| rest.strip_suffix("Time"));
    number.is_some_and(|number| number.parse::<u8>().is_ok())
}

/// Bytes in RLP.
fn string(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [byte] if *byte < 0x80 => vec![*byte],
        _ => [&*length(0x80, bytes.len()), bytes].concat(),
    }
}

/// A number in RLP.
fn integer(number: U256) -> Vec<u8> {
    string(&number.to_be_bytes_trimmed_vec())
}

/// A list in RLP, of items that are.
fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let content = items.concat();
    [length(0xc0, content.len()), content].concat()
}

fn length(base: u8, length: usize) -> Vec<u8> {
    if length <= 55 {
        return vec![base + length as u8];
    }
    let digits = U256::from(length).to_be_bytes_trimmed_vec();
    [vec![base + 55 + digits.len() as u8], digits].concat()
}

#[cfg(test)]
mod tests {
    use metisdb_conformance::header::{Genesis, empty_root};

    use super::*;

    fn header(fields: &str) -> Header {
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(fields).unwrap();
        let mut header = Header::default();
        for (name, value) in fields {
            Header::setter(&name.to_ascii_lowercase()).unwrap()(&mut header, &value).unwrap();
        }
        header
    }

    const FIELDS: &str = r#""number": "0x3", "timestamp": "9", "extraData": "0x00112233", "gasLimit": "0x0", "gasUsed": "0x80",
        "difficulty": "0x7f", "mixHash": "0x1111111111111111111111111111111111111111111111111111111111111111",
        "coinbase": "0x2222222222222222222222222222222222222222", "nonce": "0x0102",
        "parentHash": "0x3333333333333333333333333333333333333333333333333333333333333333""#;

    /// The conformance tests make headers with code that shares nothing with this.
    #[test]
    fn headers_of_all_forks() {
        let root = B256::repeat_byte(5);
        let mut expected = Genesis {
            parent_hash: B256::repeat_byte(0x33),
            beneficiary: Address::repeat_byte(0x22),
            state_root: root,
            difficulty: U256::from(0x7f),
            number: 3,
            gas_limit: GAS_LIMIT,
            gas_used: 0x80,
            timestamp: 9,
            extra_data: Bytes::from_static(&[0, 0x11, 0x22, 0x33]),
            mix_hash: B256::repeat_byte(0x11),
            nonce: 0x102,
            base_fee: None,
            withdrawals_root: None,
            blob_gas: None,
            requests: false,
        };
        let same = |more: &str, config: &str, expected: &Genesis| {
            let header = header(&format!("{{{FIELDS}{more}, \"config\": {{{config}}}}}"));
            let block = header.block(root).unwrap();
            assert_eq!(block.hash, expected.hash(), "{config}");
            assert_eq!((block.number, block.parent_hash, block.timestamp), (3, expected.parent_hash, 9));
        };
        same("", r#""chainId": 1, "londonBlock": 4, "shanghaiTime": null"#, &expected);
        expected.base_fee = Some(BASE_FEE);
        same("", r#""londonBlock": 3, "shanghaiTime": 10"#, &expected);
        // Such a fork was taken for one that never begins, and the hash was of another header.
        same("", r#""londonBlock": "0x3", "shanghaiTime": "10""#, &expected);
        expected.base_fee = Some(U256::from(7));
        let fee = r#", "baseFeePerGas": "0x7""#;
        same(fee, r#""londonBlock": 0"#, &expected);
        expected.withdrawals_root = Some(empty_root());
        same(fee, r#""londonBlock": 0, "shanghaiTime": 9, "cancunTime": 10"#, &expected);
        expected.blob_gas = Some((0, 0));
        same(fee, r#""londonBlock": 0, "shanghaiTime": 0, "cancunTime": 0"#, &expected);
        expected.blob_gas = Some((0x20000, 1));
        let blobs = r#", "baseFeePerGas": "0x7", "blobGasUsed": "0x20000", "excessBlobGas": "0x1""#;
        same(blobs, r#""londonBlock": 0, "shanghaiTime": 0, "cancunTime": 0"#, &expected);
        expected.requests = true;
        let prague =
            r#""londonBlock": 0, "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 9, "osakaTime": 9, "bpo1Time": 9"#;
        same(blobs, prague, &expected);
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let block = |config: &str| {
            header(&format!("{{{FIELDS}, \"config\": {{{config}}}}}")).block(B256::ZERO).map(|block| block.number)
        };
        assert_eq!(block(r#""amsterdamTime": 10"#), Ok(3));
        assert!(block(r#""amsterdamTime": 9"#).unwrap_err().contains("amsterdamTime"));
        assert_eq!(block(r#""amsterdamTime": "0xa""#), Ok(3));
        for start in ["\"0x9\"", "\"9\"", "true", "-1", "0.5", "\"\"", "\"soon\""] {
            block(&format!("\"amsterdamTime\": {start}")).unwrap_err();
        }
        for start in ["true", "-1", "0.5", "\"\"", "\"soon\"", "{}"] {
            assert!(block(&format!("\"londonBlock\": {start}")).unwrap_err().contains("londonBlock"));
        }
        assert!(block(r#""optimism": {}"#).unwrap_err().contains("optimism"));
        assert!(block(r#""londonBlock": 0, "cancunTime": 0"#).unwrap_err().contains("order"));
        assert!(header("{}").block(B256::ZERO).unwrap_err().contains("difficulty"));
    }
}
