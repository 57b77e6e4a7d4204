//! Eight bits with a scale for each row (LLM.int8, arXiv 2208.07339), as bitsandbytes saves them.

use std::sync::Arc;

use bytes::Bytes;

use crate::QuantError;

/// A matrix `[rows, cols]` with value = code · largest of its row / 127.
#[derive(Clone, Debug)]
pub struct RowScaledMatrix {
    shape: [usize; 2],
    /// Signed, row-major.
    codes: Bytes,
    /// The largest absolute value of each row.
    largest: Arc<[f32]>,
}

impl RowScaledMatrix {
    /// - codes: signed bytes, row-major
    /// - largest: the largest absolute value of each row
    ///
    /// # Errors
    /// If there are more or fewer of either.
    pub fn new(shape: [usize; 2], codes: Bytes, largest: Vec<f32>) -> Result<Self, QuantError> {
        let [rows, cols] = shape;
        QuantError::check_size("the codes", rows.checked_mul(cols), codes.len())?;
        QuantError::check_size("the scales of rows", Some(rows), largest.len())?;
        Ok(Self {
            shape,
            codes,
            largest: largest.into(),
        })
    }

    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub fn size(&self) -> usize {
        self.codes.len() + size_of_val(&*self.largest)
    }

    /// The signed codes, row-major, and the largest absolute value of each row.
    pub fn parts(&self) -> (&[u8], &[f32]) {
        (&self.codes, &self.largest)
    }

    #[inline(always)]
    pub(crate) fn decode(&self, row: usize, first: usize, values: &mut [f32]) {
        let largest = self.largest[row];
        let codes = &self.codes[row * self.shape[1] + first..][..values.len()];
        for (value, &code) in values.iter_mut().zip(codes) {
            *value = f32::from(code.cast_signed()) * largest / 127.0;
        }
    }
}
