//! The permutation `Keccak-f[1600]`, written once for vectors of any width.

/// What the rounds add to the first word, so that no two are alike (FIPS 202, 3.2.5).
pub(super) static ROUND_CONSTANTS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// All rounds on `$state`, an array of 25 vectors: word `x + 5 * y` of every lane.
///
/// A macro, since a generic function cannot carry the processor features of its caller. It uses
/// these functions of the place that calls it: `broadcast(u64)`, `xor(a, b)`,
/// `xor5(a, b, c, d, e)`, `rotate::<LEFT, 64 - LEFT>(a)` and `chi(a, b, c)`, which is
/// `a ^ (!b & c)`.
macro_rules! permute {
    ($state:expr) => {{
        let mut a = $state;
        for &constant in &$crate::hash::wide::round::ROUND_CONSTANTS {
            // Theta: every word takes the parities of two neighbouring columns.
            let column = permute!(@each 0, 1, 2, 3, 4; x => xor5(a[x], a[x + 5], a[x + 10], a[x + 15], a[x + 20]));
            let turned = permute!(@each 0, 1, 2, 3, 4; x => rotate::<1, 63>(column[x]));
            let parity = permute!(@each 0, 1, 2, 3, 4; x => xor(column[(x + 4) % 5], turned[(x + 1) % 5]));
            // Rho and pi: the word that lands in each place, and how far it is turned; then chi.
            let first = permute!(@row a, parity; 0 0, 6 44, 12 43, 18 21, 24 14);
            let second = permute!(@row a, parity; 3 28, 9 20, 10 3, 16 45, 22 61);
            let third = permute!(@row a, parity; 1 1, 7 6, 13 25, 19 8, 20 18);
            let fourth = permute!(@row a, parity; 4 27, 5 36, 11 10, 17 15, 23 56);
            let fifth = permute!(@row a, parity; 2 62, 8 55, 14 39, 15 41, 21 2);
            let [b0, b1, b2, b3, b4] = first;
            let [b5, b6, b7, b8, b9] = second;
            let [b10, b11, b12, b13, b14] = third;
            let [b15, b16, b17, b18, b19] = fourth;
            let [b20, b21, b22, b23, b24] = fifth;
            a = [
                b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15, b16, b17, b18, b19, b20, b21,
                b22, b23, b24,
            ];
            // Iota.
            a[0] = xor(a[0], broadcast(constant));
        }
        a
    }};
    (@each $($value:literal),*; $x:ident => $result:expr) => {
        [$({
            let $x: usize = $value;
            $result
        }),*]
    };
    (@row $a:ident, $parity:ident; $($from:literal $left:literal),*) => {{
        let row = [$(rotate::<$left, { 64 - $left }>(xor($a[$from], $parity[$from % 5]))),*];
        permute!(@each 0, 1, 2, 3, 4; x => chi(row[x], row[(x + 1) % 5], row[(x + 2) % 5]))
    }};
}

pub(super) use permute;
