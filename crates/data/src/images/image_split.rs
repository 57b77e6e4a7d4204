//! The images of a split, wherever they are: in folders, in tables of paths or inside parquet
//! files.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::class_folders::read_class_folders;
use super::image_row::{ImageRow, ImageSource};
use super::parquet_images::read_parquet_images;
use super::path_table::read_path_table;
use super::unreadable::{Unreadable, leave_out_unreadable};
use crate::config::DataConfig;
use crate::error::{DataError, quoted};
use crate::row::{LabelPolicy, RawLabel};
use crate::split::Split;
use crate::split_files::{SplitFiles, find_split};
use crate::unread_columns::{ColumnTally, unread_note};

/// The images of a split, and what should be known about how they were found.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSplit {
    pub rows: Vec<ImageRow>,
    pub notes: Vec<String>,
}

/// Finds the images of a split; none is decoded unless unreadable ones are to be left out.
///
/// `dir` holds `train`, `validation` (or `valid`, `val`, `dev`) and `test` as
/// - folders with a folder a class: `train/CLASS/image.jpg`,
/// - `.jsonl` or `.csv` with the columns `data.image`, a path relative to the table, and `data.label`,
/// - `.parquet` as the Hub stores images, whole or in shards.
///
/// # Errors
/// When the split is missing, ambiguous or empty, a row is not as `config` says, or a file that a
/// table names is not there.
pub fn read_image_split(
    dir: &Path,
    split: Split,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<ImageSplit, DataError> {
    let mut notes = Vec::new();
    let (mut rows, places) = match (find_split(dir, split, config), find_folder(dir, split)?) {
        (Ok(SplitFiles { files, card }), folder) => {
            if let Some(folder) = folder {
                notes.push(format!(
                    "the {split} split is what {} lists; `{}` counts only as far as it is named there",
                    quoted(&display(&files)),
                    folder.display(),
                ));
            }
            let (mut rows, mut columns) = (Vec::new(), ColumnTally::default());
            for table in &files {
                rows.extend(read_table(table, config, labels, &mut columns)?);
            }
            let settings = "data.image and data.label name";
            notes.extend(unread_note(
                &columns.into_unread(),
                split,
                rows.len(),
                settings,
            ));
            card.name_classes(&mut rows, config, labels)?;
            (rows, files)
        }
        (Err(DataError::MissingSplit { .. }), Some(folder)) => {
            let mut rows = read_class_folders(&folder, labels, &mut notes)?;
            if labels == LabelPolicy::Lists {
                // A folder is a whole name, whatever separates labels elsewhere.
                for row in &mut rows {
                    row.label = row.label.take().map(|class| RawLabel::List(vec![class]));
                }
            }
            (rows, vec![folder])
        }
        (Err(error), _) => return Err(with_folders(error, split)),
    };
    if rows.is_empty() {
        return Err(DataError::EmptySplit {
            split,
            files: quoted(&display(&places)),
        });
    }
    match config.unreadable {
        Unreadable::Error => rows.par_iter().try_for_each(check_presence)?,
        Unreadable::Skip => {
            let (kept, note) = leave_out_unreadable(rows, |row| row)?;
            rows = kept;
            notes.extend(note);
        }
    }
    Ok(ImageSplit { rows, notes })
}

fn read_table(
    path: &Path,
    config: &DataConfig,
    labels: LabelPolicy,
    columns: &mut ColumnTally,
) -> Result<Vec<ImageRow>, DataError> {
    if path.extension().is_some_and(|ending| ending == "parquet") {
        return read_parquet_images(path, config, labels, columns);
    }
    read_path_table(path, config, labels, columns)
}

/// The split's folder under one of its names.
fn find_folder(dir: &Path, split: Split) -> Result<Option<PathBuf>, DataError> {
    let candidates = split.stems().iter().map(|stem| dir.join(stem));
    let mut folders: Vec<PathBuf> = candidates.filter(|folder| folder.is_dir()).collect();
    if folders.len() > 1 {
        return Err(DataError::AmbiguousFolder {
            split,
            dir: dir.to_owned(),
            folders: quoted(&display(&folders)),
        });
    }
    Ok(folders.pop())
}

/// A missing split may have been meant to be a folder.
fn with_folders(mut error: DataError, split: Split) -> DataError {
    if let DataError::MissingSplit { expected, .. } = &mut error {
        *expected = format!("{expected}, or a folder `{split}` with a folder a class");
    }
    error
}

/// A path that leads nowhere is better found now than after hours.
fn check_presence(row: &ImageRow) -> Result<(), DataError> {
    let ImageSource::File(path) = &row.source else {
        return Ok(());
    };
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(DataError::MissingImage {
            place: row.place.clone(),
            path: path.clone(),
            source,
        }),
    }
}

fn display(paths: &[PathBuf]) -> Vec<String> {
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect()
}

#[cfg(test)]
#[path = "image_split_tests.rs"]
mod tests;
