//! A dense f32 tensor of any number of dimensions: how heads, biases and trained parameters travel
//! between files and devices.

use crate::Matrix;

/// A row-major tensor of f32 values in the memory of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    /// Row-major, as many as `shape` says.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// A tensor of this shape over row-major `values`.
    ///
    /// # Panics
    /// If `values` does not hold exactly as many values as `shape` says.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        let shape = shape.into();
        let count: usize = shape.iter().product();
        assert_eq!(
            values.len(),
            count,
            "a tensor {shape:?} needs {count} values"
        );
        Self { shape, values }
    }

    /// A matrix `[rows, cols]` as `[cols, rows]`.
    ///
    /// # Panics
    /// If it is not a matrix.
    pub fn transposed(&self) -> Self {
        let &[rows, cols] = &self.shape[..] else {
            panic!("{:?} is not the shape of a matrix", self.shape);
        };
        let values = (0..cols)
            .flat_map(|col| (0..rows).map(move |row| row * cols + col))
            .map(|index| self.values[index])
            .collect();
        Self::new([cols, rows], values)
    }
}

impl From<&Matrix> for HostTensor {
    fn from(matrix: &Matrix) -> Self {
        Self::new(matrix.shape(), matrix.values().to_vec())
    }
}

impl From<Matrix> for HostTensor {
    fn from(matrix: Matrix) -> Self {
        Self::new(matrix.shape(), matrix.into_values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_a_matrix_swaps_its_indices() {
        let matrix = Matrix::from_fn(2, 3, |row, col| (10 * row + col) as f32);
        let transposed = HostTensor::from(&matrix).transposed();
        assert_eq!(transposed, HostTensor::from(matrix.transposed()));
        assert_eq!(transposed.shape, [3, 2]);
    }

    #[test]
    #[should_panic(expected = "a tensor [2, 3] needs 6 values")]
    fn values_that_do_not_fit_the_shape_are_a_mistake_of_the_caller() {
        HostTensor::new([2, 3], vec![0.0; 5]);
    }
}
