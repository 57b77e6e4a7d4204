//! How far two matrices are from each other.

use eigenmix_tensors::Matrix;

/// The largest difference of two matrices, in relation to the largest entry of the second.
pub fn relative_difference(left: &Matrix, right: &Matrix) -> f32 {
    assert_eq!(left.shape(), right.shape());
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |a: f32, b| a.max(b.abs()));
    let pairs = left.values().iter().zip(right.values());
    largest(&mut pairs.map(|(left, right)| left - right))
        / largest(&mut right.values().iter().copied())
}
