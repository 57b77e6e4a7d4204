//! The rows of a split or of a file, by the format that the file's name says.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use crate::config::DataConfig;
use crate::error::{DataError, quoted};
use crate::row::{LabelPolicy, Row};
use crate::split::{Format, Split};
use crate::split_files::find_split;
use crate::{csv, jsonl, parquet};

/// Reads the rows of a split, its shards one after the other.
///
/// `dir` holds `train`, `validation` (or `valid`, `val`, `dev`) and `test` as `.jsonl`, `.csv` or
/// `.parquet`, each whole or in shards named `train-00000-of-00002.parquet`.
///
/// # Errors
/// When the split is missing, ambiguous, incomplete or empty, or a row is not as `config` says.
pub fn read_split(
    dir: &Path,
    split: Split,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<Row>, DataError> {
    let files = find_split(dir, split, config)?;
    let mut rows = Vec::new();
    for file in &files {
        rows.extend(read_file(file, config, labels)?);
    }
    if rows.is_empty() {
        let names: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        return Err(DataError::EmptySplit {
            split,
            files: quoted(&names),
        });
    }
    Ok(rows)
}

/// Reads the rows of one file, whose extension says its format; none is not an error here.
///
/// # Errors
/// When the file cannot be read, its extension is unknown, or a row is not as `config` says.
pub fn read_file(
    path: &Path,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<Row>, DataError> {
    let format = path
        .extension()
        .and_then(|extension| Format::from_extension(extension.to_str()?))
        .ok_or_else(|| DataError::UnknownFormat {
            path: path.to_owned(),
        })?;
    let file = File::open(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    let path: Arc<Path> = path.into();
    match format {
        Format::JsonLines => jsonl::read_jsonl(BufReader::new(file), &path, config, labels),
        Format::Csv => csv::read_csv(file, &path, config, labels),
        Format::Parquet => parquet::read_parquet(file, &path, config, labels),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::RawLabel;

    #[test]
    fn shards_are_read_as_one_split_and_keep_their_places() {
        let dir = tempfile::tempdir().unwrap();
        for (shard, rows) in [(1, "c,z\n"), (0, "a,x\nb,y\n")] {
            let name = format!("train-0000{shard}-of-00002.csv");
            fs::write(dir.path().join(name), format!("text,label\n{rows}")).unwrap();
        }
        let config = DataConfig::new("unused");
        let rows = read_split(dir.path(), Split::Train, &config, LabelPolicy::Required).unwrap();
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "c"]);
        assert_eq!(rows[2].label, Some(RawLabel::Text("z".to_owned())));
        assert!(rows[2].place.to_string().ends_with("00001-of-00002.csv:2"));
    }

    #[test]
    fn an_empty_split_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("test.jsonl"), "\n\n").unwrap();
        let config = DataConfig::new("unused");
        let error =
            read_split(dir.path(), Split::Test, &config, LabelPolicy::Required).unwrap_err();
        assert!(matches!(error, DataError::EmptySplit { .. }), "{error}");
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let config = DataConfig::new("unused");
        let error = read_file(Path::new("rows.xlsx"), &config, LabelPolicy::Optional).unwrap_err();
        assert!(matches!(error, DataError::UnknownFormat { .. }), "{error}");
    }
}
