//! Transactions as a busy chain has them: transfers, some to a few whom everybody pays, and swaps; some of which must fail.

use alloy_consensus::{Block, BlockBody, Header, SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, Signature, U256};

use super::{
    contracts::Call,
    holders::{Size, holder},
    model::{Model, Planned},
    random::Random,
};

/// Gas of a transaction of the workload, about.
pub const GAS: u64 = 55_000;
const CHAIN_ID: u64 = 1;
const GAS_LIMIT: u64 = 200_000;
const MAX_FEE: u128 = 100_000_000_000;
/// A transfer of about this: a thousand tokens.
const AMOUNT: u64 = 1_000;
const UNIT: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// Makes blocks of transactions.
#[derive(Debug)]
pub struct Workload {
    size: Size,
    random: Random,
}

/// A block that is to be executed, and what must come of it.
#[derive(Debug)]
pub struct Task {
    /// With a header as it was given, which is not sealed yet.
    pub block: Block<TxEnvelope>,
    /// Of the transactions.
    pub senders: Vec<Address>,
    /// Whether each transaction succeeds.
    pub outcomes: Vec<bool>,
}

impl Workload {
    /// Everything it makes depends on the seed alone.
    pub fn new(size: Size, seed: u64) -> Self {
        Self { size, random: Random::new(seed) }
    }

    /// A block with this header. The model is where the state was, and then where it must be.
    pub fn block(&mut self, header: Header, transactions: usize, model: &mut Model) -> Task {
        let mut body = BlockBody { withdrawals: Some(Default::default()), ..BlockBody::default() };
        let (mut senders, mut outcomes) = (Vec::new(), Vec::new());
        for _ in 0..transactions {
            let planned = self.plan(model);
            body.transactions.push(transaction(model.nonce(planned.sender), planned.call));
            senders.push(holder(planned.sender));
            outcomes.push(model.apply(&planned));
        }
        Task { block: Block { header, body }, senders, outcomes }
    }

    fn plan(&mut self, model: &Model) -> Planned {
        let random = &mut self.random;
        let sender = random.below(self.size.senders);
        let amount = UNIT * U256::from(1 + random.below(AMOUNT));
        let token = random.below(2) as usize;
        let fails = random.once_in(100);
        let recipient =
            if random.once_in(2) { random.popular(self.size.holders) } else { random.below(self.size.holders) };
        let call = if random.once_in(4) {
            let out = model.output(token, amount);
            // Whoever asks for more than there is gets nothing.
            Call::Swap { paid: token, amount, least: out + U256::from(fails) }
        } else {
            let amount = if fails { model.balance(token, sender) + U256::ONE } else { amount };
            Call::Transfer { token, to: holder(recipient), amount }
        };
        Planned { sender, recipient, call }
    }
}

/// A transaction without a sound signature: the executor is told who sent it, as a node is that has recovered the sender before.
fn transaction(nonce: u64, call: Call) -> TxEnvelope {
    let transaction = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: GAS_LIMIT,
        max_fee_per_gas: MAX_FEE,
        max_priority_fee_per_gas: 1,
        to: call.to().into(),
        input: call.input(),
        ..TxEip1559::default()
    };
    transaction.into_signed(Signature::test_signature()).into()
}
