//! A witness in RLP, as geth writes it: `[headers, codes, state, keys]`, or without keys.

use alloc::vec::Vec;

use alloy_primitives::Bytes;

use super::Witness;
use crate::{
    encode,
    partial::WitnessError,
    rlp::{Item, Reader, RlpError},
};

impl Witness {
    /// Writes the RLP form of geth, always with keys, be they none. Headers stand there as the lists that they are.
    ///
    /// ```
    /// use metisdb_proof::Witness;
    ///
    /// let witness = Witness { codes: vec![vec![0x60, 0x00].into()], ..Witness::default() };
    /// assert_eq!(witness.to_rlp(), [0xc7, 0xc0, 0xc3, 0x82, 0x60, 0x00, 0xc0, 0xc0]);
    /// assert_eq!(Witness::from_rlp(&witness.to_rlp()), Ok(witness));
    /// ```
    pub fn to_rlp(&self) -> Vec<u8> {
        let Self { state, codes, keys, headers } = self;
        let mut parts = Vec::new();
        let headers: Vec<u8> = headers.iter().flatten().copied().collect();
        encode::list(&headers, &mut parts);
        for part in [codes, state, keys] {
            let mut items = Vec::new();
            part.iter().for_each(|bytes| encode::string(bytes, &mut items));
            encode::list(&items, &mut parts);
        }
        let mut form = Vec::with_capacity(parts.len() + 9);
        encode::list(&parts, &mut form);
        form
    }

    /// Reads the RLP form of geth; some versions leave the list of keys out, which is read as none. What the bytes mean is not looked at here, see [`PartialState`](crate::PartialState). All parts share
    /// one copy of the bytes: besides, 32 bytes are allocated for each part, be it a single byte long.
    ///
    /// # Errors
    /// [`WitnessError::Form`] where the bytes are not canonical RLP of that form.
    pub fn from_rlp(bytes: &[u8]) -> Result<Self, WitnessError> {
        let whole = Bytes::copy_from_slice(bytes);
        let mut parts = Item::only(&whole)?.list()?;
        let headers = items(&whole, parts.item()?.list()?, |item| item.list().map(|_| item.encoded))?;
        let codes = items(&whole, parts.item()?.list()?, Item::string)?;
        let state = items(&whole, parts.item()?.list()?, Item::string)?;
        let keys = match parts.is_finished() {
            true => Vec::new(),
            false => items(&whole, parts.item()?.list()?, Item::string)?,
        };
        parts.finish()?;
        Ok(Self { state, codes, keys, headers })
    }
}

/// The items of a list in `whole`, which they share. They are counted first, so that nothing more is reserved than they need.
fn items<'a>(
    whole: &'a Bytes,
    list: Reader<'a>,
    bytes: impl Fn(Item<'a>) -> Result<&'a [u8], RlpError>,
) -> Result<Vec<Bytes>, RlpError> {
    let (mut rest, mut count) = (list, 0);
    while !rest.is_finished() {
        rest.item()?;
        count += 1;
    }
    let (mut rest, mut items) = (list, Vec::with_capacity(count));
    while !rest.is_finished() {
        items.push(whole.slice_ref(bytes(rest.item()?)?));
    }
    Ok(items)
}
