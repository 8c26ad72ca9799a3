//! The transactions of blocks: deposits, which L1 orders and nobody signs.

use std::collections::BTreeSet;

use alloy_eips::{
    Encodable2718,
    eip2935::{HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE},
};
use alloy_primitives::{Address, Bytes, TxKind, U256, address, hex};
use metisdb_op::MESSAGE_PASSER;
use op_alloy_consensus::TxDeposit;

use crate::random::Random;

const L1_ATTRIBUTES_DEPOSITOR: Address = address!("deaddeaddeaddeaddeaddeaddeaddeaddead0001");
const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
/// Creates the contract of EIP-2935.
const HISTORY_DEPLOYER: Address = address!("3462413af4609098e1e27a490f554f260213d685");
/// Sets slots to values, by pairs of words; called without any, destroys itself.
const WRITER: &[u8] = &hex!("3615601f5760005b80361115601d5780602001358135556040016007565b005b33ff");
/// Stores the hash of the block before the parent's parent under the block's number.
const HASH_KEEPER: &[u8] = &hex!("6003430340435500");
/// Slots of a writer, so few that their tries grow and shrink all the time.
const SLOTS: u64 = 64;

/// A writer, and which of its slots are set.
#[derive(Debug)]
struct Writer {
    address: Address,
    set: BTreeSet<U256>,
}

/// What users ask for, block after block.
#[derive(Debug)]
pub(crate) struct Deposits {
    random: Random,
    users: Vec<Address>,
    writers: Vec<Writer>,
    hash_keeper: Option<Address>,
    list: Vec<Bytes>,
}

