//! The product of a few rows with an encoded weight, which takes as long as reading the weight.

use std::ops::Range;

use eigenmix_quant::EncodedMatrix;
use rayon::prelude::*;

use crate::CHUNK;
use crate::fused_dot::FusedInput;
use crate::product::Start;
use crate::row_product::Target;
use crate::simd::dot;
use crate::vector::for_vectors;

/// The largest number of rows for which a product is computed this way; with more rows, rearranging
/// the weight for the caches is faster.
pub(crate) const FEW_ROWS: usize = 8;

/// Weights with at most this many values are read by one thread in less time than several take to
/// start.
const SERIAL: usize = 256 * 1024;

/// How many values of a row of the weight are decoded at a time: a part of the first-level cache.
const DECODED: usize = 2048;

/// target = x · Wᵀ + start, where every thread decodes its own rows of W, once.
///
/// # Shapes
/// - input: `[rows, d_in]`, at most [`FEW_ROWS`]
/// - weight: `[d_out, d_in]`
///
/// # Safety
/// The target must be valid for as many rows of d_out values, nothing else may access them
/// meanwhile, and it must not be one that is added to.
///
/// # Panics
/// If there are more rows, or their width is not d_in.
pub(crate) unsafe fn few_rows_product(
    input: &[f32],
    weight: &EncodedMatrix,
    target: Target,
    start: Start,
) {
    let [d_out, d_in] = weight.shape();
    let rows = input.len() / d_in;
    assert!(rows <= FEW_ROWS, "{rows} rows are not few");
    assert_eq!(input.len(), rows * d_in, "width of an input");
    let fused = match rows {
        1 => FusedInput::new(input, weight),
        _ => None,
    };
    let multiply = |outputs: Range<usize>| {
        let mut products = vec![0.0; outputs.len() * rows];
        match &fused {
            Some(input) => fused_products(input, weight, outputs.clone(), &mut products),
            None => dot_products(input, weight, outputs.clone(), &mut products),
        }
        for (output, products) in outputs.zip(products.chunks_exact_mut(rows)) {
            for (row, product) in products.iter_mut().enumerate() {
                let start = start.from(row, output, target.row_stride);
                start.add_to(std::slice::from_mut(product));
                // SAFETY: the caller's target has this value, and this thread alone writes it.
                unsafe { target.start_of(row, output).write(*product) };
            }
        }
    };
    if d_out * d_in <= SERIAL {
        return multiply(0..d_out);
    }
    let outputs = (4 * CHUNK / d_in).max(1);
    (0..d_out.div_ceil(outputs))
        .into_par_iter()
        .for_each(|part| {
            multiply(part * outputs..d_out.min((part + 1) * outputs));
        });
}

for_vectors! {
    /// Some rows of the weight with one row of the input.
    ///
    /// - products: `[outputs]`
    fn fused_products<V>(
        input: &FusedInput<'_>,
        weight: &EncodedMatrix,
        outputs: Range<usize>,
        products: &mut [f32],
    ) {
        for (output, product) in outputs.zip(products) {
            // SAFETY: this is compiled for the unit of V, which is present.
            *product = unsafe { input.dot::<V>(weight, output) };
        }
    }
}

for_vectors! {
    /// Some rows of the weight with each row of the input.
    ///
    /// - products: `[outputs, rows]`
    fn dot_products<V>(
        input: &[f32],
        weight: &EncodedMatrix,
        outputs: Range<usize>,
        products: &mut [f32],
    ) {
        let [_, d_in] = weight.shape();
        let mut decoded = [0.0; DECODED];
        let rows = input.len() / d_in;
        for (output, products) in outputs.zip(products.chunks_exact_mut(rows)) {
            for first in (0..d_in).step_by(DECODED) {
                let decoded = &mut decoded[..DECODED.min(d_in - first)];
                // SAFETY: this is compiled for the unit of V, which is present.
                unsafe { weight.decode::<V::Lookup>(output, first, decoded) };
                for (input, product) in input.chunks_exact(d_in).zip(products.iter_mut()) {
                    *product += dot(&input[first..first + decoded.len()], decoded);
                }
            }
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
        let (d_in, d_out) = (131, 2200);
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
