//! Sum and average.

use eigenmix_eigenlorax::decomposition::DecompositionError;
use faer::Mat;

use crate::method::MatrixMethod;

/// `Σ τ_t`, or `Σ τ_t / T`.
pub(crate) struct Linear {
    /// Whether the sum is divided by T, the number of adapters that have the module.
    pub(crate) divides: bool,
}

impl MatrixMethod for Linear {
    fn combine(&self, tasks: &[Mat<f64>], _size: usize) -> Result<Mat<f64>, DecompositionError> {
        Ok(if self.divides {
            mean(tasks)
        } else {
            summed(tasks)
        })
    }
}

/// `Σ τ_t`.
pub(crate) fn summed(tasks: &[Mat<f64>]) -> Mat<f64> {
    let (rows, cols) = tasks[0].shape();
    tasks
        .iter()
        .fold(Mat::zeros(rows, cols), |sum, task| sum + task)
}

/// `Σ τ_t / T`.
pub(crate) fn mean(tasks: &[Mat<f64>]) -> Mat<f64> {
    faer::Scale(1.0 / tasks.len() as f64) * summed(tasks)
}
