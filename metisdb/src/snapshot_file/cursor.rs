//! How far a snapshot file was gone through, and what may come next: kinds and keys in their order, each key once.

use alloy_primitives::{Address, B256};

use super::chunk::{Entry, Kind};
use crate::{hash::keccak256_many, log::Damage, trie::commitment::Commitment};

/// What was gone through of a snapshot file, for a report of progress and at the end for the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotTally {
    /// Chunks, the last one of a whole file included.
    pub chunks: u64,
    /// Of them, those that an earlier call had written or imported, and this one only verified.
    pub found_chunks: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Codes, each of which stands there once.
    pub codes: u64,
    /// Accounts.
    pub accounts: u64,
    /// Slots of all of them.
    pub slots: u64,
    /// Hash of the last account's address: hashes are spread evenly, so that this tells how much of the whole is done.
    pub reached: B256,
}

/// The last of what was gone through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) kind: Kind,
    /// Hash of the last code.
    pub(super) code: Option<B256>,
    /// The last account, with its path.
    pub(super) account: Option<(B256, Address)>,
    /// Path of its last slot.
    pub(super) slot: Option<B256>,
    pub(super) tally: SnapshotTally,
}

impl Cursor {
    /// In front of everything.
    pub(super) fn new() -> Self {
        Self { kind: Kind::Codes, code: None, account: None, slot: None, tally: SnapshotTally::default() }
    }

    /// Goes through a chunk, and returns the paths of its keys. After damage it stands somewhere in it.
    pub(super) fn pass(
        &mut self,
        kind: Kind,
        entries: &[Entry<'_>],
        scheme: &dyn Commitment,
    ) -> Result<Vec<B256>, Damage> {
        if kind < self.kind {
            return Err(Damage::new("no codes behind the state", "codes"));
        }
        self.kind = kind;
        let paths = paths(entries, scheme);
        for (index, (entry, path)) in entries.iter().zip(&paths).enumerate() {
            let is_in_place = match entry {
                Entry::Continued(_) => index == 0 && matches!(entries.get(1), Some(Entry::Slot(..))),
                Entry::Slot(..) => index > 0,
                Entry::Code(_) | Entry::Account(..) => true,
            };
            if !is_in_place {
                return Err(Damage::new("an account in front of its slots", "another order"));
            }
            self.step(entry, *path)?;
        }
        Ok(paths)
    }

    /// Goes behind a record; `path` is the hash by which it has its place.
    pub(super) fn step(&mut self, entry: &Entry<'_>, path: B256) -> Result<(), Damage> {
        match entry {
            Entry::Code(_) => {
                ascending("codes", self.code, path)?;
                self.code = Some(path);
                self.tally.codes += 1;
            }
            Entry::Account(address, _) => {
                ascending("accounts", self.account.map(|(last, _)| last), path)?;
                (self.account, self.slot) = (Some((path, *address)), None);
                self.tally.accounts += 1;
                self.tally.reached = path;
            }
            Entry::Continued(address) => {
                if self.account != Some((path, *address)) {
                    return Err(Damage::new("the last account before", address.to_string()));
                }
            }
            Entry::Slot(..) => {
                ascending("slots", self.slot, path)?;
                self.slot = Some(path);
                self.tally.slots += 1;
            }
        }
        Ok(())
    }
}

fn ascending(what: &str, last: Option<B256>, path: B256) -> Result<(), Damage> {
    match last {
        Some(last) if last >= path => {
            Err(Damage::new(format!("{what} in ascending order of their hashes"), format!("{path} behind {last}")))
        }
        _ => Ok(()),
    }
}

/// The path of each record's key; of a code its hash. Hashed in lanes.
fn paths(entries: &[Entry<'_>], scheme: &dyn Commitment) -> Vec<B256> {
    let number = |entry: &Entry<'_>| if let Entry::Slot(slot, _) = entry { slot.to_be_bytes() } else { [0; 32] };
    let numbers: Vec<[u8; 32]> = entries.iter().map(number).collect();
    let key = |(entry, number)| match entry {
        &Entry::Code(code) => code,
        Entry::Account(address, _) | Entry::Continued(address) => address.as_slice(),
        Entry::Slot(..) => number,
    };
    let keys: Vec<&[u8]> = entries.iter().zip(numbers.iter().map(<[u8; 32]>::as_slice)).map(key).collect();
    if !matches!(entries.first(), Some(Entry::Code(_))) {
        return scheme.paths(&keys);
    }
    let mut hashes = Vec::with_capacity(keys.len());
    keccak256_many(&keys, &mut hashes);
    hashes
}
