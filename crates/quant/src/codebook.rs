//! bitsandbytes' four bits: a code for each value of the flattened matrix, a table of sixteen values,
//! a scale for each block (QLoRA, arXiv 2305.14314).

use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};

use crate::{Lookup, QuantError};

/// What a decoded value is rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    #[default]
    None,
    F16,
    Bf16,
}

/// A matrix `[rows, cols]` with value = `table[code]` · scale of its block, where codes and blocks run
/// over the flattened matrix.
#[derive(Clone, Debug)]
pub struct CodebookMatrix {
    shape: [usize; 2],
    name: &'static str,
    /// Two a byte, the first in the high half.
    codes: Bytes,
    table: [f32; 16],
    block: usize,
    scales: Arc<[f32]>,
    rounding: Rounding,
}

impl CodebookMatrix {
    /// - name: what people call the table, such as `NF4`
    /// - codes: of all values, row-major, two a byte, the first in the high half
    /// - block: how many values share a scale: 32 or a multiple
    /// - scales: of each block, the last of which may be shorter
    ///
    /// # Errors
    /// If there are more or fewer codes or scales, or the block has another length.
    pub fn new(
        name: &'static str,
        shape: [usize; 2],
        codes: Bytes,
        table: [f32; 16],
        block: usize,
        scales: Vec<f32>,
        rounding: Rounding,
    ) -> Result<Self, QuantError> {
        if block == 0 || !block.is_multiple_of(32) {
            return Err(QuantError::BlockLength { found: block });
        }
        let [rows, cols] = shape;
        let count = rows.checked_mul(cols);
        let of_each = |length: usize| count.map(|count| count.div_ceil(length));
        QuantError::check_size("the codes", of_each(2), codes.len())?;
        QuantError::check_size("the scales", of_each(block), scales.len())?;
        Ok(Self {
            shape,
            name,
            codes,
            table,
            block,
            scales: scales.into(),
            rounding,
        })
    }

    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn block(&self) -> usize {
        self.block
    }

    pub fn size(&self) -> usize {
        self.codes.len() + size_of_val(&*self.scales)
    }

    /// The codes, the table and the scales, of blocks of [`CodebookMatrix::block`] values.
    pub fn parts(&self) -> (&[u8], &[f32; 16], &[f32]) {
        (&self.codes, &self.table, &self.scales)
    }

    /// [`CodebookMatrix::parts`], of a matrix whose values are not rounded.
    pub fn unrounded_parts(&self) -> Option<(&[u8], &[f32; 16], &[f32])> {
        (self.rounding == Rounding::None).then(|| self.parts())
    }

    pub fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// Decodes values of the flattened matrix, from `first` on.
    ///
    /// # Safety
    /// The unit of the lookup must be present.
    #[inline(always)]
    pub(crate) unsafe fn decode<L: Lookup>(&self, first: usize, values: &mut [f32]) {
        let (mut place, mut rest) = (first, values);
        while !rest.is_empty() {
            let scale = self.scales[place / self.block];
            // A table whose values are rounded is scaled before it is looked up.
            let (table, scale) = match self.rounding {
                Rounding::None => (self.table, scale),
                _ => (self.rounded_table(scale), 1.0),
            };
            let left_of_block = self.block - place % self.block;
            let count = rest.len().min(left_of_block);
            let (values, others) = rest.split_at_mut(count);
            let single = |place: usize| {
                let byte = self.codes[place / 2];
                table[usize::from(if place.is_multiple_of(2) {
                    byte >> 4
                } else {
                    byte & 15
                })] * scale
            };
            // From an even place on, two values are a byte.
            let (start, values) = values.split_at_mut(place % 2);
            if let [start] = start {
                *start = single(place);
            }
            let codes = &self.codes[(place + start.len()) / 2..];
            let (codes, _) = codes.as_chunks::<16>();
            let (groups, tail) = values.as_chunks_mut::<32>();
            let end = place + count - tail.len();
            for (group, codes) in groups.iter_mut().zip(codes) {
                // SAFETY: the caller's.
                unsafe { L::pairs(&table, scale, codes, group) };
            }
            for (offset, value) in tail.iter_mut().enumerate() {
                *value = single(end + offset);
            }
            place += count;
            rest = others;
        }
    }

    /// The sixteen values of a block, rounded.
    #[inline(always)]
    fn rounded_table(&self, scale: f32) -> [f32; 16] {
        let table = self.table.map(|value| value * scale);
        match self.rounding {
            Rounding::None => table,
            Rounding::F16 => table.map(|value| f16::from_f32(value).to_f32()),
            Rounding::Bf16 => table.map(|value| bf16::from_f32(value).to_f32()),
        }
    }
}
