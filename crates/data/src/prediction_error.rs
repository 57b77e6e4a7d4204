//! What may be wrong with a table of rows to predict for, or with where it is to be written.

use std::io;
use std::path::PathBuf;

/// Why predictions cannot be made of a table or written with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictionError {
    #[error("`{path}` has no rows to predict for")]
    NoRows { path: PathBuf },

    #[error(
        "`{path}` has a column `{column}` already, where the predictions are to go; rename it \
         (its columns are {found})"
    )]
    ColumnTaken {
        path: PathBuf,
        column: String,
        found: String,
    },

    #[error("`{path}` is parquet, which is written to a file only; name one with --out")]
    ParquetToStream { path: PathBuf },

    #[error(
        "`{out}` is of another format than `{input}`: rows are written back in the format in which \
         they came"
    )]
    OtherFormat { out: PathBuf, input: PathBuf },

    #[error("the predictions for the rows of `{path}` cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