impl Deposits {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let users = (0..12).map(|_| random.address()).collect();
        Self { random, users, writers: Vec::new(), hash_keeper: None, list: Vec::new() }
    }

    /// Those of the next block. The last one fails, for want of gas; all others succeed.
    pub(crate) fn next(&mut self, number: u64, timestamp: u64, is_ecotone: bool) -> Vec<Bytes> {
        self.report_l1(number, timestamp, is_ecotone);
        match self.hash_keeper {
            None => {
                self.hash_keeper = Some(self.create(HASH_KEEPER));
                if is_ecotone {
                    assert_eq!(HISTORY_DEPLOYER.create(0), HISTORY_STORAGE_ADDRESS);
                    self.push(HISTORY_DEPLOYER, TxKind::Create, 0, creation(&HISTORY_STORAGE_CODE));
                }
            }
            Some(keeper) => self.call(keeper, Bytes::new()),
        }
        for _ in 0..3 {
            self.pay();
        }
        if number.is_multiple_of(2) {
            self.destroy(is_ecotone);
        }
        for _ in 0..2 {
            let address = self.create(WRITER);
            self.writers.push(Writer { address, set: BTreeSet::new() });
        }
        for _ in 0..10 {
            self.write();
        }
        let (from, to) = (self.user(), self.writers[0].address);
        let input = pairs(&[(U256::from(SLOTS), U256::ONE)]);
        self.push_limited(from, TxKind::Call(to), 0, input, 30_000);
        std::mem::take(&mut self.list)
    }

    /// What L1 is like, which is the first transaction of every block.
    fn report_l1(&mut self, number: u64, timestamp: u64, is_ecotone: bool) {
        let word = |value: u64| U256::from(value).to_be_bytes::<32>();
        let (base_fee, batcher) = (7_000_000_000 + number, word(0xba7c));
        let hash = self.random.hash();
        let mut input = Vec::new();
        if is_ecotone {
            // setL1BlockValuesEcotone: scalars, sequence number, time and number packed; then words.
            input.extend(hex!("440a5e20 00000558 000c5fc5"));
            [number % 3, timestamp, number].iter().for_each(|value| input.extend(value.to_be_bytes()));
            [word(base_fee), word(1), hash.0, batcher].iter().for_each(|word| input.extend(word));
        } else {
            // setL1BlockValues: all words, the last two of them overhead and scalar.
            input.extend(hex!("015d8eb9"));
            let words = [word(number), word(timestamp), word(base_fee), hash.0, word(number % 3), batcher];
            words.iter().for_each(|word| input.extend(word));
            [word(188), word(684_000)].iter().for_each(|word| input.extend(word));
        }
        self.push(L1_ATTRIBUTES_DEPOSITOR, TxKind::Call(L1_BLOCK), 0, input.into());
    }

    /// Money from L1: to a user, to an account that does not exist yet, or back to L1, which is a withdrawal.
    fn pay(&mut self) {
        let to = match self.random.below(3) {
            0 => self.user(),
            1 => self.random.address(),
            _ => MESSAGE_PASSER,
        };
        let (from, amount) = (self.user(), 1 + self.random.below(1 << 40));
        self.push(from, TxKind::Call(to), amount.into(), Bytes::new());
    }

    /// Creates a contract by an account that has done nothing before.
    fn create(&mut self, code: &[u8]) -> Address {
        let from = self.random.address();
        self.push(from, TxKind::Create, 0, creation(code));
        from.create(0)
    }

    /// Sets, changes and clears slots, sometimes nearly all of them.
    fn write(&mut self) {
        let chosen = self.random.below(self.writers.len() as u64) as usize;
        let (clears_of_8, sets) = [(0, 20), (4, 8), (4, 8), (7, 3), (8, 0)][self.random.below(5) as usize];
        let mut changes = Vec::new();
        for slot in self.writers[chosen].set.clone() {
            if self.random.below(8) < clears_of_8 {
                changes.push((slot, U256::ZERO));
            }
        }
        for _ in 0..sets {
            let slot = U256::from(self.random.below(SLOTS));
            changes.push((slot, self.random.hash().into()));
        }
        let writer = &mut self.writers[chosen];
        for (slot, value) in &changes {
            if value.is_zero() {
                writer.set.remove(slot)
            } else {
                writer.set.insert(*slot)
            };
        }
        let address = writer.address;
        if !changes.is_empty() {
            self.call(address, pairs(&changes));
        }
    }

    /// Destroys a writer; since Ecotone that takes its money and nothing else.
    fn destroy(&mut self, is_ecotone: bool) {
        let chosen = self.random.below(self.writers.len() as u64) as usize;
        let address = self.writers[chosen].address;
        if !is_ecotone {
            self.writers.remove(chosen);
        }
        self.call(address, Bytes::new());
    }

    fn user(&mut self) -> Address {
        let chosen = self.random.below(self.users.len() as u64) as usize;
        self.users[chosen]
    }

    fn call(&mut self, to: Address, input: Bytes) {
        let from = self.user();
        self.push(from, TxKind::Call(to), 0, input);
    }

    fn push(&mut self, from: Address, to: TxKind, value: u128, input: Bytes) {
        self.push_limited(from, to, value, input, 1_200_000);
    }

    /// What is sent comes from L1, and a little more.
    fn push_limited(&mut self, from: Address, to: TxKind, value: u128, input: Bytes, gas_limit: u64) {
        let deposit = TxDeposit {
            source_hash: self.random.hash(),
            from,
            to,
            mint: if value == 0 { 0 } else { value + 1 },
            value: U256::from(value),
            gas_limit,
            is_system_transaction: false,
            input,
        };
        self.list.push(deposit.encoded_2718().into());
    }
}

/// What a writer is called with.
fn pairs(changes: &[(U256, U256)]) -> Bytes {
    changes.iter().flat_map(|(slot, value)| [slot.to_be_bytes::<32>(), value.to_be_bytes()].concat()).collect()
}

/// What creates a contract of this code: copies it behind itself, and returns it.
fn creation(code: &[u8]) -> Bytes {
    let length = u8::try_from(code.len()).expect("code shorter than 256 bytes");
    let mut creation = vec![0x60, length, 0x60, 0x0c, 0x60, 0, 0x39, 0x60, length, 0x60, 0, 0xf3];
    creation.extend(code);
    creation.into()
}
