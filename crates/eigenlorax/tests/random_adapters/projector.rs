//! Projectors onto the spans of columns, and how far lists of values are from each other.

use eigenmix_tensors::Matrix;

/// V·Vᵀ of the first `columns` columns: free of their signs and of rotations among them.
pub fn projector(vectors: &Matrix, columns: usize) -> Matrix {
    let first = Matrix::from_fn(vectors.rows(), columns, |row, column| {
        vectors.get(row, column)
    });
    first.product(&first.transposed())
}

pub fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter()
        .zip(right)
        .map(|(left, right)| (left - right).abs())
        .fold(0.0, f32::max)
}

/// The largest difference of two lists, in relation to the largest value of the second.
pub fn relative_difference(left: &[f32], right: &[f32]) -> f32 {
    let scale = right
        .iter()
        .fold(0.0f32, |largest, value| largest.max(value.abs()));
    largest_difference(left, right) / scale
}
