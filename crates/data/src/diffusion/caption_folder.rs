//! Folders of images: with captions in files beside them, or in the table of metadata that the Hub calls an
//! image folder's.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::captioned_image::Unmeasured;
use super::captioned_table::read_captioned_table;
use super::error::DiffusionDataError;
use crate::config::DataConfig;
use crate::error::{DataError, quoted};
use crate::images::{ImageRow, ImageSource, is_image, visible};
use crate::row::Place;
use crate::unread_columns::ColumnTally;

/// How the files with the captions of an image end.
const CAPTION_ENDINGS: [&str; 2] = ["txt", "caption"];
/// The tables that name the images of a folder.
pub(super) const METADATA: [&str; 3] = ["metadata.jsonl", "metadata.csv", "metadata.parquet"];

/// Reads folders one in the other.
pub(super) struct CaptionFolders<'a> {
    config: &'a DataConfig,
    images: Vec<Unmeasured>,
    tally: ColumnTally,
    /// Files that are no images, and what else is not read.
    left_out: Vec<String>,
    /// Images without a caption.
    bare: Vec<PathBuf>,
}

/// What folders hold.
pub(super) struct FolderContent {
    pub images: Vec<Unmeasured>,
    pub tally: ColumnTally,
    pub notes: Vec<String>,
}

impl<'a> CaptionFolders<'a> {
    /// Reads all images in a folder and in those inside it, in the order of their names.
    ///
    /// - without: folders at the top that do not belong to it
    ///
    /// # Errors
    /// When an image has no caption, an empty one, or captions in two files, or a table of metadata is not
    /// as `config` says.
    pub fn read(
        config: &'a DataConfig,
        folder: &Path,
        without: &[PathBuf],
    ) -> Result<FolderContent, DataError> {
        let mut folders = Self {
            config,
            images: Vec::new(),
            tally: ColumnTally::default(),
            left_out: Vec::new(),
            bare: Vec::new(),
        };
        folders.walk(folder, without)?;
        if let [first, others @ ..] = folders.bare.as_slice() {
            let expected = CAPTION_ENDINGS.map(|ending| first.with_extension(ending));
            let names = expected.map(|path| file_name(&path));
            return Err(DiffusionDataError::NoCaptionFile {
                image: first.clone(),
                expected: names.join("` or `"),
                others: others.len(),
            }
            .into());
        }
        let mut notes = Vec::new();
        if !folders.left_out.is_empty() {
            notes.push(format!(
                "`{}`: {} files are left out, since they are no images, no captions of one, or not named \
                 in the metadata: {}",
                folder.display(),
                folders.left_out.len(),
                quoted(&folders.left_out),
            ));
        }
        Ok(FolderContent {
            images: folders.images,
            tally: folders.tally,
            notes,
        })
    }

    fn walk(&mut self, folder: &Path, without: &[PathBuf]) -> Result<(), DataError> {
        if let Some(table) = metadata_in(folder)? {
            return self.read_metadata(folder, &table, without);
        }
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        for name in visible(folder)? {
            match name.strip_suffix('/') {
                Some(inner) => folders.push(folder.join(inner)),
                None => files.push(name),
            }
        }
        let (images, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|name| is_image(name));
        let mut others: HashSet<PathBuf> =
            others.into_iter().map(|name| folder.join(name)).collect();
        let mut read = Vec::new();
        for name in images {
            let path = folder.join(name);
            let beside = CAPTION_ENDINGS.map(|ending| path.with_extension(ending));
            let beside: Vec<&PathBuf> = { beside.iter() }
                .filter(|file| others.contains(*file))
                .collect();
            match beside.as_slice() {
                [] => self.bare.push(path),
                [file] => {
                    let captions = captions_in(file)?;
                    read.push((*file).clone());
                    self.images.push((image_file(path), captions));
                }
                several => {
                    let files: Vec<String> = several.iter().map(|file| file_name(file)).collect();
                    return Err(DiffusionDataError::TwoCaptionFiles {
                        files: quoted(&files),
                        image: path,
                    }
                    .into());
                }
            }
        }
        for file in read {
            others.remove(&file);
        }
        let mut others: Vec<String> = others
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        others.sort();
        self.left_out.extend(others);
        for inner in folders {
            if !without.contains(&inner) {
                self.walk(&inner, without)?;
            }
        }
        Ok(())
    }

    fn read_metadata(
        &mut self,
        folder: &Path,
        table: &Path,
        without: &[PathBuf],
    ) -> Result<(), DataError> {
        let images = read_captioned_table(table, self.config, None, &mut self.tally)?;
        let is_inside = |path: &Path| !without.iter().any(|other| path.starts_with(other));
        let images: Vec<Unmeasured> = { images.into_iter() }
            .filter(|(image, _)| match &image.source {
                ImageSource::File(path) => is_inside(path),
                ImageSource::Bytes(_) => true,
            })
            .collect();
        let named: HashSet<&Path> = { images.iter() }
            .filter_map(|(image, _)| match &image.source {
                ImageSource::File(path) => Some(path.as_path()),
                ImageSource::Bytes(_) => None,
            })
            .collect();
        let mut pending = vec![folder.to_owned()];
        while let Some(folder) = pending.pop() {
            for name in visible(&folder)? {
                match name.strip_suffix('/') {
                    Some(inner) => {
                        let inner = folder.join(inner);
                        if is_inside(&inner) {
                            pending.push(inner);
                        }
                    }
                    None => {
                        let path = folder.join(&name);
                        if is_image(&name) && !named.contains(path.as_path()) {
                            self.left_out.push(path.display().to_string());
                        }
                    }
                }
            }
        }
        self.images.extend(images);
        Ok(())
    }
}

/// The table of a folder's metadata, if there is one.
///
/// # Errors
/// When there are two.
pub(super) fn metadata_in(folder: &Path) -> Result<Option<PathBuf>, DataError> {
    let tables = METADATA.map(|name| folder.join(name)).into_iter();
    let mut tables: Vec<PathBuf> = tables.filter(|path| path.is_file()).collect();
    if tables.len() > 1 {
        let files: Vec<String> = tables.iter().map(|path| file_name(path)).collect();
        return Err(DiffusionDataError::TwoTablesOfMetadata {
            dir: folder.to_owned(),
            files: quoted(&files),
        }
        .into());
    }
    Ok(tables.pop())
}

/// The image of a file, which is its own place.
pub(super) fn image_file(path: PathBuf) -> ImageRow {
    ImageRow {
        place: Place {
            file: path.as_path().into(),
            line: 0,
        },
        source: ImageSource::File(path),
        label: None,
    }
}

/// A caption a line, as kohya's scripts read them.
fn captions_in(file: &Path) -> Result<Vec<String>, DataError> {
    let content = fs::read_to_string(file).map_err(|source| DataError::Io {
        path: file.to_owned(),
        source,
    })?;
    let content = content.trim_start_matches('\u{feff}');
    let lines = content.lines().map(str::trim);
    let captions: Vec<String> = { lines }
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    match captions.is_empty() {
        true => Err(DiffusionDataError::EmptyCaptionFile {
            path: file.to_owned(),
        }
        .into()),
        false => Ok(captions),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
