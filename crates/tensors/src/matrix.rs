//! A dense row-major f32 matrix: the form in which factors travel between files and decompositions.

/// A row-major matrix of f32 values, `values[row * cols + col]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// A matrix `[rows, cols]` over row-major `values`.
    ///
    /// # Panics
    /// If `values` does not hold exactly `rows * cols` values.
    pub fn new(rows: usize, cols: usize, values: Vec<f32>) -> Self {
        assert_eq!(
            values.len(),
            rows * cols,
            "a [{rows}, {cols}] matrix needs {} values",
            rows * cols
        );
        Self { rows, cols, values }
    }

    /// The zero matrix `[rows, cols]`.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self::new(rows, cols, vec![0.0; rows * cols])
    }

    /// The matrix whose entry at (row, col) is `entry(row, col)`.
    pub fn from_fn(rows: usize, cols: usize, mut entry: impl FnMut(usize, usize) -> f32) -> Self {
        let values = (0..rows * cols)
            .map(|index| entry(index / cols, index % cols))
            .collect();
        Self::new(rows, cols, values)
    }

    /// The identity `[size, size]`.
    pub fn identity(size: usize) -> Self {
        Self::from_fn(size, size, |row, col| f32::from(row == col))
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `[rows, cols]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// The entries, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// # Panics
    /// If `row` or `col` is out of range.
    pub fn get(&self, row: usize, col: usize) -> f32 {
        assert!(col < self.cols, "column {col} of {}", self.cols);
        self.values[row * self.cols + col]
    }

    /// # Panics
    /// If `row` is out of range.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }

    /// `[cols, rows]`.
    pub fn transposed(&self) -> Self {
        Self::from_fn(self.cols, self.rows, |row, col| self.get(col, row))
    }

    /// `factor` times this matrix.
    pub fn scaled(mut self, factor: f32) -> Self {
        if factor != 1.0 {
            self.values.iter_mut().for_each(|value| *value *= factor);
        }
        self
    }

    /// The product `self · right`, accumulated in f64: `[rows, k] · [k, cols] → [rows, cols]`.
    ///
    /// Meant for folding thin factors (k is a rank); decompositions bring their own products.
    ///
    /// # Panics
    /// If the inner sizes differ.
    pub fn product(&self, right: &Matrix) -> Matrix {
        assert_eq!(
            self.cols,
            right.rows,
            "product of {:?} and {:?}",
            self.shape(),
            right.shape()
        );
        let mut values = Vec::with_capacity(self.rows * right.cols);
        let mut sums = vec![0.0f64; right.cols];
        for row in 0..self.rows {
            sums.fill(0.0);
            for (inner, &left_value) in self.row(row).iter().enumerate() {
                let left_value = f64::from(left_value);
                for (sum, &right_value) in sums.iter_mut().zip(right.row(inner)) {
                    *sum += left_value * f64::from(right_value);
                }
            }
            values.extend(sums.iter().map(|&sum| sum as f32));
        }
        Matrix::new(self.rows, right.cols, values)
    }

    /// The Frobenius norm, accumulated in f64.
    pub fn norm(&self) -> f64 {
        self.values
            .iter()
            .map(|&value| f64::from(value).powi(2))
            .sum::<f64>()
            .sqrt()
    }

    /// Whether no entry is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        // No early exit within a chunk, so that the compiler vectorises it.
        self.values.chunks(1 << 10).all(|chunk| {
            chunk
                .iter()
                .fold(true, |all, value| all & value.is_finite())
        })
    }

    /// Whether every entry is exactly zero.
    pub fn is_zero(&self) -> bool {
        self.values.iter().all(|&value| value == 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_the_sum_over_the_inner_index() {
        let left = Matrix::new(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let right = Matrix::new(3, 1, vec![1.0, 0.5, -1.0]);
        assert_eq!(left.product(&right).values(), [-1.0, 0.5]);
    }

    #[test]
    fn transposing_swaps_the_indices() {
        let matrix = Matrix::from_fn(2, 3, |row, col| (10 * row + col) as f32);
        let transposed = matrix.transposed();
        assert_eq!(transposed.shape(), [3, 2]);
        assert_eq!(transposed.get(2, 1), matrix.get(1, 2));
    }
}
