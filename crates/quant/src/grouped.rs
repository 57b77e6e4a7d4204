//! Four bits with a scale and an offset for each group of columns: what GPTQ (arXiv 2210.17323), AWQ
//! (arXiv 2306.00978) and MLX save, in one order.

use std::sync::Arc;

use bytes::Bytes;

use crate::QuantError;

/// A matrix `[rows, cols]` with value = code · scale + offset of its row's group.
#[derive(Clone, Debug)]
pub struct GroupedMatrix {
    shape: [usize; 2],
    name: &'static str,
    /// Row-major, two a byte, the first in the low half.
    codes: Bytes,
    group: usize,
    /// `[rows, groups]`
    scales: Arc<[f32]>,
    offsets: Arc<[f32]>,
    /// The group of each column, where they are not one after the other (GPTQ's act-order).
    group_of: Option<Arc<[u32]>>,
}

impl GroupedMatrix {
    /// - codes: row-major, two a byte, the first in the low half; an even number of columns
    /// - group: how many columns share a scale
    /// - scales, offsets: `[rows, groups]`
    /// - group_of: the group of each column, if they are not one after the other
    ///
    /// # Errors
    /// If there are more or fewer of any, or a group that has no scales.
    pub fn new(
        name: &'static str,
        shape: [usize; 2],
        codes: Bytes,
        group: usize,
        [scales, offsets]: [Vec<f32>; 2],
        group_of: Option<Vec<u32>>,
    ) -> Result<Self, QuantError> {
        let [rows, cols] = shape;
        if group == 0 || !group.is_multiple_of(2) || !cols.is_multiple_of(2) {
            return Err(QuantError::BlockLength { found: group });
        }
        let groups = cols.div_ceil(group);
        QuantError::check_size("the codes", rows.checked_mul(cols / 2), codes.len())?;
        QuantError::check_size("the scales", rows.checked_mul(groups), scales.len())?;
        QuantError::check_size("the offsets", rows.checked_mul(groups), offsets.len())?;
        if let Some(group_of) = &group_of {
            QuantError::check_size("the groups of columns", Some(cols), group_of.len())?;
            if let Some(&found) = group_of.iter().find(|&&group| group as usize >= groups) {
                return Err(QuantError::Group { found, groups });
            }
        }
        Ok(Self {
            shape,
            name,
            codes,
            group,
            scales: scales.into(),
            offsets: offsets.into(),
            group_of: group_of.map(Into::into),
        })
    }

    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn group(&self) -> usize {
        self.group
    }

    /// Row-major, two a byte, the first in the low half.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// `[rows, groups]` each.
    pub fn scales_and_offsets(&self) -> (&[f32], &[f32]) {
        (&self.scales, &self.offsets)
    }

    /// The group of each column, where they are not one after the other.
    pub fn group_of(&self) -> Option<&[u32]> {
        self.group_of.as_deref()
    }

    pub fn size(&self) -> usize {
        let groups = self.group_of.as_deref().map_or(0, size_of_val);
        self.codes.len() + 2 * size_of_val(&*self.scales) + groups
    }

    #[inline(always)]
    pub(crate) fn decode(&self, row: usize, first: usize, values: &mut [f32]) {
        let [_, cols] = self.shape;
        let groups = cols.div_ceil(self.group);
        let scales = &self.scales[row * groups..][..groups];
        let offsets = &self.offsets[row * groups..][..groups];
        let codes = &self.codes[row * cols / 2..][..cols / 2];
        let code = |col: usize| f32::from(codes[col / 2] >> (col % 2 * 4) & 15);
        if let Some(group_of) = &self.group_of {
            for (offset, value) in values.iter_mut().enumerate() {
                let col = first + offset;
                let group = group_of[col] as usize;
                *value = code(col) * scales[group] + offsets[group];
            }
            return;
        }
        let (mut col, mut rest) = (first, values);
        while !rest.is_empty() {
            let group = col / self.group;
            let count = rest.len().min(self.group - col % self.group);
            let (values, others) = rest.split_at_mut(count);
            let (scale, offset) = (scales[group], offsets[group]);
            let is_split = col % 2 == 1;
            let (start, values) = values.split_at_mut(usize::from(is_split));
            if let [start] = start {
                *start = code(col) * scale + offset;
            }
            let (pairs, tail) = values.as_chunks_mut::<2>();
            let bytes = &codes[col.div_ceil(2)..];
            for (pair, byte) in pairs.iter_mut().zip(bytes) {
                *pair = [byte & 15, byte >> 4].map(|code| f32::from(code) * scale + offset);
            }
            if let [tail] = tail {
                *tail = code(col + count - 1) * scale + offset;
            }
            col += count;
            rest = others;
        }
    }
}
