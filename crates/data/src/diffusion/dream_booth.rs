//! The images of one subject with its prompt, and those of its class that keep a model from forgetting what
//! others of the class look like (DreamBooth, Ruiz et al. 2023, section 3.2).

use std::path::{Path, PathBuf};

use super::caption_folder::image_file;
use super::captioned_image::{CaptionedImage, measured};
use super::captioned_table::read_captioned_table;
use super::error::DiffusionDataError;
use super::image_names::{NameProblem, names_of_instances};
use crate::config::DataConfig;
use crate::error::{DataError, quoted};
use crate::file_selection::FilePatterns;
use crate::images::{ImageRow, is_image, listed_endings, visible};
use crate::split::Split;
use crate::split_files::{FileTree, SplitFiles, find_split};
use crate::unread_columns::ColumnTally;

/// As many class images as diffusers generates if nothing is said.
const CLASS_COUNT: usize = 100;

/// A subject and its class.
#[derive(Clone, Debug, PartialEq)]
pub struct DreamBooth {
    /// The subject's images, each with the prompt of all.
    pub instances: Vec<CaptionedImage>,
    /// None without prior preservation.
    pub class: Option<ClassImages>,
    pub notes: Vec<String>,
}

/// The images of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassImages {
    pub prompt: String,
    /// Where they are, and where those that are missing may be put; it need not exist.
    pub dir: Option<PathBuf>,
    /// Those that are there, each with the prompt of all; `data.class_count` at most.
    pub images: Vec<CaptionedImage>,
    /// How many are to be generated.
    pub missing: usize,
}

impl DataConfig {
    /// The names, folders and patterns of `data.instance_images`.
    pub(crate) fn instance_names(&self) -> Option<&[String]> {
        Some(match self.instance_images.as_ref()? {
            FilePatterns::One(name) => std::slice::from_ref(name),
            FilePatterns::Many(names) => names,
        })
    }
}

/// Reads the images of a subject and of its class, without captions.
///
/// `data.path` is a folder of the subject's images, an image, or data with a training split, of which the
/// captions are not read; with `data.instance_images` it is the folder that these names are relative to.
///
/// # Errors
/// When a prompt or all images of the subject are missing, keys of a class are set without its prompt, or
/// an image's header cannot be read.
pub fn read_dream_booth(config: &DataConfig) -> Result<DreamBooth, DataError> {
    let prompt = config.instance_prompt.as_deref();
    let prompt = prompt.ok_or(DiffusionDataError::Missing {
        key: "instance_prompt",
        reason: "it is what the subject is called, such as \"a photo of sks dog\"",
    })?;
    let prompt = filled("instance_prompt", prompt)?;
    let mut notes = Vec::new();
    let instances = instances(config, prompt, &mut notes)?;
    let instances = instances
        .into_iter()
        .map(|row| (row, vec![prompt.to_owned()]));
    Ok(DreamBooth {
        instances: measured(instances.collect(), config, &mut notes)?,
        class: class_images(config, &mut notes)?,
        notes,
    })
}

fn filled<'a>(key: &'static str, prompt: &'a str) -> Result<&'a str, DiffusionDataError> {
    match prompt.trim().is_empty() {
        true => Err(DiffusionDataError::EmptyPrompt { key }),
        false => Ok(prompt),
    }
}

fn instances(
    config: &DataConfig,
    prompt: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<ImageRow>, DataError> {
    let dir = config.directory();
    if dir.is_file() && config.instance_images.is_none() {
        return Ok(vec![image_file(dir.to_owned())]);
    }
    if config.instance_images.is_none()
        && let Some(rows) = instances_of_tables(dir, config, prompt)?
    {
        return Ok(rows);
    }
    let wanted = config.instance_names();
    let names = match wanted {
        Some(_) => FileTree::Directory(dir).all()?,
        None => visible(dir)?.filter(|name| !name.ends_with('/')).collect(),
    };
    let found = names_of_instances(&names, wanted).map_err(|problem| match problem {
        NameProblem::Pattern(error) => error,
        NameProblem::Nothing(name) => DiffusionDataError::NoSuchImage {
            dir: dir.to_owned(),
            name,
            found: quoted(&names),
        },
    })?;
    if found.is_empty() {
        return Err(DiffusionDataError::NoImages {
            dir: dir.to_owned(),
            endings: listed_endings(),
        }
        .into());
    }
    if wanted.is_none() {
        note_left_out(dir, notes)?;
    }
    Ok(found
        .into_iter()
        .map(|name| image_file(dir.join(name)))
        .collect())
}

/// The images that the tables of a training split have, if there is one.
fn instances_of_tables(
    dir: &Path,
    config: &DataConfig,
    prompt: &str,
) -> Result<Option<Vec<ImageRow>>, DataError> {
    let files = match find_split(dir, Split::Train, config) {
        Ok(SplitFiles { files, .. }) => files,
        Err(DataError::MissingSplit { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut rows = Vec::new();
    for table in &files {
        let images =
            read_captioned_table(table, config, Some(prompt), &mut ColumnTally::default())?;
        rows.extend(images.into_iter().map(|(image, _)| image));
    }
    match rows.is_empty() {
        true => {
            let files: Vec<String> = files
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Err(DataError::EmptySplit {
                split: Split::Train,
                files: quoted(&files),
            })
        }
        false => Ok(Some(rows)),
    }
}

/// Says which files of a folder are no images: captions beside them are not read.
fn note_left_out(dir: &Path, notes: &mut Vec<String>) -> Result<(), DataError> {
    let left_out: Vec<String> = visible(dir)?.filter(|name| !is_image(name)).collect();
    if !left_out.is_empty() {
        notes.push(format!(
            "`{}`: {} left out, expected images alone, which all have the same prompt: {}",
            dir.display(),
            left_out.len(),
            quoted(&left_out),
        ));
    }
    Ok(())
}

fn class_images(
    config: &DataConfig,
    notes: &mut Vec<String>,
) -> Result<Option<ClassImages>, DataError> {
    let Some(prompt) = config.class_prompt.as_deref() else {
        let set = [
            ("class_images", config.class_images.is_some()),
            ("class_count", config.class_count.is_some()),
        ];
        return match set.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(DiffusionDataError::WithoutClass { key }.into()),
            None => Ok(None),
        };
    };
    let prompt = filled("class_prompt", prompt)?;
    let count = config.class_count.map_or(CLASS_COUNT, |count| count.get());
    let mut files = Vec::new();
    if let Some(dir) = config.class_images.as_ref().filter(|dir| dir.exists()) {
        if !dir.is_dir() {
            let path = dir.clone();
            return Err(DiffusionDataError::ClassIsNoFolder { path }.into());
        }
        let names = visible(dir)?.filter(|name| is_image(name));
        files.extend(names.map(|name| dir.join(name)));
        note_left_out(dir, notes)?;
        if files.len() > count {
            notes.push(format!(
                "`{}` has {} images, of which data.class_count = {count} are used",
                dir.display(),
                files.len(),
            ));
            files.truncate(count);
        }
    }
    let rows = files
        .into_iter()
        .map(|path| (image_file(path), vec![prompt.to_owned()]));
    let images = measured(rows.collect(), config, notes)?;
    Ok(Some(ClassImages {
        prompt: prompt.to_owned(),
        dir: config.class_images.clone(),
        missing: count - images.len(),
        images,
    }))
}

#[cfg(test)]
#[path = "dream_booth_tests.rs"]
mod tests;
