//! The product of a few rows with a weight in half precision, which takes as long as reading the
//! weight.

use std::mem::MaybeUninit;

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, bf16, f16};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::CHUNK;
use crate::buffer::{Unwritten, cleared, part_of_storage, values_of};
use crate::product::Start;
use crate::row_product::Target;
use crate::simd::{dot, vectorised};

/// The largest number of rows for which a product is computed this way; with more rows, rearranging
/// the weight for the caches is faster.
pub(crate) const FEW_ROWS: usize = 8;

/// Weights with at most this many values are read by one thread in less time than several take to
/// start.
const SERIAL: usize = 1024 * 1024;

/// target = x · Wᵀ + start, where every thread reads its own rows of W, once and as they are stored.
///
/// # Shapes
/// - input: `[rows, d_in]`, f32, contiguous, at most [`FEW_ROWS`]
/// - weight: `[d_out, d_in]`, bf16 or f16, contiguous
///
/// # Safety
/// The target must be valid for as many rows of d_out values, nothing else may access them
/// meanwhile, and it must not be one that is added to.
///
/// # Panics
/// If there are more rows, or their width is not d_in.
pub(crate) unsafe fn few_rows_product(
    input: &FlexTensor,
    weight: &FlexTensor,
    target: Target,
    start: Start,
) {
    let (rows, d_in) = (input.layout().shape()[0], input.layout().shape()[1]);
    assert!(rows <= FEW_ROWS, "{rows} rows are not few");
    assert_eq!(weight.layout().shape()[1], d_in, "width of a weight");
    let rows = FewRows {
        values: values_of(input),
        d_in,
        target,
        start,
    };
    // SAFETY: the caller's target has that many rows of as many values as W has rows.
    unsafe {
        match weight.dtype() {
            DType::BF16 => {
                let weight = part_of_storage(weight, weight.storage::<bf16>());
                rows.multiply(weight, widen_bf16);
            }
            _ => {
                let weight = part_of_storage(weight, weight.storage::<f16>());
                rows.multiply(weight, widen_f16);
            }
        }
    }
}

/// The left side of a product, where it goes and what it is added to.
struct FewRows<'a> {
    /// `[rows, d_in]`
    values: &'a [f32],
    d_in: usize,
    target: Target,
    start: Start<'a>,
}

impl FewRows<'_> {
    /// Each thread widens one row of the weight at a time, which stays in the first cache, and writes
    /// the values of a range of columns.
    ///
    /// - weight: `[d_out, d_in]`
    /// - widen: writes as many values as there are
    ///
    /// # Safety
    /// The target must be valid for all rows of d_out values.
    unsafe fn multiply<E: Sync>(
        &self,
        weight: &[E],
        widen: impl Fn(&[E], &mut [MaybeUninit<f32>]) + Sync,
    ) {
        let Self {
            d_in,
            target,
            start,
            ..
        } = *self;
        let d_out = weight.len() / d_in;
        let outputs = match weight.len() <= SERIAL {
            true => d_out,
            false => (4 * CHUNK / d_in).max(1),
        };
        let parts = weight.par_chunks(outputs * d_in).enumerate();
        parts.for_each(|(part, weight)| {
            let mut wide = Unwritten::new(d_in);
            for (offset, stored) in weight.chunks_exact(d_in).enumerate() {
                let output = part * outputs + offset;
                widen(stored, wide.places());
                let mut products = [0.0; FEW_ROWS];
                // SAFETY: a row of the weight has as many values as were widened.
                dot_products(self.values, unsafe { wide.first(d_in) }, &mut products);
                let rows = self.values.len() / d_in;
                for (row, product) in products[..rows].iter_mut().enumerate() {
                    let start = start.from(row, output, target.row_stride);
                    start.add_to(std::slice::from_mut(product));
                    // SAFETY: the caller's target has this value, and this thread alone writes it.
                    unsafe { target.start_of(row, output).write(*product) };
                }
            }
        });
    }
}

vectorised! {
    /// A row of the weight with each row of the input.
    fn dot_products(input: &[f32], weight: &[f32], products: &mut [f32]) {
        for (input, product) in input.chunks_exact(weight.len()).zip(products) {
            *product = dot(input, weight);
        }
    }
}

/// Writes as many values as there are.
///
/// # Panics
/// If `wide` has more or fewer.
pub(crate) fn widen_f16(stored: &[f16], wide: &mut [MaybeUninit<f32>]) {
    // The conversion takes values that are written already; these are still in the cache.
    stored.convert_to_f32_slice(cleared(wide));
}

vectorised! {
    /// Writes as many values as there are: bf16 is the upper half of f32.
    fn widen_bf16(stored: &[bf16], wide: &mut [MaybeUninit<f32>]) {
        assert_eq!(stored.len(), wide.len(), "values to widen");
        for (wide, stored) in wide.iter_mut().zip(stored) {
            wide.write(f32::from_bits(u32::from(stored.to_bits()) << 16));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waves::of_size_two as values;
    use crate::{FrozenWeight, Weight};
    use burn::tensor::{Device, FloatDType};

    #[test]
    fn a_few_rows_give_the_rows_of_the_whole_product() {
        let device = Device::flex();
        // More outputs than a chunk, and a width that no vector divides.
        let (d_in, d_out) = (131, 1100);
        let weight = values(d_out, d_in, 0.3, &device);
        for rows in [1, 3, FEW_ROWS] {
            let input = values(rows, d_in, 0.0, &device);
            for stored in [FloatDType::BF16, FloatDType::F16] {
                let stored = weight.clone().cast(stored);
                let wide = stored.clone().cast(FloatDType::F32);
                let found = Weight::Frozen(FrozenWeight::from(stored)).product(input.clone());
                let expected = input.clone().matmul(wide.transpose());
                // 131 products of size one, in another order.
                let difference = (found - expected).abs().max().into_scalar::<f32>();
                assert!(difference < 1e-3, "{difference}");
            }
        }
    }
}
