//! Tables of images and captions in any format of rows.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::caption_columns::CaptionColumns;
use super::captioned_image::Unmeasured;
use crate::config::DataConfig;
use crate::data_file::DataFile;
use crate::error::DataError;
use crate::parquet_column::is_binary;
use crate::parquet_file::ParquetFile;
use crate::parquet_records::{self, Bytes};
use crate::row::Place;
use crate::unread_columns::{ColumnTally, says_something};
use crate::{csv, jsonl};

/// Reads the images of a table with their captions. Paths are relative to the table.
///
/// - prompt: that of all images, if captions are not read
///
/// # Errors
/// When the table cannot be read, or a row is not as `config` says.
pub(super) fn read_captioned_table(
    path: &Path,
    config: &DataConfig,
    prompt: Option<&str>,
    tally: &mut ColumnTally,
) -> Result<Vec<Unmeasured>, DataError> {
    let file = DataFile::open(path)?;
    let path: Arc<Path> = path.into();
    let mut images = Vec::new();
    match file {
        DataFile::Json(reader) => {
            // Those of the first row are those of all.
            let mut columns = None;
            jsonl::for_each_object(reader, &path, |cells, place| {
                let found = match columns.take() {
                    Some(found) => found,
                    None => {
                        let names: Vec<&str> = cells.keys().map(String::as_str).collect();
                        CaptionColumns::find(&names, config, prompt, &place)?
                    }
                };
                let columns = columns.insert(found);
                for (name, cell) in &cells {
                    tally.see(name, columns.reads(name), usize::from(says_something(cell)));
                }
                images.push(columns.row(&cells, prompt, place)?);
                Ok(())
            })?;
        }
        DataFile::Csv(reader) => {
            let begin = |header: &::csv::StringRecord| {
                let place = Place {
                    file: Arc::clone(&path),
                    line: 1,
                };
                let names: Vec<&str> = header.iter().collect();
                let columns = CaptionColumns::find(&names, config, prompt, &place)?;
                csv::require_once(header, |name| columns.reads(name), &path)?;
                Ok((columns, header.clone()))
            };
            csv::for_each_record(reader, &path, begin, |(columns, header), record, place| {
                for (name, cell) in header.iter().zip(record) {
                    tally.see(name, columns.reads(name), usize::from(!cell.is_empty()));
                }
                let cells = header.iter().map(str::to_owned);
                let cells = cells.zip(record.iter().map(Value::from)).collect();
                images.push(columns.row(&cells, prompt, place)?);
                Ok(())
            })?;
        }
        DataFile::Parquet(file) => {
            let file = ParquetFile::new(file, &path)?;
            let place = Place {
                file: Arc::clone(&path),
                line: 1,
            };
            let columns = CaptionColumns::find(&file.column_names(), config, prompt, &place)?;
            let caption = columns.caption().and_then(|name| file.column(name));
            if let Some(column) = caption.filter(|column| is_binary(column)) {
                let expected = "texts or lists of texts";
                return Err(file.column_type_error(column, column, expected));
            }
            let is_wanted = |column: &str| columns.reads(column);
            parquet_records::for_each_record(&file, is_wanted, Bytes::Images, |cells, place| {
                images.push(columns.row(&cells, prompt, place)?);
                Ok(())
            })?;
            file.tally(tally, is_wanted)?;
        }
    }
    Ok(images)
}
