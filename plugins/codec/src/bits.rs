//! Whole numbers of any width, at any bit.

use schemars::JsonSchema;
use serde::Deserialize;

/// Which end of a number comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Endian {
    /// The highest byte and bit, as in most protocols, and Motorola's in CAN.
    #[default]
    Big,
    /// The lowest byte and bit, as in most processors, and Intel's in CAN.
    Little,
}

/// A place in bits from the start. The bits of a byte count from its highest where the highest end comes
/// first, and else from its lowest, so that a number lies in one piece either way.
pub(crate) fn place(byte: usize, bit: Option<u8>, endian: Endian) -> usize {
    let bit = bit.map(usize::from);
    byte * 8
        + match endian {
            Endian::Big => 7 - bit.unwrap_or(7),
            Endian::Little => bit.unwrap_or(0),
        }
}

/// The number of so many bits, 64 at most, that lies at a place. The bytes must reach so far.
pub(crate) fn read(bytes: &[u8], at: usize, width: usize, endian: Endian) -> u64 {
    (at..at + width).enumerate().fold(0, |number, (index, at)| {
        let byte = u64::from(bytes[at / 8]);
        match endian {
            Endian::Big => number << 1 | byte >> (7 - at % 8) & 1,
            Endian::Little => number | (byte >> (at % 8) & 1) << index,
        }
    })
}

/// Puts a number there. Bytes are added as far as it reaches.
pub(crate) fn write(bytes: &mut Vec<u8>, at: usize, width: usize, endian: Endian, number: u64) {
    grow(bytes, at + width);
    for (index, at) in (at..at + width).enumerate() {
        let (bit, place) = match endian {
            Endian::Big => (number >> (width - 1 - index) & 1, 7 - at % 8),
            Endian::Little => (number >> index & 1, at % 8),
        };
        let bit = u8::try_from(bit).unwrap_or(0);
        bytes[at / 8] = bytes[at / 8] & !(1 << place) | bit << place;
    }
}

/// Adds bytes of zeros until there are so many bits.
pub(crate) fn grow(bytes: &mut Vec<u8>, bits: usize) {
    let length = bits.div_ceil(8).max(bytes.len());
    bytes.resize(length, 0);
}

/// A number of so many bits, with its sign.
pub(crate) fn signed(number: u64, width: usize) -> i64 {
    let unused = 64 - width;
    (number << unused).cast_signed() >> unused
}

/// As many ones.
pub(crate) fn mask(width: usize) -> u64 {
    u64::MAX >> (64 - width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_changes() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let (at, width) = (random.usize(0..40), random.usize(1..=64));
            let endian = if random.bool() { Endian::Big } else { Endian::Little };
            let number = random.u64(..) & mask(width);
            let mut ones = vec![0xff; 16];
            let mut zeros = vec![0; 16];
            write(&mut ones, at, width, endian, number);
            write(&mut zeros, at, width, endian, number);
            assert_eq!(read(&ones, at, width, endian), number);
            assert_eq!(read(&zeros, at, width, endian), number);
            let changed: u32 = ones.iter().map(|byte| byte.count_zeros()).sum();
            let set: u32 = zeros.iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(changed + set, u32::try_from(width).unwrap());
        }
    }

    /// Signals of a DBC file: start bit, length, order, and what its tools make of `01 23 45 67 89 ab cd ef`.
    #[test]
    fn places_are_those_of_dbc_files() {
        let bytes = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        for (start, width, endian, expected) in [
            (0, 16, Endian::Little, 0x2301),
            (12, 12, Endian::Little, 0x452),
            (7, 16, Endian::Big, 0x0123),
            (3, 12, Endian::Big, 0x123),
            (23, 8, Endian::Big, 0x45),
            (56, 8, Endian::Little, 0xef),
        ] {
            let at = place(start / 8, Some((start % 8).try_into().unwrap()), endian);
            assert_eq!(read(&bytes, at, width, endian), expected, "{start} {width} {endian:?}");
        }
        assert_eq!(signed(0xfff, 12), -1);
        assert_eq!(signed(0x7ff, 12), 0x7ff);
        assert_eq!(signed(u64::MAX, 64), -1);
    }
}
