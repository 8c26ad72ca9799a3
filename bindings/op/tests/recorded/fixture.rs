//! One of the recorded blocks.

use std::{collections::BTreeSet, path::Path};

use alloy_consensus::{Header, Sealable, Sealed};
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::encode;
use metisdb::proof::Witness;
use metisdb_conformance::data;
use metisdb_op::Rollup;
use op_alloy_rpc_types_engine::OpPayloadAttributes;
use serde::Deserialize;

use crate::{archive, sorted_table, write_ahead_log};

/// A block, and what its replay needs.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) rollup: Rollup,
    pub(crate) parent: Sealed<Header>,
    pub(crate) attributes: OpPayloadAttributes,
    pub(crate) block_hash: B256,
    /// The nodes and codes that were asked for.
    pub(crate) values: BTreeSet<Bytes>,
}

#[derive(Deserialize)]
struct File {
    rollup_config: Rollup,
    parent_header: Header,
    executing_payload: OpPayloadAttributes,
    expected_block_hash: B256,
}

impl Fixture {
    /// All that `kona-executor` has, in the order of their numbers.
    pub(crate) fn all() -> Vec<Self> {
        let package = data::package_of(Path::new(env!("CARGO_MANIFEST_DIR")), "kona-executor");
        // Their names say that they are compressed; they are not.
        data::files(&package.join("testdata"), "gz").iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let archive = data::read(path);
        let name = path.file_name().expect("the name of a file").to_string_lossy().into_owned();
        let (mut file, mut entries) = (None, Vec::new());
        for (name, content) in archive::files(&archive) {
            match name.rsplit_once('/').map(|(_, name)| name) {
                // What macOS says of a file.
                Some(name) if name.starts_with("._") => {}
                Some("fixture.json") => file = Some(content),
                Some(name) if name.ends_with(".log") => entries.extend(write_ahead_log::entries(content)),
                Some(name) if name.ends_with(".sst") => entries.extend(sorted_table::entries(content)),
                _ => {}
            }
        }
        let file: File = serde_json::from_slice(file.expect("a file fixture.json"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let values = entries.into_iter().map(|(key, value)| {
            assert_eq!(key[..], keccak256(&value)[..], "{name}: the key of a value is its hash");
            value
        });
        Self {
            rollup: file.rollup_config,
            parent: file.parent_header.seal_slow(),
            attributes: file.executing_payload,
            block_hash: file.expected_block_hash,
            values: values.collect(),
            name,
        }
    }

    /// Values as a witness. The parent's header was not asked for, and is added.
    pub(crate) fn witness(&self, values: &BTreeSet<Bytes>) -> Witness {
        Witness { headers: vec![encode(self.parent.inner()).into()], ..Witness::of_preimages(values.iter().cloned()) }
    }
}
