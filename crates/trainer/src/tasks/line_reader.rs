//! Batches of rows to predict for.

use eigenmix_data::{DataError, PredictionTable, Row};
use eigenmix_models::Batch;

use crate::TrainerError;

/// Makes batches of rows that each stand for one example: a text, a pair of texts, or the path of an
/// image in the place of the text.
pub trait LineReader {
    /// The rows of a table.
    ///
    /// # Errors
    /// If a column is missing, or holds something else.
    fn rows(&self, table: &PredictionTable) -> Result<Vec<Row>, DataError>;

    /// The batch, and how many of its rows were cut at the maximum length.
    ///
    /// # Errors
    /// If a row is not a valid input of the task.
    fn batch(&self, rows: &[Row]) -> Result<(Batch, usize), TrainerError>;
}
