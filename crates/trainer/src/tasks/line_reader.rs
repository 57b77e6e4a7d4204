//! Batches of lines, for predictions.

use eigenmix_models::Batch;

use crate::TrainerError;

/// Makes batches of lines that each stand for one example.
pub trait LineReader {
    /// # Errors
    /// If a line is not a valid input of the task.
    fn batch(&self, lines: &[String]) -> Result<Batch, TrainerError>;
}
