//! What a trie holds at single paths.

use alloc::{vec, vec::Vec};
use core::slice;

use alloy_primitives::{B256, Bytes};

use crate::{
    error::ProofError,
    walk::{Found, Leaf, Wanted, walk},
};

/// Proves what the trie of the given root holds at `path`: the value of the leaf there, or `None` where there is no leaf.
///
/// `nodes` are the RLP nodes from the root to the last one on the path, each once and without those that stand inside their
/// parent; no nodes for the empty trie ([`EMPTY_ROOT`](crate::EMPTY_ROOT)).
///
/// # Errors
///
/// Whatever the nodes are, they prove nothing unless they are the honest proof of that root and path.
pub fn verify_path<'a>(root: B256, path: &B256, nodes: &'a [Bytes]) -> Result<Option<&'a [u8]>, ProofError> {
    Ok(find(root, slice::from_ref(path), nodes)?[0].map(|leaf| leaf.value))
}

/// Proves what the trie of the given root holds at each of some paths, which ascend: the values of the leaves there, in the order
/// of the paths, `None` where there is no leaf.
///
/// `nodes` are the RLP nodes on those paths in the order of [`MultiProof::nodes`](crate::MultiProof::nodes).
///
/// # Errors
///
/// [`ProofError::KeyOrder`] where a path does not come behind the one before it. Else whatever is not the honest proof of that
/// root and these paths.
pub fn verify_paths<'a>(root: B256, paths: &[B256], nodes: &'a [Bytes]) -> Result<Vec<Option<&'a [u8]>>, ProofError> {
    Ok(find(root, paths, nodes)?.into_iter().map(|leaf| leaf.map(|leaf| leaf.value)).collect())
}

/// The same, with the nodes in which the leaves were found.
pub(crate) fn find<'a>(root: B256, paths: &[B256], nodes: &'a [Bytes]) -> Result<Vec<Option<Leaf<'a>>>, ProofError> {
    check_order(paths)?;
    let found = walk(root, nodes, |prefix| {
        let next = paths.partition_point(|path| *path < prefix.first_path());
        let is_wanted = paths.get(next).is_some_and(|path| *path <= prefix.last_path());
        if is_wanted { Wanted::Part } else { Wanted::Nothing }
    })?;
    let mut leaves = vec![None; paths.len()];
    for found in found {
        if let Found::Leaf(path, leaf) = found
            && let Ok(index) = paths.binary_search(&path)
        {
            leaves[index] = Some(leaf);
        }
    }
    Ok(leaves)
}

/// Paths ascend, and none is there twice.
pub(crate) fn check_order(paths: &[B256]) -> Result<(), ProofError> {
    match paths.windows(2).position(|pair| pair[0] >= pair[1]) {
        Some(before) => Err(ProofError::KeyOrder { index: before + 1 }),
        None => Ok(()),
    }
}
