//! MetisDB as the state of revm.
//!
//! [`StateReader`] gives a snapshot or a proposal to any number of executors at once: it takes no lock. [`Overlay`] collects what
//! transactions change and makes it a proposal or a commit. A [`metisdb::Recorder`] below them notes what a witness needs; on what a
//! witness has, [`Stateless`], the same is executed without a database. `changes_of_changeset` takes what revm's own `State` collected.
//!
//! ```
//! # #[cfg(feature = "revm-43")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use alloy_primitives::{Address, U256};
//! use metisdb::{Account, Changes, Durability, Options};
//! use metisdb_revm::revm_43::StateReader;
//! use revm_43_interface::DatabaseRef;
//!
//! # let folder = tempfile::tempdir()?;
//! let db = Options::new().create(folder.path().join("state"))?;
//! let address = Address::repeat_byte(7);
//! let mut changes = Changes::new();
//! changes.set_account(address, Account { balance: U256::from(5), ..Account::default() });
//! let proposal = db.propose(&db.snapshot()?, &changes)?;
//!
//! let state = StateReader::new(proposal); // or a snapshot
//! assert_eq!(state.basic_ref(address)?.unwrap().balance, U256::from(5));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "revm-43"))]
//! # fn main() {}
//! ```
//!
//! # Lines of revm
//! revm makes a new major version about every month, and each has types of its own. Every supported line is a feature of this
//! crate and a module with the same content: `revm-31`, `revm-38`, `revm-40`, and `revm-43`, which is on by default, and whose
//! content stands in the crate's root as well. They may be combined. `revm-43-bundle` (or another line's) adds `changes_of_changeset`.

#[cfg(not(any(feature = "revm-31", feature = "revm-38", feature = "revm-40", feature = "revm-43")))]
compile_error!("choose a line of revm by a feature: revm-43, revm-40, revm-38 or revm-31");

#[macro_use]
mod reader;
#[macro_use]
mod overlay;
#[cfg(any(
    feature = "revm-31-bundle",
    feature = "revm-38-bundle",
    feature = "revm-40-bundle",
    feature = "revm-43-bundle"
))]
#[macro_use]
mod bundle;

mod base;
mod codes;
mod error;
mod stage;
mod stateless;
#[cfg(test)]
mod tests;

pub use self::{base::Base, codes::CodeCache, error::ReadError, stage::EmptyAccounts, stateless::Stateless};

/// A module for one line of revm.
macro_rules! line {
    (
        $line:ident, $documentation:literal, $feature:literal, $interface:ident, ($($state:ident)::+), $bundle:literal, $database:ident
    ) => {
        #[cfg(feature = $feature)]
        #[doc = $documentation]
        pub mod $line {
            use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
            use metisdb::{Block, Changes, Commit, Db, Durability, Proposal};
            use ::$interface::{DBErrorMarker, Database, DatabaseCommit, DatabaseRef};
            use ::$($state)::+::{Account, AccountInfo, Bytecode, EvmState};

            use crate::{
                Base, CodeCache, EmptyAccounts, ReadError,
                codes::CodeView,
                stage::{Marks, Stage},
            };

            reader!();
            overlay!();

            #[cfg(feature = $bundle)]
            pub use self::changeset::changes_of_changeset;

            #[cfg(feature = $bundle)]
            mod changeset {
                use alloy_primitives::map::AddressSet;
                use metisdb::Changes;
                use ::$database::states::StateChangeset;

                use super::AccountInfo;

                bundle!();
            }
        }
    };
}

line!(
    revm_31,
    "revm 31, by feature `revm-31`.",
    "revm-31",
    revm_31_interface,
    (revm_31_state),
    "revm-31-bundle",
    revm_31_database
);
line!(
    revm_38,
    "revm 38, by feature `revm-38`.",
    "revm-38",
    revm_38_interface,
    (revm_38_interface::state),
    "revm-38-bundle",
    revm_38_database
);
line!(
    revm_40,
    "revm 40, by feature `revm-40`.",
    "revm-40",
    revm_40_interface,
    (revm_40_interface::state),
    "revm-40-bundle",
    revm_40_database
);
line!(
    revm_43,
    "revm 43, by feature `revm-43`, which is on by default.",
    "revm-43",
    revm_43_interface,
    (revm_43_interface::state),
    "revm-43-bundle",
    revm_43_database
);

#[cfg(feature = "revm-43")]
pub use self::revm_43::*;
