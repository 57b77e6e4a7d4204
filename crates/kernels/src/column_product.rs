//! The product of few rows with a matrix whose columns are contiguous, such as x · Wᵀ of one token: it
//! takes as long as reading the matrix, which is neither copied nor rearranged.

use std::ops::Range;

use rayon::prelude::*;

use crate::product::{MatrixView, Start};
use crate::row_product::{Sizes, Target};
use crate::unit::has_vectors;
use crate::vector::{Vector, for_vectors};

/// The largest number of rows for which this is the fastest way. With more, rearranging the matrix for
/// the caches pays, and without vector units from the second block of rows on.
const MOST_ROWS: usize = 63;
const ROWS: usize = 8;

/// How many values of the matrix one thread reads in less time than several take to start.
const SERIAL: usize = 128 * 1024;
/// How many it reads at a time: they stay in the second-level cache for all blocks of rows.
const PART: usize = 64 * 1024;

/// Whether [`column_product`] takes such sides.
pub(crate) fn is_by_columns(left: &MatrixView, right: &MatrixView) -> bool {
    let most = if has_vectors() { MOST_ROWS } else { ROWS };
    left.n_rows() <= most && left.strides().1 == 1 && right.strides().0 == 1
}

/// target (+)= left · right + start. Every sum has the same terms in the same order whatever the number
/// of rows and threads, so that a row's product does not depend on its neighbours.
///
/// # Safety
/// As for [`product`](crate::product::product), with a start that was measured.
///
/// # Panics
/// If a row of the left or a column of the right side is not contiguous.
pub(crate) unsafe fn column_product(
    left: MatrixView,
    right: MatrixView,
    target: Target,
    start: Start,
) {
    let Sizes { cols, inner, .. } = Sizes::of(&left, &right);
    assert!(is_by_columns(&left, &right), "sides by rows and by columns");
    let multiply = |columns: Range<usize>| multiply(left, right, columns, target, start);
    if cols * inner <= SERIAL {
        return multiply(0..cols);
    }
    let columns = (PART / inner).next_multiple_of(4).max(4);
    (0..cols.div_ceil(columns))
        .into_par_iter()
        .for_each(|part| multiply(part * columns..cols.min((part + 1) * columns)));
}

for_vectors! {
    /// Some columns of the product.
    fn multiply<V>(
        left: MatrixView<'_>,
        right: MatrixView<'_>,
        columns: Range<usize>,
        target: Target,
        start: Start<'_>,
    ) {
        let rows = left.n_rows();
        let block = Block { left, right, target, start };
        let mut row = 0;
        // SAFETY: rows and columns are within both sides and the target, and the unit is present.
        unsafe {
            while row + ROWS <= rows {
                block.rows::<V, ROWS, 2>(row, columns.clone());
                row += ROWS;
            }
            while row + 4 <= rows {
                block.rows::<V, 4, 4>(row, columns.clone());
                row += 4;
            }
            match rows - row {
                0 => {}
                1 => block.rows::<V, 1, 4>(row, columns),
                2 => block.rows::<V, 2, 4>(row, columns),
                _ => block.rows::<V, 3, 4>(row, columns),
            }
        }
    }
}

struct Block<'a> {
    left: MatrixView<'a>,
    right: MatrixView<'a>,
    target: Target,
    start: Start<'a>,
}

