//! The product of a few rows with a weight in half precision, which takes as long as reading the
//! weight.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Shape, bf16, f16};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::CHUNK;
use crate::buffer::{values_of, written_in_parts};
use crate::simd::{dot, vectorised};

/// The largest number of rows for which a product is computed this way; with more rows, rearranging
/// the weight for the caches is faster.
pub(crate) const FEW_ROWS: usize = 8;

/// Weights with at most this many values are read by one thread in less time than several take to
/// start.
const SERIAL: usize = 1024 * 1024;

/// x · Wᵀ, where every thread reads its own rows of W, once and as they are stored.
///
/// # Shapes
/// - input: `[rows, d_in]`, f32, contiguous, a few rows
/// - weight: `[d_out, d_in]`, bf16 or f16, contiguous
/// - output: `[rows, d_out]`
pub(crate) fn few_rows_product(input: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
    let (rows, d_in) = (input.layout().shape()[0], input.layout().shape()[1]);
    let d_out = weight.layout().shape()[0];
    let input = values_of(input);
    let turned = match weight.dtype() {
        DType::BF16 => {
            let weight = part(weight, weight.storage::<bf16>());
            widened_products(input, weight, [rows, d_out, d_in], widen_bf16)
        }
        _ => {
            let weight = part(weight, weight.storage::<f16>());
            widened_products(input, weight, [rows, d_out, d_in], widen_f16)
        }
    };
    if rows == 1 {
        return turned.reshape(Shape::from([1, d_out]));
    }
    turned.transpose(0, 1).to_contiguous()
}

/// The values of a contiguous tensor, which may start inside its storage.
fn part<'a, E>(tensor: &FlexTensor, storage: &'a [E]) -> &'a [E] {
    let start = tensor.layout().start_offset();
    let count = tensor.layout().shape().num_elements();
    &storage[start..start + count]
}

/// W · xᵀ `[d_out, rows]`: a row for each output, so that threads write next to each other. Each widens
/// one row of the weight at a time, which stays in the first cache.
fn widened_products<E: Sync>(
    input: &[f32],
    weight: &[E],
    [rows, d_out, d_in]: [usize; 3],
    widen: impl Fn(&[E], &mut [f32]) + Sync,
) -> FlexTensor {
    let is_small = weight.len() <= SERIAL;
    let outputs = match is_small {
        true => d_out,
        false => (4 * CHUNK / d_in).max(1),
    };
    let parts = weight.par_chunks(outputs * d_in);
    written_in_parts([d_out, rows], outputs * rows, parts, |products, weight| {
        let mut row = vec![0.0; d_in];
        let outputs = weight
            .chunks_exact(d_in)
            .zip(products.chunks_exact_mut(rows));
        for (stored, products) in outputs {
            widen(stored, &mut row);
            dot_products(input, &row, d_in, products);
        }
    })
}

vectorised! {
    /// products `[outputs, rows]`: each row of the weight with each row of the input.
    fn dot_products(input: &[f32], weight: &[f32], d_in: usize, products: &mut [f32]) {
        let rows = input.len() / d_in;
        let outputs = weight.chunks_exact(d_in).zip(products.chunks_exact_mut(rows));
        for (weight, products) in outputs {
            for (input, product) in input.chunks_exact(d_in).zip(products) {
                *product = dot(input, weight);
            }
        }
    }
}

/// As many values as `wide` has.
pub(crate) fn widen_f16(stored: &[f16], wide: &mut [f32]) {
    stored.convert_to_f32_slice(wide);
}

vectorised! {
    /// bf16 is the upper half of f32.
    fn widen_bf16(stored: &[bf16], wide: &mut [f32]) {
        for (wide, stored) in wide.iter_mut().zip(stored) {
            *wide = f32::from_bits(u32::from(stored.to_bits()) << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrozenWeight, Weight};
    use burn::tensor::{Device, FloatDType, Tensor, TensorData};

    fn values(rows: usize, cols: usize, phase: f32, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * cols)
            .map(|i| (i as f32 * 0.91 + phase).sin() * 2.0)
            .collect();
        Tensor::from_data(TensorData::new(values, [rows, cols]), device)
    }

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
