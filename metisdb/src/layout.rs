//! Fixed-size little-endian structures, declared once as a table of fields.
//!
//! [`layout!`] turns a table of fields and offsets into a struct with `encode` and `decode`. The
//! tables stand in `spec/format.md` too, and a test compares the two.

/// A field of fixed size.
pub(crate) trait Field: Sized {
    /// Size in bytes.
    const BYTES: usize;
    /// Writes the field to the front of `bytes`.
    fn put(&self, bytes: &mut [u8]);
    /// Reads the field from the front of `bytes`.
    fn take(bytes: &[u8]) -> Self;
}

macro_rules! integer_field {
    ($($integer:ty),*) => { $(
        impl Field for $integer {
            const BYTES: usize = size_of::<$integer>();
            fn put(&self, bytes: &mut [u8]) {
                bytes[..Self::BYTES].copy_from_slice(&self.to_le_bytes());
            }
            fn take(bytes: &[u8]) -> Self {
                let mut own = [0; Self::BYTES];
                own.copy_from_slice(&bytes[..Self::BYTES]);
                Self::from_le_bytes(own)
            }
        }
    )* };
}
integer_field!(u8, u16, u32, u64);

impl<const N: usize> Field for [u8; N] {
    const BYTES: usize = N;
    fn put(&self, bytes: &mut [u8]) {
        bytes[..N].copy_from_slice(self);
    }
    fn take(bytes: &[u8]) -> Self {
        let mut own = [0; N];
        own.copy_from_slice(&bytes[..N]);
        own
    }
}

/// Declares a structure: `name, bytes { field: type = offset, .. }`. Offsets must be gapless, which is
/// checked when compiling.
macro_rules! layout {
    ($(#[$meta:meta])* $name:ident, $bytes:literal { $($field:ident : $type:ty = $offset:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }

        impl $name {
            /// Size of the encoded structure.
            pub(crate) const BYTES: usize = $bytes;
            /// Name, offset and size of each field, as in `spec/format.md`.
            #[cfg(test)]
            pub(crate) const FIELDS: &[(&str, usize, usize)] =
                &[$((stringify!($field), $offset, <$type as $crate::layout::Field>::BYTES)),*];

            /// The bytes of the structure.
            pub(crate) fn encode(&self) -> [u8; $bytes] {
                let mut bytes = [0; $bytes];
                $($crate::layout::Field::put(&self.$field, &mut bytes[$offset..]);)*
                bytes
            }

            /// Reads the structure; any bytes give some value, the caller judges it.
            pub(crate) fn decode(bytes: &[u8; $bytes]) -> Self {
                Self { $($field: $crate::layout::Field::take(&bytes[$offset..])),* }
            }
        }

        const _: () = {
            let mut end = 0;
            $(
                assert!($offset == end, "fields must be gapless");
                end += <$type as $crate::layout::Field>::BYTES;
            )*
            assert!(end == $bytes, "fields must fill the structure");
        };
    };
}
pub(crate) use layout;
