//! Small matrix products whose right side has contiguous rows, for attention and low-rank updates.

use crate::vector::Vector;

/// A view of a matrix by strides: entry (row, col) is `values[row * row_stride + col * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub values: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

/// Where a product goes: row i starts at `values + i * row_stride` and is contiguous.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub values: *mut f32,
    pub row_stride: usize,
    /// Whether the product is added to what is there, or replaces it.
    pub accumulate: bool,
}

// SAFETY: the threads that write through a target write disjoint rows.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// Where the value at (row, col) goes.
    pub fn start_of(&self, row: usize, col: usize) -> *mut f32 {
        self.values.wrapping_add(row * self.row_stride + col)
    }
}

/// The sizes of a product: `[rows, inner]` · `[inner, cols]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub rows: usize,
    pub cols: usize,
    pub inner: usize,
}

/// How many rows of the output stay in registers: with two vectors per row sixteen running sums,
/// which hide the latency of a multiplication and leave registers for the right side.
const TALL: usize = 8;
/// What is left after these is at most three rows.
const SHORT: usize = 4;

/// target (+)= left · right.
///
/// - right: row k starts at `k * right_stride` and is contiguous
///
/// # Safety
/// The target must be valid for `rows` rows of `cols` values, nothing else may access them
/// meanwhile, and the unit of `V` must be present.
///
/// # Panics
/// If a view is too short.
#[inline(always)]
pub(crate) unsafe fn row_product<V: Vector>(
    sizes: Sizes,
    left: View,
    right: &[f32],
    right_stride: usize,
    target: Target,
) {
    let Sizes { rows, cols, inner } = sizes;
    if rows == 0 || cols == 0 {
        return;
    }
    if inner > 0 {
        let last = (rows - 1) * left.row_stride + (inner - 1) * left.col_stride;
        assert!(last < left.values.len(), "left side of {sizes:?}");
        let last = (inner - 1) * right_stride + cols;
        assert!(last <= right.len(), "right side of {sizes:?}");
    }
    let product = Product {
        left,
        right: right.as_ptr(),
        right_stride,
        inner,
        target,
    };
    let mut col = 0;
    // SAFETY: the extents of both sides were just checked, the target's are the caller's.
    unsafe {
        while col + 2 * V::LANES <= cols {
            product.column::<V, 2>(rows, col, V::LANES);
            col += 2 * V::LANES;
        }
        while col < cols {
            let lanes = V::LANES.min(cols - col);
            product.column::<V, 1>(rows, col, lanes);
            col += lanes;
        }
    }
}

struct Product<'a> {
    left: View<'a>,
    right: *const f32,
    right_stride: usize,
    inner: usize,
    target: Target,
}

impl Product<'_> {
    /// `VECTORS` vectors of columns from `col` on, the last of `lanes` lanes.
    #[inline(always)]
    unsafe fn column<V: Vector, const VECTORS: usize>(
        &self,
        rows: usize,
        col: usize,
        lanes: usize,
    ) {
        let mut row = 0;
        // SAFETY: the caller's.
        unsafe {
            while row + TALL <= rows {
                self.block::<V, TALL, VECTORS>(row, col, lanes);
                row += TALL;
            }
            while row + SHORT <= rows {
                self.block::<V, SHORT, VECTORS>(row, col, lanes);
                row += SHORT;
            }
            match rows - row {
                0 => {}
                1 => self.block::<V, 1, VECTORS>(row, col, lanes),
                2 => self.block::<V, 2, VECTORS>(row, col, lanes),
                _ => self.block::<V, 3, VECTORS>(row, col, lanes),
            }
        }
    }

    #[inline(always)]
    unsafe fn block<V: Vector, const ROWS: usize, const VECTORS: usize>(
        &self,
        row: usize,
        col: usize,
        lanes: usize,
    ) {
        let whole = lanes == V::LANES;
        let (row_stride, col_stride) = (self.left.row_stride, self.left.col_stride);
        // SAFETY: the caller's: all rows, columns and inner indices are within their matrices.
        unsafe {
            let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
            let mut left = self.left.values.as_ptr().wrapping_add(row * row_stride);
            let mut right = self.right.wrapping_add(col);
            for _ in 0..self.inner {
                let mut factors = [V::splat(0.0); VECTORS];
                for (vector, factor) in factors.iter_mut().enumerate() {
                    *factor = match whole {
                        true => V::load(right.add(vector * V::LANES)),
                        false => V::load_part(right, lanes),
                    };
                }
                for (offset, sums) in sums.iter_mut().enumerate() {
                    let entry = V::splat(*left.add(offset * row_stride));
                    for (sum, &factor) in sums.iter_mut().zip(&factors) {
                        *sum = entry.mul_add(factor, *sum);
                    }
                }
                left = left.wrapping_add(col_stride);
                right = right.wrapping_add(self.right_stride);
            }
            for (offset, sums) in sums.iter().enumerate() {
                let start = (row + offset) * self.target.row_stride + col;
                for (vector, &sum) in sums.iter().enumerate() {
                    let to = self.target.values.add(start + vector * V::LANES);
                    match (whole, self.target.accumulate) {
                        (true, true) => V::load(to).add(sum).store(to),
                        (true, false) => sum.store(to),
                        (false, true) => {
                            V::load_part(to, lanes).add(sum).store_part(to, lanes);
                        }
                        (false, false) => sum.store_part(to, lanes),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::for_vectors;

    for_vectors! {
        fn product<V>(
            sizes: Sizes,
            left: View<'_>,
            right: &[f32],
            right_stride: usize,
            output: &mut [f32],
            row_stride: usize,
        ) {
            assert!(output.len() >= (sizes.rows - 1) * row_stride + sizes.cols);
            let target = Target { values: output.as_mut_ptr(), row_stride, accumulate: true };
            // SAFETY: the output was just measured and is borrowed.
            unsafe { row_product::<V>(sizes, left, right, right_stride, target) }
        }
    }

    #[test]
    fn every_block_shape_and_stride_gives_the_plain_product() {
        let number = |index: usize| ((index * 37 % 101) as f32 - 50.0) / 50.0;
        for (rows, cols, inner) in [
            (1, 1, 1),
            (4, 32, 5),
            (7, 45, 9),
            (8, 16, 33),
            (13, 71, 2),
            (21, 8, 12),
        ] {
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
                let sizes = Sizes { rows, cols, inner };
                product(sizes, left, &right, cols + 3, &mut output, cols + 2);
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
                    let behind = &output[row * (cols + 2) + cols..][..2];
                    assert_eq!(behind, [0.5; 2], "nothing is written behind a row");
                }
            }
        }
    }
}
