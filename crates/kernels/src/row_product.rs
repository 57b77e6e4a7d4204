//! Small matrix products whose right side lies in contiguous rows: what attention is made of.

use std::ops::Range;

/// A view of a matrix by strides: entry (row, col) is `values[row * row_stride + col * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub values: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

/// How many rows of the output a block keeps in registers.
const BLOCK_ROWS: usize = 4;
/// How many columns: two AVX-512 registers.
const BLOCK_COLS: usize = 32;

/// output `[rows, cols]` (+)= left `[rows, inner]` · right `[inner, cols]`.
///
/// - right: row k starts at `k * right_stride` and is contiguous
/// - output: row i starts at `i * output_stride` and is contiguous
/// - accumulate: whether the product is added to the output or replaces it
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn row_product(
    rows: usize,
    cols: usize,
    inner: usize,
    left: View,
    right: &[f32],
    right_stride: usize,
    output: &mut [f32],
    output_stride: usize,
    accumulate: bool,
) {
    let product = Product {
        left,
        right,
        right_stride,
        inner,
        output_stride,
        accumulate,
    };
    let whole_rows = rows / BLOCK_ROWS * BLOCK_ROWS;
    for row in (0..whole_rows).step_by(BLOCK_ROWS) {
        product.stripe::<BLOCK_ROWS>(row, cols, output);
    }
    for row in whole_rows..rows {
        product.stripe::<1>(row, cols, output);
    }
}

struct Product<'a> {
    left: View<'a>,
    right: &'a [f32],
    right_stride: usize,
    inner: usize,
    output_stride: usize,
    accumulate: bool,
}

impl Product<'_> {
    #[inline(always)]
    fn stripe<const ROWS: usize>(&self, row: usize, cols: usize, output: &mut [f32]) {
        let whole_cols = cols / BLOCK_COLS * BLOCK_COLS;
        for col in (0..whole_cols).step_by(BLOCK_COLS) {
            self.block::<ROWS, BLOCK_COLS>(row, col, output);
        }
        let mut col = whole_cols;
        while col + 8 <= cols {
            self.block::<ROWS, 8>(row, col, output);
            col += 8;
        }
        self.edge::<ROWS>(row, col..cols, output);
    }

    #[inline(always)]
    fn block<const ROWS: usize, const COLS: usize>(
        &self,
        row: usize,
        col: usize,
        output: &mut [f32],
    ) {
        let mut sums = [[0.0f32; COLS]; ROWS];
        for k in 0..self.inner {
            let right = &self.right[k * self.right_stride + col..][..COLS];
            for (offset, sums) in sums.iter_mut().enumerate() {
                let left = self.left_entry(row + offset, k);
                for (sum, &right) in sums.iter_mut().zip(right) {
                    *sum = left.mul_add(right, *sum);
                }
            }
        }
        for (offset, sums) in sums.iter().enumerate() {
            let output = &mut output[(row + offset) * self.output_stride + col..][..COLS];
            for (output, &sum) in output.iter_mut().zip(sums) {
                *output = if self.accumulate { *output + sum } else { sum };
            }
        }
    }

    #[inline(always)]
    fn edge<const ROWS: usize>(&self, row: usize, cols: Range<usize>, output: &mut [f32]) {
        for col in cols {
            for row in row..row + ROWS {
                let mut sum = 0.0f32;
                for k in 0..self.inner {
                    sum += self.left_entry(row, k) * self.right[k * self.right_stride + col];
                }
                let output = &mut output[row * self.output_stride + col];
                *output = if self.accumulate { *output + sum } else { sum };
            }
        }
    }

    #[inline(always)]
    fn left_entry(&self, row: usize, col: usize) -> f32 {
        self.left.values[row * self.left.row_stride + col * self.left.col_stride]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_shape_and_stride_gives_the_plain_product() {
        let number = |index: usize| ((index * 37 % 101) as f32 - 50.0) / 50.0;
        for (rows, cols, inner) in [(1, 1, 1), (4, 32, 5), (7, 45, 9), (5, 8, 33), (13, 71, 2)] {
            for transposed in [false, true] {
                let left: Vec<f32> = (0..rows * inner).map(number).collect();
                let (row_stride, col_stride) = if transposed { (1, rows) } else { (inner, 1) };
                let left = View {
                    values: &left,
                    row_stride,
                    col_stride,
                };
                let right: Vec<f32> = (0..inner * (cols + 3)).map(number).collect();
                let mut output = vec![0.5; rows * (cols + 2)];
                row_product(
                    rows,
                    cols,
                    inner,
                    left,
                    &right,
                    cols + 3,
                    &mut output,
                    cols + 2,
                    true,
                );
                for row in 0..rows {
                    for col in 0..cols {
                        let expected: f32 = 0.5
                            + (0..inner)
                                .map(|k| {
                                    left.values[row * row_stride + k * col_stride]
                                        * right[k * (cols + 3) + col]
                                })
                                .sum::<f32>();
                        let found = output[row * (cols + 2) + col];
                        assert!(
                            (found - expected).abs() < 1e-5,
                            "{found} against {expected}"
                        );
                    }
                }
            }
        }
    }
}
