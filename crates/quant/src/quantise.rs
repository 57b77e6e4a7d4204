//! Quantising while a model is loaded.

use rayon::prelude::*;

use crate::{CodebookMatrix, QuantError, Rounding, RowScaledMatrix};

/// The values of NF4: sixteen quantiles of a normal distribution, scaled to −1 … 1, with zero among
/// them (QLoRA, arXiv 2305.14314, appendix E).
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// How many values share a scale in NF4.
const BLOCK: usize = 64;

/// W in NF4, with a scale in f32 for each 64 values of the flattened matrix: its largest absolute
/// value, so that every code is the nearest of the table.
///
/// - values: `[rows, cols]`, row-major
///
/// # Errors
/// If there are more or fewer values than the shape has.
pub fn nf4(values: &[f32], shape: [usize; 2]) -> Result<CodebookMatrix, QuantError> {
    QuantError::check_size("the values", shape[0].checked_mul(shape[1]), values.len())?;
    // Between two values of the table, the nearer one wins.
    let borders: [f32; 15] = std::array::from_fn(|index| (NF4[index] + NF4[index + 1]) / 2.0);
    let code = |value: f32| borders.iter().filter(|&&border| value > border).count() as u8;
    let mut codes = vec![0; values.len().div_ceil(2)];
    let scales = values
        .par_chunks(BLOCK)
        .zip(codes.par_chunks_mut(BLOCK / 2))
        .map(|(values, codes)| {
            let largest = largest(values);
            let inverse = if largest > 0.0 { 1.0 / largest } else { 0.0 };
            for (pair, byte) in values.chunks(2).zip(codes) {
                let second = pair.get(1).map_or(0, |&value| code(value * inverse));
                *byte = code(pair[0] * inverse) << 4 | second;
            }
            largest
        })
        .collect();
    let codes = codes.into();
    CodebookMatrix::new("NF4", shape, codes, NF4, BLOCK, scales, Rounding::None)
}

/// W in eight bits with a sign, with a scale for each row (LLM.int8, arXiv 2208.07339, without its
/// outliers).
///
/// - values: `[rows, cols]`, row-major
///
/// # Errors
/// If there are more or fewer values than the shape has.
pub fn int8(values: &[f32], shape: [usize; 2]) -> Result<RowScaledMatrix, QuantError> {
    let [rows, cols] = shape;
    QuantError::check_size("the values", rows.checked_mul(cols), values.len())?;
    let mut codes = vec![0u8; values.len()];
    let width = cols.max(1);
    let scales = values
        .par_chunks(width)
        .zip(codes.par_chunks_mut(width))
        .map(|(values, codes)| {
            let largest = largest(values);
            let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            for (value, code) in values.iter().zip(codes) {
                *code = ((value * scale).round_ties_even() as i8).cast_unsigned();
            }
            largest
        })
        .collect::<Vec<f32>>();
    let scales = if cols == 0 { vec![0.0; rows] } else { scales };
    RowScaledMatrix::new(shape, codes.into(), scales)
}

/// How many bytes [`nf4`] makes of a matrix.
pub fn nf4_size([rows, cols]: [usize; 2]) -> usize {
    let count = rows * cols;
    count.div_ceil(2) + count.div_ceil(BLOCK) * size_of::<f32>()
}

/// How many bytes [`int8`] makes of a matrix.
pub fn int8_size([rows, cols]: [usize; 2]) -> usize {
    rows * cols + rows * size_of::<f32>()
}

fn largest(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0, |largest, value| value.abs().max(largest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EncodedMatrix;

    fn waves(count: usize) -> Vec<f32> {
        (0..count)
            .map(|index| (index as f32 * 1.37).sin() * 0.3)
            .collect()
    }

    #[test]
    fn a_value_is_at_most_half_a_step_from_its_code() {
        let (shape, values) = ([7, 45], waves(7 * 45));
        let four: EncodedMatrix = nf4(&values, shape).unwrap().into();
        let eight: EncodedMatrix = int8(&values, shape).unwrap().into();
        // The widest gap of the table is between its first two values.
        for (found, half_a_step) in [(four, 0.152), (eight, 0.5 / 127.0)] {
            for (found, value) in found.to_f32().iter().zip(&values) {
                assert!(
                    (found - value).abs() <= half_a_step * 0.3 + 1e-6,
                    "{found} {value}"
                );
            }
        }
    }

    #[test]
    fn what_is_in_the_table_already_stays_as_it_is() {
        let values: Vec<f32> = NF4
            .iter()
            .cycle()
            .take(128)
            .map(|value| value * 0.5)
            .collect();
        let matrix: EncodedMatrix = nf4(&values, [2, 64]).unwrap().into();
        assert_eq!(matrix.to_f32(), values);
        let again = nf4(&matrix.to_f32(), [2, 64]).unwrap();
        assert_eq!(EncodedMatrix::from(again).to_f32(), values);
    }

    #[test]
    fn a_matrix_is_as_large_as_was_said_before() {
        for shape in [[3, 50], [4, 64], [1, 65]] {
            let values = vec![0.5; shape[0] * shape[1]];
            assert_eq!(nf4(&values, shape).unwrap().size(), nf4_size(shape));
            assert_eq!(int8(&values, shape).unwrap().size(), int8_size(shape));
        }
    }

    #[test]
    fn rows_of_zeros_are_zeros() {
        for matrix in [
            EncodedMatrix::from(nf4(&[0.0; 128], [2, 64]).unwrap()),
            int8(&[0.0; 128], [2, 64]).unwrap().into(),
        ] {
            assert_eq!(matrix.to_f32(), [0.0; 128]);
        }
    }
}
