//! Products of matrices: of large ones and of few rows by kernels of this crate, of others by the crate
//! `gemm`.

use burn::backend::flex::FlexTensor;

use crate::column_product::{column_product, is_by_columns};
use crate::packed_product::{is_worth_packing, packed_product};
use crate::row_product::{Sizes, Target};

/// A matrix by its strides, which may be a transposed one or a part of a larger one.
#[derive(Clone, Copy)]
pub(crate) struct MatrixView<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// The number of multiplications from which a product is divided among threads.
const PARALLEL: usize = 1024 * 1024;

impl<'a> MatrixView<'a> {
    /// A tensor of two dimensions, by its strides.
    ///
    /// # Panics
    /// If it does not have two dimensions, or has a negative stride.
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

    /// Rows of `row_stride` values, of which the first `cols` count.
    ///
    /// # Panics
    /// If there are fewer values.
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

    pub fn n_cols(&self) -> usize {
        self.cols
    }

    /// The strides from one row and from one column to the next.
    pub fn strides(&self) -> (usize, usize) {
        (self.row_stride, self.col_stride)
    }

    /// From the first value on.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// # Panics
    /// If the matrix has fewer rows or columns.
    pub fn part(self, first_row: usize, rows: usize, first_col: usize, cols: usize) -> Self {
        assert!(first_row + rows <= self.rows && first_col + cols <= self.cols);
        let first = first_row * self.row_stride + first_col * self.col_stride;
        Self {
            values: &self.values[first.min(self.values.len())..],
            rows,
            cols,
            ..self
        }
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
            "a matrix of more values than the slice has"
        );
    }
}

impl Sizes {
    /// # Panics
    /// If the inner dimensions differ.
    pub fn of(left: &MatrixView, right: &MatrixView) -> Self {
        assert_eq!(left.cols, right.rows, "inner dimensions of a product");
        Self {
            rows: left.rows,
            cols: right.cols,
            inner: left.cols,
        }
    }
}

/// What is added to a product while its sums are in registers or cache.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start<'a> {
    /// To every row: a value for each column.
    pub bias: Option<&'a [f32]>,
    /// Value by value: rows as far apart as those of the target.
    pub residual: Option<&'a [f32]>,
}

impl Start<'_> {
    /// What is added from (row, col) on.
    #[inline(always)]
    pub fn from(self, row: usize, col: usize, row_stride: usize) -> Self {
        Self {
            bias: self.bias.map(|bias| &bias[col..]),
            residual: self
                .residual
                .map(|residual| &residual[row * row_stride + col..]),
        }
    }

    pub fn is_anything(&self) -> bool {
        self.bias.is_some() || self.residual.is_some()
    }

    /// Adds the start of a row to its sums.
    #[inline(always)]
    pub fn add_to(&self, sums: &mut [f32]) {
        for terms in [self.bias, self.residual].into_iter().flatten() {
            sums.iter_mut()
                .zip(terms)
                .for_each(|(sum, &term)| *sum += term);
        }
    }

    /// # Panics
    /// If a part is shorter than a product of these sizes.
    pub fn assert_of(&self, sizes: Sizes, row_stride: usize) {
        let Sizes { rows, cols, .. } = sizes;
        let count = match rows {
            0 => 0,
            rows => (rows - 1) * row_stride + cols,
        };
        assert!(self.bias.is_none_or(|bias| bias.len() >= cols));
        assert!(self.residual.is_none_or(|residual| residual.len() >= count));
    }
}