impl Block<'_> {
    /// `ROWS` rows from `row` on with these columns, `COLS` at a time.
    #[inline(always)]
    unsafe fn rows<V: Vector, const ROWS: usize, const COLS: usize>(
        &self,
        row: usize,
        columns: Range<usize>,
    ) {
        let mut col = columns.start;
        // SAFETY: the caller's.
        unsafe {
            while col + COLS <= columns.end {
                self.block::<V, ROWS, COLS>(row, col);
                col += COLS;
            }
            while col < columns.end {
                self.block::<V, ROWS, 1>(row, col);
                col += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn block<V: Vector, const ROWS: usize, const COLS: usize>(
        &self,
        row: usize,
        col: usize,
    ) {
        let inner = self.left.n_cols();
        let (left_stride, right_stride) = (self.left.strides().0, self.right.strides().1);
        let left = self.left.values().as_ptr().wrapping_add(row * left_stride);
        let right = self
            .right
            .values()
            .as_ptr()
            .wrapping_add(col * right_stride);
        // SAFETY: the caller's: all rows and columns are within their matrices.
        unsafe {
            let mut totals = [[V::splat(0.0); COLS]; ROWS];
            let mut index = 0;
            while index < inner {
                let lanes = V::LANES.min(inner - index);
                let whole = lanes == V::LANES;
                let mut factors = [V::splat(0.0); COLS];
                for (offset, factor) in factors.iter_mut().enumerate() {
                    let from = right.add(offset * right_stride + index);
                    *factor = match whole {
                        true => V::load(from),
                        false => V::load_part(from, lanes),
                    };
                }
                for (offset, totals) in totals.iter_mut().enumerate() {
                    let from = left.add(offset * left_stride + index);
                    let value = match whole {
                        true => V::load(from),
                        false => V::load_part(from, lanes),
                    };
                    for (total, &factor) in totals.iter_mut().zip(&factors) {
                        *total = value.mul_add(factor, *total);
                    }
                }
                index += lanes;
            }
            for (offset, totals) in totals.iter().enumerate() {
                let mut sums = [0.0; COLS];
                for (sum, &total) in sums.iter_mut().zip(totals) {
                    *sum = sum_of_lanes(total);
                }
                let row = row + offset;
                self.start
                    .from(row, col, self.target.row_stride)
                    .add_to(&mut sums);
                let to = self.target.start_of(row, col);
                for (offset, sum) in sums.into_iter().enumerate() {
                    let to = to.add(offset);
                    match self.target.accumulate {
                        true => *to += sum,
                        false => to.write(sum),
                    }
                }
            }
        }
    }
}

/// Half of the lanes at a time.
///
/// # Safety
/// The unit of `V` must be present.
#[inline(always)]
unsafe fn sum_of_lanes<V: Vector>(total: V) -> f32 {
    const MOST_LANES: usize = 16;
    let mut lanes = [0.0f32; MOST_LANES];
    // SAFETY: no vector has more lanes.
    unsafe { total.store(lanes.as_mut_ptr()) };
    let mut width = V::LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(index: usize) -> f32 {
        ((index * 37 % 101) as f32 - 50.0) / 50.0
    }

    /// The product of the first `rows` rows of a left side with the same right side.
    fn found(rows: usize, sizes: Sizes, threads: usize) -> Vec<f32> {
        let Sizes { cols, inner, .. } = sizes;
        let left: Vec<f32> = (0..sizes.rows * inner).map(number).collect();
        let right: Vec<f32> = (0..cols * inner).map(|index| number(index + 11)).collect();
        let left = MatrixView::rows(&left, rows, inner, inner);
        let right = MatrixView::rows(&right, cols, inner, inner).transposed();
        let mut output = vec![f32::NAN; rows * cols];
        let target = Target {
            values: output.as_mut_ptr(),
            row_stride: cols,
            accumulate: false,
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        // SAFETY: the output has that many rows.
        let multiply = || unsafe { column_product(left, right, target, Start::default()) };
        pool.expect("threads").install(multiply);
        output
    }

    #[test]
    fn neither_neighbours_nor_threads_change_a_row() {
        let _unit = crate::unit::tests::SameUnit::of_machine();
        // Parts of several threads, columns and values that no block divides.
        let sizes = Sizes {
            rows: 31,
            cols: 217,
            inner: 1003,
        };
        let all = found(sizes.rows, sizes, 1);
        for (rows, threads) in [(1, 2), (2, 1), (3, 3), (7, 2), (12, 3), (31, 2)] {
            assert_eq!(found(rows, sizes, threads), all[..rows * sizes.cols]);
        }
    }
}
