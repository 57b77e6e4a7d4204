//! The images of a split with their captions, wherever they are: in tables, or in folders.

use std::path::{Path, PathBuf};

use super::caption_folder::{CaptionFolders, FolderContent, metadata_in};
use super::captioned_image::{CaptionedImage, Unmeasured, measured};
use super::captioned_table::read_captioned_table;
use crate::config::DataConfig;
use crate::error::{DataError, quoted};
use crate::images::{ImageSource, is_image, visible};
use crate::split::Split;
use crate::split_files::{SplitFiles, find_split};
use crate::unread_columns::{ColumnTally, unread_note};

/// The images of a split with their captions, and what should be known about how they were found.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionedSplit {
    pub images: Vec<CaptionedImage>,
    pub notes: Vec<String>,
}

/// Finds the images of a split and reads their captions and headers.
///
/// `dir` holds `train`, `validation` (or `valid`, `val`, `dev`) and `test` as
/// - `.jsonl`, `.csv` or `.parquet`, whole or in shards, with a column of images (`data.image`: paths
///   relative to the table, or the encoded images) and one of captions (`data.caption`: a text or a list
///   of texts),
/// - folders with `metadata.jsonl`, `.csv` or `.parquet`, whose column `file_name` names the images, or with
///   a file of captions beside each image: `a.png` and `a.txt` or `a.caption`, a caption a line.
///
/// Images in `dir` itself and in other folders of it are the training split, where there is no other.
///
/// # Errors
/// When the split is missing, ambiguous or empty, a row is not as `config` says, an image has no caption or
/// its header cannot be read.
pub fn read_captioned_split(
    dir: &Path,
    split: Split,
    config: &DataConfig,
) -> Result<CaptionedSplit, DataError> {
    let mut notes = Vec::new();
    let (images, tally, places) = match find_split(dir, split, config) {
        Ok(SplitFiles { files, .. }) => {
            if let Some(folder) = named_folder(dir, split, config)? {
                notes.push(format!(
                    "the {split} split is what {} lists; `{}` counts only as far as it is named there",
                    quoted(&displayed(&files)),
                    folder.display(),
                ));
            }
            let (mut images, mut tally) = (Vec::new(), ColumnTally::default());
            for table in &files {
                images.extend(read_captioned_table(table, config, None, &mut tally)?);
            }
            (images, tally, files)
        }
        Err(DataError::MissingSplit {
            expected, found, ..
        }) => {
            let folder = match config.files.is_empty() {
                true => find_folder(dir, split, config)?,
                false => None,
            };
            let Some(folder) = folder else {
                return Err(DataError::MissingSplit {
                    split,
                    dir: dir.to_owned(),
                    expected: format!(
                        "{expected}, or a folder `{split}` of images with metadata.jsonl or a file of \
                         captions beside each"
                    ),
                    found,
                });
            };
            let content = folder.read(config)?;
            notes.extend(content.notes);
            (content.images, content.tally, vec![folder.path])
        }
        Err(error) => return Err(error),
    };
    if images.is_empty() {
        return Err(DataError::EmptySplit {
            split,
            files: quoted(&displayed(&places)),
        });
    }
    let settings = "data.image and data.caption name";
    notes.extend(unread_note(
        &tally.into_unread(),
        split,
        images.len(),
        settings,
    ));
    let images = measured(images, config, &mut notes)?;
    Ok(CaptionedSplit { images, notes })
}

/// The folder of a split.
struct SplitFolder {
    path: PathBuf,
    /// A table in the folder above, which names the images of several splits.
    table: Option<PathBuf>,
    /// The folders of other splits in it.
    without: Vec<PathBuf>,
}

impl SplitFolder {
    fn read(&self, config: &DataConfig) -> Result<FolderContent, DataError> {
        let Some(table) = &self.table else {
            return CaptionFolders::read(config, &self.path, &self.without);
        };
        let mut tally = ColumnTally::default();
        let images = read_captioned_table(table, config, None, &mut tally)?;
        let is_inside = |(image, _): &Unmeasured| match &image.source {
            ImageSource::File(path) => path.starts_with(&self.path),
            ImageSource::Bytes(_) => false,
        };
        Ok(FolderContent {
            images: images.into_iter().filter(is_inside).collect(),
            tally,
            notes: Vec::new(),
        })
    }
}

/// The folders that may hold those of the splits.
fn tops(dir: &Path, config: &DataConfig) -> [PathBuf; 2] {
    match &config.config {
        Some(name) => [dir.join(name), dir.join("data").join(name)],
        None => [dir.to_owned(), dir.join("data")],
    }
}

/// The folder with the name of a split, if there is one.
fn named_folder(
    dir: &Path,
    split: Split,
    config: &DataConfig,
) -> Result<Option<PathBuf>, DataError> {
    let tops = tops(dir, config);
    let folders = tops.iter().flat_map(|top| {
        let stems = split.stems().iter();
        stems.map(move |stem| top.join(stem))
    });
    let mut folders: Vec<PathBuf> = folders.filter(|folder| folder.is_dir()).collect();
    if folders.len() > 1 {
        return Err(DataError::AmbiguousFolder {
            split,
            dir: dir.to_owned(),
            folders: quoted(&displayed(&folders)),
        });
    }
    Ok(folders.pop())
}

/// Finds the folder of a split: one with its name, or for the training split the whole directory without
/// those of the others.
fn find_folder(
    dir: &Path,
    split: Split,
    config: &DataConfig,
) -> Result<Option<SplitFolder>, DataError> {
    if let Some(path) = named_folder(dir, split, config)? {
        let table = match (metadata_in(&path)?, path.parent()) {
            (None, Some(above)) => metadata_in(above)?,
            _ => None,
        };
        return Ok(Some(SplitFolder {
            path,
            table,
            without: Vec::new(),
        }));
    }
    let mut tops = tops(dir, config).into_iter();
    let path = match tops.find(|top| top.is_dir()) {
        Some(top) if split == Split::Train => top,
        _ => return Ok(None),
    };
    let others = [Split::Validation, Split::Test].into_iter();
    let stems = others.flat_map(|split| split.stems());
    let without = stems.map(|stem| path.join(stem)).collect();
    let folder = SplitFolder {
        path,
        table: None,
        without,
    };
    // A directory of nothing but tables is no folder of images.
    Ok(holds_images(&folder)?.then_some(folder))
}

fn displayed(paths: &[PathBuf]) -> Vec<String> {
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect()
}

/// Whether there is an image in a folder or in those inside it, or a table that names some.
fn holds_images(folder: &SplitFolder) -> Result<bool, DataError> {
    let mut pending = vec![folder.path.clone()];
    while let Some(folder_inside) = pending.pop() {
        if metadata_in(&folder_inside)?.is_some() {
            return Ok(true);
        }
        for name in visible(&folder_inside)? {
            match name.strip_suffix('/') {
                Some(inner) => {
                    let inner = folder_inside.join(inner);
                    if !folder.without.contains(&inner) {
                        pending.push(inner);
                    }
                }
                None if is_image(&name) => return Ok(true),
                None => {}
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "captioned_split_tests.rs"]
mod tests;