/// target (+)= left · right + start.
///
/// # Safety
/// The target must be valid for as many rows as `left` has, with as many values as `right` has
/// columns, and nothing else may access them meanwhile.
///
/// # Panics
/// If the inner dimensions differ, or the start is too short.
pub(crate) unsafe fn product(left: MatrixView, right: MatrixView, target: Target, start: Start) {
    let sizes = Sizes::of(&left, &right);
    start.assert_of(sizes, target.row_stride);
    let is_large = sizes.rows * sizes.cols * sizes.inner >= PARALLEL;
    if is_large && is_worth_packing(sizes) {
        // SAFETY: the caller's.
        return unsafe { packed_product(&left, &right, target, start) };
    }
    if is_by_columns(&left, &right) {
        // SAFETY: the caller's.
        return unsafe { column_product(left, right, target, start) };
    }
    let started_rows = if start.is_anything() { sizes.rows } else { 0 };
    for row in 0..started_rows {
        let first = target.start_of(row, 0);
        if !target.accumulate {
            // SAFETY: the caller's target has that many rows, and nothing else accesses them.
            unsafe { first.write_bytes(0, sizes.cols) };
        }
        // SAFETY: as above, and rows that are not added to were just cleared.
        let target_row = unsafe { std::slice::from_raw_parts_mut(first, sizes.cols) };
        start.from(row, 0, target.row_stride).add_to(target_row);
    }
    let parallelism = match is_large {
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
            target.accumulate || start.is_anything(),
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

    /// Left and right side, both as rows, with four values behind each row of the left.
    fn sides(sizes: Sizes) -> (Vec<f32>, Vec<f32>) {
        let number = |index: usize| ((index * 37 % 101) as f32 - 50.0) / 50.0;
        let Sizes { rows, cols, inner } = sizes;
        let left = (0..rows * (inner + 4)).map(number).collect();
        (
            left,
            (0..inner * cols).map(|index| number(index + 11)).collect(),
        )
    }

    fn check(sizes: Sizes) {
        let Sizes { rows, cols, inner } = sizes;
        let (left, right) = sides(sizes);
        let mut turned = vec![0.0; right.len()];
        for row in 0..inner {
            for col in 0..cols {
                turned[col * inner + row] = right[row * cols + col];
            }
        }
        // The sum, and that of its terms' sizes.
        let expected: Vec<(f64, f64)> = (0..rows * cols)
            .map(|index| {
                let (row, col) = (index / cols, index % cols);
                let terms = (0..inner)
                    .map(|k| f64::from(left[row * (inner + 4) + k] * right[k * cols + col]));
                (terms.clone().sum(), terms.map(f64::abs).sum())
            })
            .collect();
        let rights = [
            MatrixView::rows(&right, inner, cols, cols),
            MatrixView::rows(&turned, cols, inner, inner).transposed(),
        ];
        let bias: Vec<f32> = (0..cols).map(|col| col as f32 * 0.01).collect();
        let residual: Vec<f32> = (0..rows * (cols + 2)).map(|at| (at % 7) as f32).collect();
        for (right, is_onto) in rights
            .into_iter()
            .flat_map(|one| [(one, false), (one, true)])
        {
            let start = match is_onto {
                true => Start {
                    bias: Some(&bias),
                    residual: Some(&residual),
                },
                false => Start::default(),
            };
            for accumulate in [false, true] {
                let mut output = vec![0.25; rows * (cols + 2)];
                let values = output.as_mut_ptr();
                let target = Target {
                    values,
                    row_stride: cols + 2,
                    accumulate,
                };
                let left = MatrixView::rows(&left, rows, inner, inner + 4);
                // SAFETY: the output has a row of cols + 2 values for each row.
                unsafe { product(left, right, target, start) };
                for (row, found) in output.chunks(cols + 2).enumerate() {
                    for (col, &found) in found[..cols].iter().enumerate() {
                        let (mut sum, size) = expected[row * cols + col];
                        if accumulate {
                            sum += 0.25;
                        }
                        if is_onto {
                            sum += f64::from(bias[col] + residual[row * (cols + 2) + col]);
                        }
                        // Additions are rounded to 24 bits each, up and down.
                        let difference = (f64::from(found) - sum).abs();
                        let size = size + sum.abs() + 1.0;
                        assert!(difference < 1e-6 * size, "{sizes:?}: {found} {sum}");
                    }
                    assert_eq!(found[cols..], [0.25; 2]);
                }
            }
        }
    }

    /// Few rows; small ones; several threads; parts of panels of every width; sums in several parts; columns
    /// in several parts.
    const SIZES: [(usize, usize, usize); 8] = [
        (9, 1201, 150),
        (1, 300, 603),
        (5, 7, 3),
        (130, 150, 70),
        (70, 97, 1600),
        (67, 20, 900),
        (65, 3120, 9),
        (1031, 72, 33),
    ];

    #[test]
    fn transposed_sides_and_parts_of_rows_give_the_plain_product() {
        for (rows, cols, inner) in SIZES {
            check(Sizes { rows, cols, inner });
        }
    }

    #[test]
    fn narrower_vectors_give_the_plain_product_too() {
        let _unit = crate::unit::tests::SameUnit::without_avx512();
        for (rows, cols, inner) in SIZES {
            check(Sizes { rows, cols, inner });
        }
    }

    #[test]
    fn any_number_of_threads_computes_the_same() {
        let _unit = crate::unit::tests::SameUnit::of_machine();
        let sizes = Sizes {
            rows: 300,
            cols: 100,
            inner: 800,
        };
        let (left, right) = sides(sizes);
        let on_threads = |threads: usize| {
            let mut output = vec![0.0; sizes.rows * sizes.cols];
            let target = Target {
                values: output.as_mut_ptr(),
                row_stride: sizes.cols,
                accumulate: false,
            };
            let left = MatrixView::rows(&left, sizes.rows, sizes.inner, sizes.inner + 4);
            let right = MatrixView::rows(&right, sizes.inner, sizes.cols, sizes.cols);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            // SAFETY: the output has that many rows.
            pool.expect("threads")
                .install(|| unsafe { product(left, right, target, Start::default()) });
            output
        };
        assert_eq!(on_threads(1), on_threads(3));
    }
}
