//! Tables that name image files: any format of rows, with a path in place of a text.

use std::path::Path;

use super::image_row::{ImageRow, ImageSource};
use crate::config::DataConfig;
use crate::dataset::read_counting;
use crate::error::DataError;
use crate::row::LabelPolicy;
use crate::unread_columns::ColumnTally;

/// Reads a table whose column `data.image` has paths, relative to the table.
///
/// # Errors
/// When the table cannot be read, or a row is not as `config` says.
pub(super) fn read_path_table(
    path: &Path,
    config: &DataConfig,
    labels: LabelPolicy,
    columns: &mut ColumnTally,
) -> Result<Vec<ImageRow>, DataError> {
    // A path is read as any other text.
    let as_texts = DataConfig {
        text: config.image.clone(),
        text_pair: None,
        ..config.clone()
    };
    let rows = read_counting(path, &as_texts, labels, columns).map_err(DataError::about_images)?;
    Ok(rows
        .into_iter()
        .map(|row| ImageRow {
            source: file_beside(path, &row.text),
            label: row.label,
            place: row.place,
        })
        .collect())
}

/// The file that `table` calls `name`.
pub(crate) fn file_beside(table: &Path, name: &str) -> ImageSource {
    let dir = table.parent().unwrap_or(Path::new(""));
    ImageSource::File(dir.join(name))
}
