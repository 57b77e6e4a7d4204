//! What can happen to the bytes of a parquet file: to its description at the end, and to its pages.

use proptest::prelude::*;
use proptest::sample::Index;

/// A change of a parquet file.
#[derive(Clone, Debug)]
pub enum ParquetMutation {
    Byte(Index, u8),
    /// A bit of the description, which is thrift.
    Description(Index, u8),
    /// A byte of the description becomes part of a large number.
    LargeNumber(Index),
    /// A byte among the first of a page's header, or of its data.
    Page(Index, u8),
    Truncate(Index),
    /// Some bytes once more, elsewhere.
    Copy(Index, Index, u8),
}

impl Arbitrary for ParquetMutation {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let index = any::<Index>;
        prop_oneof![
            2 => (index(), any::<u8>()).prop_map(|(at, byte)| Self::Byte(at, byte)),
            4 => (index(), 0..8_u8).prop_map(|(at, bit)| Self::Description(at, bit)),
            2 => index().prop_map(Self::LargeNumber),
            4 => (index(), any::<u8>()).prop_map(|(at, byte)| Self::Page(at, byte)),
            1 => index().prop_map(Self::Truncate),
            1 => (index(), index(), 1..32_u8).prop_map(|(from, to, count)| Self::Copy(from, to, count)),
        ]
        .boxed()
    }
}

/// Where the description of the columns begins.
fn description(file: &[u8]) -> usize {
    let end = file.len().saturating_sub(8);
    let length = file
        .get(end..end + 4)
        .and_then(|bytes| bytes.try_into().ok());
    let length = length.map_or(0, u32::from_le_bytes) as usize;
    end.saturating_sub(length)
}

pub fn changed(original: &[u8], mutations: &[ParquetMutation]) -> Vec<u8> {
    let mut file = original.to_vec();
    for mutation in mutations {
        if file.len() < 16 {
            break;
        }
        let (length, start) = (file.len(), description(&file));
        let end = (length - 8).max(start + 1).min(length);
        match mutation {
            ParquetMutation::Byte(at, byte) => file[at.index(length)] = *byte,
            ParquetMutation::Description(at, bit) => {
                file[start + at.index(end - start)] ^= 1 << bit;
            }
            ParquetMutation::LargeNumber(at) => {
                let at = start + at.index(end - start);
                for byte in &mut file[at..(at + 4).min(length - 8).max(at)] {
                    *byte |= 0x80;
                }
            }
            ParquetMutation::Page(at, byte) => file[at.index(start.max(1))] = *byte,
            ParquetMutation::Truncate(at) => file.truncate(at.index(length)),
            ParquetMutation::Copy(from, to, count) => {
                let count = usize::from(*count).min(length);
                let from = from.index(length - count + 1);
                let to = to.index(length - count + 1);
                file.copy_within(from..from + count, to);
            }
        }
    }
    file
}
