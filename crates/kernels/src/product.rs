//! Products of large matrices, by the crate `gemm` on all threads.

use burn::backend::flex::FlexTensor;

use crate::row_product::{Sizes, Target};

/// A matrix by its strides, which may be a transposed one or a part of a larger one.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// From how many multiplications on a product is worth more than one thread.
const PARALLEL: usize = 1024 * 1024;

impl<'a> Matrix<'a> {
    /// A tensor of two dimensions, as its strides say.
    ///
    /// # Panics
    /// If it has another number of dimensions, or runs backwards.
    pub fn of(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        let &[row_stride, col_stride] = layout.strides() else {
            panic!("{} dimensions of a matrix", layout.num_dims());
        };
        let stride =
            |stride: isize| usize::try_from(stride).expect("strides of a view, not flipped");
        let shape = layout.shape();
        let matrix = Self {
            values: &tensor.storage::<f32>()[layout.start_offset()..],
            rows: shape[0],
            cols: shape[1],
            row_stride: stride(row_stride),
            col_stride: stride(col_stride),
        };
        matrix.assert_within();
        matrix
    }

    /// Rows of `row_stride` numbers, of which the first `cols` count.
    ///
    /// # Panics
    /// If there are fewer numbers.
    pub fn rows(values: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        let matrix = Self {
            values,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        };
        matrix.assert_within();
        matrix
    }

    pub fn n_rows(&self) -> usize {
        self.rows
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    fn assert_within(&self) {
        if self.rows == 0 || self.cols == 0 {
            return;
        }
        let last = (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride;
        assert!(
            last < self.values.len(),
            "a matrix of more numbers than there are"
        );
    }
}

/// target (+)= left · right.
///
/// # Safety
/// The target has to be good for as many rows as `left` has of as many numbers as `right` has columns,
/// and nobody else may use them meanwhile.
///
/// # Panics
/// If the inner dimensions differ.
pub(crate) unsafe fn product(left: Matrix, right: Matrix, target: Target) {
    assert_eq!(left.cols, right.rows, "inner dimensions of a product");
    let sizes = Sizes {
        rows: left.rows,
        cols: right.cols,
        inner: left.cols,
    };
    let parallelism = match sizes.rows * sizes.cols * sizes.inner >= PARALLEL {
        true => gemm::Parallelism::Rayon(0),
        false => gemm::Parallelism::None,
    };
    // SAFETY: the extents of both sides were checked when they were made, the target is the caller's.
    unsafe {
        gemm::gemm(
            sizes.rows,
            sizes.cols,
            sizes.inner,
            target.values,
            1,
            target.row_stride as isize,
            target.accumulate,
            left.values.as_ptr(),
            left.col_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.col_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_sides_and_parts_of_rows_give_the_plain_product() {
        let number = |index: usize| ((index * 37 % 101) as f32 - 50.0) / 50.0;
        // The second runs on several threads.
        for (rows, cols, inner) in [(5, 7, 3), (130, 150, 70)] {
            let left: Vec<f32> = (0..rows * (inner + 4)).map(number).collect();
            let right: Vec<f32> = (0..cols * inner).map(|index| number(index + 11)).collect();
            let mut output = vec![0.25; rows * (cols + 2)];
            let target = Target {
                values: output.as_mut_ptr(),
                row_stride: cols + 2,
                accumulate: true,
            };
            let left_matrix = Matrix::rows(&left, rows, inner, inner + 4);
            let right_matrix = Matrix::rows(&right, cols, inner, inner).transposed();
            // SAFETY: the output has a row of cols + 2 numbers for each row.
            unsafe { product(left_matrix, right_matrix, target) };
            for row in 0..rows {
                for col in 0..cols {
                    let expected: f32 = 0.25
                        + (0..inner)
                            .map(|k| left[row * (inner + 4) + k] * right[col * inner + k])
                            .sum::<f32>();
                    let found = output[row * (cols + 2) + col];
                    // At most 70 products of size one, in another order.
                    assert!((found - expected).abs() < 2e-5, "{found} {expected}");
                }
                assert_eq!(output[row * (cols + 2) + cols..][..2], [0.25; 2]);
            }
        }
    }
}
