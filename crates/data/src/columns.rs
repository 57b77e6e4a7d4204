//! Which columns a split has.

use std::io::BufReader;
use std::path::Path;

use crate::config::DataConfig;
use crate::error::DataError;
use crate::parquet_file::ParquetFile;
use crate::split::{Format, Split};
use crate::split_files::find_split;
use crate::{csv, jsonl};

/// The names of the columns in the first file of a split, in their order; of JSON lines those of the
/// first row.
///
/// # Errors
/// As [`read_split`](super::read_split), as far as the first row.
pub fn column_names(
    dir: &Path,
    split: Split,
    config: &DataConfig,
) -> Result<Vec<String>, DataError> {
    let files = find_split(dir, split, config)?.files;
    let Some(path) = files.first() else {
        return Ok(Vec::new());
    };
    let (format, file) = Format::open(path)?;
    match format {
        Format::JsonLines | Format::Json => {
            let mut names = None;
            let reader = BufReader::new(file);
            // One row says it; the rest is not read on.
            let read = jsonl::for_each_object(reader, &path.as_path().into(), |columns, place| {
                names = Some(columns.keys().cloned().collect());
                Err(DataError::MissingLabel { place })
            });
            match (names, read) {
                (Some(names), _) => Ok(names),
                (None, read) => read.map(|()| Vec::new()),
            }
        }
        Format::Csv => {
            let mut names = Vec::new();
            let begin = |header: &::csv::StringRecord| {
                names = header.iter().map(str::to_owned).collect();
                Ok(())
            };
            csv::for_each_record(file, &path.as_path().into(), begin, |(), _, _| Ok(()))?;
            Ok(names)
        }
        Format::Parquet => {
            let file = ParquetFile::new(file, &path.as_path().into())?;
            let names = file.column_names().into_iter();
            Ok(names.map(str::to_owned).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_come_in_the_order_of_the_file() {
        for (name, content) in [
            ("train.csv", "zebra,apple\n1,2\n"),
            (
                "train.jsonl",
                "\n{\"zebra\": 1, \"apple\": 2}\n{\"other\": 3}\n",
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), content).unwrap();
            let config = DataConfig::new("unused");
            let names = column_names(dir.path(), Split::Train, &config).unwrap();
            assert_eq!(names, ["zebra", "apple"], "{name}");
            let error = column_names(dir.path(), Split::Test, &config).unwrap_err();
            assert!(matches!(error, DataError::MissingSplit { .. }), "{error}");
        }
    }

    #[test]
    fn a_first_row_that_is_no_object_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("train.jsonl"), "[1]\n").unwrap();
        let config = DataConfig::new("unused");
        let error = column_names(dir.path(), Split::Train, &config).unwrap_err();
        assert!(error.to_string().contains("train.jsonl:1"), "{error}");
    }
}
